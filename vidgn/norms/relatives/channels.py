"""What the norms of this folder share: a scale and a shift per channel, and moments in float32 at least."""

import torch
from torch import Tensor


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """View (C,) so that it meets the channels of x (N, C, ...), in the dtype of x."""
    return values.to(x.dtype).view([-1] + [1] * (x.dim() - 2))


def scale_and_shift(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return weight * x + bias for x (N, C, ...)."""
    return x * per_channel(weight, x) + per_channel(bias, x)


def at_least_float32(x: Tensor) -> Tensor:
    """Return x in float32 where it is half as wide."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def pixel_axes(x: Tensor) -> list[int]:
    """Return the axes of x (N, C, ...) behind the channels: T, H and W."""
    return list(range(2, x.dim()))


def batch_axes(x: Tensor) -> list[int]:
    """Return all axes of x (N, C, ...) but the channels."""
    return [0, *range(2, x.dim())]


def check_groups(num_groups: int, num_features: int) -> None:
    """Check that groups divide the channels.

    Raises:
        ValueError: they do not.
    """
    if num_groups < 1 or num_features % num_groups:
        divisors = ", ".join(str(d) for d in range(1, num_features + 1) if num_features % d == 0)
        raise ValueError(f"num_groups ({num_groups}) must divide num_features ({num_features}); use one of {divisors}.")
