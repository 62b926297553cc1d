"""Group norm (+ residual) (+ ReLU) as torch's own, differentiable operations, for any device and for compilers.

Eager torch runs them one by one; torch.compile fuses them, and export writes them down.
"""

# mypy: allow-untyped-calls

import torch
from torch import Tensor
from torch.nn import functional as F

from vidgn.norms.kernels_layout import is_channels_last, statistics_dtype


def group_norm_act(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, residual: Tensor | None, relu: bool
) -> Tensor:
    """Compute what the kernels compute: float32 inside (float64 for float64), rounded once at the end."""
    exact = statistics_dtype(x)
    with torch.autocast(x.device.type, enabled=False):
        if x.device.type == "cpu" and is_channels_last(x):
            y = _by_channel(x, weight.to(exact), bias.to(exact), groups, eps)
        else:
            y = F.group_norm(x.to(exact), groups, weight.to(exact), bias.to(exact), eps)
        if residual is not None:
            y = y + residual
        return (y.relu() if relu else y).to(x.dtype)


def _by_channel(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
    # One moment per channel first: the inner loop then runs over channels, which lie side by side in memory.
    axes = tuple(range(2, x.dim()))
    wide = x.to(weight.dtype)
    variances, means = torch.var_mean(wide, axes, correction=0)  # (N, C)
    means, variances = (t.unflatten(1, (groups, -1)) for t in (means, variances))
    mean = means.mean(2, keepdim=True)
    var = variances.mean(2, keepdim=True) + (means - mean).square().mean(2, keepdim=True)
    gain = (var + eps).rsqrt() * weight.view(groups, -1)  # (N, G, C/G)
    shift = bias.view(groups, -1) - mean * gain
    shape = (*x.shape[:2], *(1 for _ in axes))
    return torch.addcmul(shift.reshape(shape), wide, gain.reshape(shape))
