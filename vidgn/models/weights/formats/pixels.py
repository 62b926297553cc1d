"""The pixels a source's first convolution was trained on, and how it is adapted to vidgn's."""

from typing import NamedTuple

import torch
from torch import Tensor

Channels = tuple[float, float, float]  # red, green, blue


class Pixels(NamedTuple):
    """A source's input: its mean and std as fractions of 1, RGB; the order of its channels; its scale.

    `raw`: it takes pixels of 0..255 minus the mean, undivided, and `std` is what vidgn divides by.
    """

    mean: Channels
    std: Channels
    bgr: bool = False
    raw: bool = False


def convert_input(kernel: Tensor, pixels: Pixels) -> tuple[Tensor, str | None]:
    """Make a first kernel (O, 3, ...) take RGB pixels (x / 255 - mean) / std; give it and what was done.

    The mean needs no conversion: the caller subtracts the source's own. So the result is exact also at the
    picture's border, where padding stands for the mean.
    """
    done = []
    if pixels.bgr:
        kernel = kernel.flip(1)
        done.append("from BGR to RGB")
    if pixels.raw:
        scale = 255 * torch.tensor(pixels.std, dtype=kernel.dtype).view(3, *[1] * (kernel.dim() - 2))
        kernel = kernel * scale
        done.append(f"from pixels of 0..255 to such of std {', '.join(f'{value:g}' for value in pixels.std)}")
    return kernel, f"the first convolution was converted {' and '.join(done)}" if done else None
