"""Normalization layers over (T, H, W): group normalization and its relatives."""

from vidgn.norms.layers import NORMS, GroupNorm3d, NormFactory, finish_net, is_norm, make_norm

__all__ = ["NORMS", "GroupNorm3d", "NormFactory", "finish_net", "is_norm", "make_norm"]
