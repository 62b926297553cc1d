"""Normalization layers over (T, H, W): group normalization and its relatives."""

from vidgn.norms.convert import convert_norm
from vidgn.norms.layers import NORMS, GroupNorm3d, NormFactory, finish_net, is_norm, make_norm

__all__ = ["NORMS", "GroupNorm3d", "NormFactory", "convert_norm", "finish_net", "is_norm", "make_norm"]
