"""One operation, normalize + affine + addition + ReLU, and its back ends: torch, CPU loops, Triton."""

from vidgn.norms.kernels.operation import group_norm_act, uses_triton

__all__ = ["group_norm_act", "uses_triton"]
