"""From draws to the augmentation of one clip: which frames, which part of them, which pixels.

draws   0..49 resized crop   50 51 speed, reverse   52..63 operations   64..69 colours   70..76 light
        77 grayscale   80..89 erasing   90..153 mixing (`vidgn.data.augment.mixing`)
"""

import math
from collections.abc import Sequence
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidgn.data.augment import pixels
from vidgn.data.augment.spec import AugmentSpec
from vidgn.data.clips import train_start
from vidgn.data.transforms import Box, CropSpec, TrainView

_ATTEMPTS = 10  # at a crop that fits, five draws each; then comes the largest square in the middle
_SIDES = (3 / 4, 4 / 3)
_ORDERS = tuple(permutations((pixels.brightness, pixels.contrast, pixels.saturation)))
# fb.resnet.torch datasets/imagenet.lua: eigenvalues and, in columns, eigenvectors of ImageNet's colours, 0..1.
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
_EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
_ERASED = (0.02, 1 / 3)  # share of the pixels of a frame, as the paper has it
_ERASED_SIDES = (0.3, 1 / 0.3)
Draws = NDArray[np.float64]


def augmented_indices(
    draws: Draws, spec: AugmentSpec, *, num_frames: int, clip_len: int, span: int, start: float
) -> NDArray[np.int64]:
    """Return the frames of a clip, (T,), at another speed or backwards.

    Args:
        draws: of the clip.
        spec: the augmentations.
        num_frames: frames of the video.
        clip_len: T.
        span: raw frames that a clip covers at its own speed.
        start: a draw in [0, 1) for where the clip begins.
    """
    covered = max(clip_len, round(span * (1 + spec.speed_jitter * (2 * float(draws[50]) - 1))))
    first = train_start(num_frames, span=covered, uniform=start)
    steps = np.arange(clip_len, dtype=np.int64) * covered // clip_len
    indices: NDArray[np.int64] = (first + steps) % num_frames
    return indices[::-1].copy() if draws[51] < spec.reverse else indices


def augmented_view(
    draws: Draws, spec: AugmentSpec, *, height: int, width: int, crop: CropSpec, flip: bool
) -> TrainView:
    """Return a crop of random area and sides ("Going Deeper with Convolutions", sec. 6), scaled to the crop's side."""
    box = _draw_box(draws, height=height, width=width, min_area=spec.resized_crop)
    side = crop.crop
    size = (max(1, round(height * side / box.height)), max(1, round(width * side / box.width)))
    top, left = round(box.top * side / box.height), round(box.left * side / box.width)
    return TrainView(size, Box(min(top, size[0] - side), min(left, size[1] - side), side, side), flip)


def augment_clip(clip: Tensor, draws: Draws, spec: AugmentSpec) -> Tensor:
    """Change the pixels of a clip, uint8 (3,T,S,S)."""
    if spec.randaugment:
        for number in (0, 1):
            operation, sign = draws[52 + 2 * number : 54 + 2 * number]
            clip = _operate(clip, operation, spec.randaugment / 10, sign, wide=False)
    if spec.trivialaugment:
        clip = _operate(clip, draws[56], float(draws[57]), draws[58], wide=True)
    if spec.color_jitter:
        factors = {change: 1 + spec.color_jitter * (2 * float(draw) - 1) for change, draw in _paired(draws[64:67])}
        for change in _ORDERS[int(draws[67] * len(_ORDERS))]:
            clip = change(clip, factors[change])
    if spec.lighting:
        clip = pixels.light(clip, _light(draws[70:76], spec.lighting))
    if draws[77] < spec.grayscale:
        clip = pixels.grayscale(clip)
    if draws[80] < spec.erasing:
        clip = _erase(clip, draws[81:90])
    return clip


def _operate(clip: Tensor, operation: float, magnitude: float, sign: float, *, wide: bool) -> Tensor:
    name = pixels.OPERATIONS[int(operation * len(pixels.OPERATIONS))]
    return pixels.operate(clip, name, magnitude, 1.0 if sign < 0.5 else -1.0, wide=wide)


def _paired(draws: Draws) -> Sequence[tuple[object, float]]:
    return list(zip(_ORDERS[0], draws.tolist(), strict=True))


def _draw_box(draws: Draws, *, height: int, width: int, min_area: float) -> Box:
    """Return the first crop drawn that fits, else the largest square in the middle."""
    for attempt in range(_ATTEMPTS):
        area, sides, _, top, left = (float(draw) for draw in draws[5 * attempt : 5 * attempt + 5])
        pixels_shown = (min_area + (1 - min_area) * area) * height * width
        ratio = math.exp(math.log(_SIDES[0]) + (math.log(_SIDES[1]) - math.log(_SIDES[0])) * sides)
        rows = max(1, round(math.sqrt(pixels_shown / ratio)))
        columns = max(1, round(math.sqrt(pixels_shown * ratio)))
        if rows <= height and columns <= width:
            return Box(int(top * (height - rows + 1)), int(left * (width - columns + 1)), rows, columns)
    side = min(height, width)
    return Box((height - side + 1) // 2, (width - side + 1) // 2, side, side)


def _light(draws: Draws, deviation: float) -> tuple[float, float, float]:
    """Return what is added to R, G and B: normal numbers (Box and Muller) along the principal components."""
    normal = np.sqrt(-2 * np.log1p(-draws[:3])) * np.cos(2 * np.pi * draws[3:6])
    red, green, blue = (255 * (_EIGENVECTORS * (deviation * normal) * _EIGENVALUES).sum(1)).tolist()
    return red, green, blue


def _erase(clip: Tensor, draws: Draws) -> Tensor:
    """Fill a cuboid with noise; it covers some of the frames, and 2 to 33 % of each."""
    frames, height, width = clip.shape[1:]
    area, sides, top, left, length, first, noise = (float(draw) for draw in draws[:7])
    shown = (_ERASED[0] + (_ERASED[1] - _ERASED[0]) * area) * height * width
    ratio = math.exp(math.log(_ERASED_SIDES[0]) + 2 * math.log(_ERASED_SIDES[1]) * sides)
    rows, columns = min(height, round(math.sqrt(shown / ratio))), min(width, round(math.sqrt(shown * ratio)))
    count = 1 + int(length * frames)
    rooms = ((first, frames - count), (top, height - rows), (left, width - columns))
    t, y, x = (int(draw * (room + 1)) for draw, room in rooms)
    generator = torch.Generator().manual_seed(int(noise * 2**53))
    clip = clip.clone()
    clip[:, t : t + count, y : y + rows, x : x + columns] = torch.randint(
        0, 256, (3, count, rows, columns), dtype=torch.uint8, generator=generator
    )
    return clip
