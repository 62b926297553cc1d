"""Group norm (+ residual) (+ ReLU) as torch's operations, for any device and for compilers.

Eager torch runs them one by one; torch.compile fuses them, and export writes them down.
"""

# mypy: allow-untyped-calls

import torch
from torch import Tensor
from torch.nn import functional as F

from vidgn.norms.kernels.layout import is_channels_last, statistics_dtype
from vidgn.norms.kernels.torch_ops import channels_last_norm


def reference_group_norm_act(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, residual: Tensor | None, relu: bool
) -> Tensor:
    """Compute what the kernels compute: float32 inside (float64 for float64), rounded once at the end."""
    exact = statistics_dtype(x)
    with torch.autocast(x.device.type, enabled=False):
        if x.device.type == "cpu" and is_channels_last(x) and x.dim() == 5:
            return channels_last_norm(x, weight.to(exact), bias.to(exact), residual, groups, eps, relu)
        y = F.group_norm(x.to(exact), groups, weight.to(exact), bias.to(exact), eps)
        if residual is not None:
            y = y + residual
        return (y.relu() if relu else y).to(x.dtype)
