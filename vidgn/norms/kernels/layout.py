"""The two memory layouts the kernels know, on tensors (N, C, ...): contiguous and channels-last."""

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Tell whether C is innermost and everything dense; for any number of axes, unlike torch's formats."""
    if x.dim() == 5:
        return x.is_contiguous(memory_format=torch.channels_last_3d) and not x.is_contiguous()
    return not x.is_contiguous() and x.movedim(1, -1).is_contiguous()


def channels_last(x: Tensor) -> Tensor:
    """Return x with C innermost: x itself if it is so, else a copy."""
    if x.dim() == 5:
        return x.contiguous(memory_format=torch.channels_last_3d)
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def densify(x: Tensor) -> Tensor:
    """Return x if it is dense in one of the two layouts, else a copy in the one it is nearer to."""
    if x.is_contiguous() or is_channels_last(x):
        return x
    if x.stride(1) == 1:
        return channels_last(x)
    return x.contiguous()


def match_layout(x: Tensor, like: Tensor) -> Tensor:
    """Return x, or a copy of it, with the layout of `like`, which is dense and has the shape of x."""
    if is_channels_last(like):
        return channels_last(x)
    return x.contiguous()


def statistics_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of the statistics of x: float32, or float64 for float64."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32
