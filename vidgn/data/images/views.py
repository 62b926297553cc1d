"""What happens to a picture: numbers drawn from [0, 1) to a crop, its colours and its mirror image; no file is opened.

The augmentation of "Going Deeper with Convolutions" (arXiv 1409.4842) as fb.resnet.torch implements it, which
"Group Normalization" sec. 4.1 names:

    crop      8 % (`min_area`) to all of the area, sides 3/4 to 4/3, anywhere; bicubic      transforms.lua:131-164
    colours   brightness, contrast, saturation times 0.6 to 1.4, in random order            transforms.lua:206-286
    light     along the principal components of ImageNet's colours, deviation 0.1           transforms.lua:184-204
    mirror    every other picture                                                           transforms.lua:166-173
"""

import math
from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from vidgn.data.transforms import Box, crop, scaled_size

NUM_DRAWS = 64  # that `draw_picture_view` takes
_ATTEMPTS = 10  # at a crop that fits, five draws each; then comes the centre
_SIDES = (3 / 4, 4 / 3)
_JITTER = 0.4
_ORDERS = tuple(permutations(("brightness", "contrast", "saturation")))
_GREY = torch.tensor([0.299, 0.587, 0.114])
# fb.resnet.torch datasets/imagenet.lua: eigenvalues and, in columns, eigenvectors of ImageNet's colours, 0..1.
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
_EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
_LIGHT = 0.1


class PictureView(NamedTuple):
    """What happens to a training picture: cut `box`, resize, jitter the colours in order, add `light`, mirror."""

    box: Box
    colours: tuple[tuple[str, float], ...]
    light: tuple[float, float, float]  # added to R, G, B of 0..255
    flip: bool


def draw_picture_view(
    draws: Sequence[float] | NDArray[np.float64], *, height: int, width: int, flip: bool, min_area: float = 0.08
) -> PictureView:
    """Choose the view of a training picture of this size from `NUM_DRAWS` draws in [0, 1).

    `min_area` is the smallest part of the picture that a view shows, ImageNet's by default.
    """
    crops, rest = draws[: 5 * _ATTEMPTS], [float(draw) for draw in draws[5 * _ATTEMPTS : NUM_DRAWS]]
    factors = {name: 1 - _JITTER + 2 * _JITTER * draw for name, draw in zip(_ORDERS[0], rest[:3], strict=True)}
    order = _ORDERS[int(rest[3] * len(_ORDERS))]
    alpha = _LIGHT * np.array([_normal(rest[index], rest[index + 1]) for index in (4, 6, 8)])
    light = 255 * (_EIGENVECTORS * alpha * _EIGENVALUES).sum(1)
    red, green, blue = (float(value) for value in light)
    return PictureView(
        _draw_box(crops, height=height, width=width, min_area=min_area),
        tuple((name, factors[name]) for name in order),
        (red, green, blue),
        flip and rest[10] < 0.5,
    )


def apply_picture_view(picture: NDArray[np.uint8], view: PictureView, *, side: int) -> Tensor:
    """Turn uint8 (H,W,3) into uint8 (3,S,S)."""
    top, left, height, width = view.box
    pixels = _resize(picture[top : top + height, left : left + width], size=(side, side)).to(torch.float32)
    for name, factor in view.colours:
        pixels = _COLOURS[name](pixels, factor)
    pixels = pixels + torch.tensor(view.light, dtype=torch.float32).view(3, 1, 1)
    whole = pixels.round().clamp(0, 255).to(torch.uint8)
    return whole.flip(-1) if view.flip else whole


def centre_view(picture: NDArray[np.uint8], *, short_side: int, side: int) -> Tensor:
    """Scale the short side and cut the middle, as the test does: uint8 (H,W,3) to uint8 (3,S,S)."""
    size = scaled_size(*picture.shape[:2], short_side=short_side)
    top, left = (math.ceil((length - side) / 2) for length in size)
    return crop(_resize(picture, size=size), Box(top, left, side, side))


def _draw_box(draws: Sequence[float] | NDArray[np.float64], *, height: int, width: int, min_area: float) -> Box:
    """Return the first crop drawn that fits, else the largest square in the middle."""
    for attempt in range(_ATTEMPTS):
        area, sides, swap, top, left = (float(draw) for draw in draws[5 * attempt : 5 * attempt + 5])
        length = math.sqrt((min_area + (1 - min_area) * area) * height * width)
        ratio = _SIDES[0] + (_SIDES[1] - _SIDES[0]) * sides
        # Sides times and over the ratio, as the source has them: ratio squared is the ratio of the sides.
        box = [max(1, int(length / ratio + 0.5)), max(1, int(length * ratio + 0.5))]  # height, width
        if swap < 0.5:
            box.reverse()
        if box[0] <= height and box[1] <= width:
            return Box(int(top * (height - box[0] + 1)), int(left * (width - box[1] + 1)), box[0], box[1])
    side = min(height, width)
    return Box((height - side + 1) // 2, (width - side + 1) // 2, side, side)


def _resize(pixels: NDArray[np.uint8], *, size: tuple[int, int]) -> Tensor:
    """Scale (H,W,3) to (3,h,w): bicubic as the source, with antialias where it shrinks, which the source lacks."""
    channels = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
    scaled: Tensor = F.resize(channels, list(size), interpolation=InterpolationMode.BICUBIC, antialias=True)
    return scaled


def _brightness(pixels: Tensor, factor: float) -> Tensor:
    return pixels * factor


def _contrast(pixels: Tensor, factor: float) -> Tensor:
    return pixels * factor + (1 - factor) * _grey(pixels).mean()


def _saturation(pixels: Tensor, factor: float) -> Tensor:
    return pixels * factor + (1 - factor) * _grey(pixels)


def _grey(pixels: Tensor) -> Tensor:
    return (_GREY.view(3, 1, 1) * pixels).sum(0)


def _normal(one: float, other: float) -> float:
    """Turn two draws into one of the normal distribution (Box and Muller)."""
    return math.sqrt(-2 * math.log1p(-one)) * math.cos(2 * math.pi * other)


_COLOURS = {"brightness": _brightness, "contrast": _contrast, "saturation": _saturation}
