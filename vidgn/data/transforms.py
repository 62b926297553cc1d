"""Resize, crop and flip on uint8 frames; normalize on the device.

    training   (T,H,W,3) -> short side uniform integer in [256,320] -> random 224 crop -> flip   (3,T,224,224)
               done as: cut the crop out of the stored pixels -> resize to 224 -> flip
    testing    (T,H,W,3) -> short side 256 -> three 256 crops along the longer side, one, or the full frame

The sizes scale with `CropSpec.crop`. Draws are floats in [0,1) that the caller makes; these
functions are pure.
Source: video-nonlocal-net, caffe2_customized_ops/video/customized_video_io.cc:525-640.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

NumCrops = Literal[1, 3, "full"]


@dataclass(frozen=True)
class CropSpec:
    """Sizes in pixels, all in the paper's proportion to the side of the training crop.

    Attributes:
        crop: Side of the training crop.
    """

    crop: int = 224

    def __post_init__(self) -> None:
        if self.crop < 1:
            raise ValueError(f"crop ({self.crop}) must be a positive number of pixels; the paper's is 224.")

    @property
    def short_sides(self) -> tuple[int, int]:
        """Smallest and largest short side in training, [256, 320] for a crop of 224."""
        return _round_ratio(self.crop, 256, 224), _round_ratio(self.crop, 320, 224)

    @property
    def test_side(self) -> int:
        """Short side and crop in testing, 256 for a crop of 224."""
        return _round_ratio(self.crop, 256, 224)


class Box(NamedTuple):
    """A rectangle of a frame in pixels."""

    top: int
    left: int
    height: int
    width: int


class TrainView(NamedTuple):
    """What happens to each frame of a training clip: resize to `size` (height, width), cut `box`, mirror."""

    size: tuple[int, int]
    box: Box
    flip: bool


def draw_train_view(
    draws: Sequence[float] | NDArray[np.float64], *, height: int, width: int, spec: CropSpec, flip: bool
) -> TrainView:
    """Choose the view of a training clip from four draws in [0,1): short side, top, left, mirror.

    Short side and offsets are uniform integers, ends included; a clip is mirrored with probability 1/2 if
    `flip`.
    """
    low, high = spec.short_sides
    size = scaled_size(height, width, short_side=low + int(draws[0] * (high - low + 1)))
    top = int(draws[1] * (size[0] - spec.crop + 1))
    left = int(draws[2] * (size[1] - spec.crop + 1))
    return TrainView(size, Box(top, left, spec.crop, spec.crop), flip and bool(draws[3] < 0.5))


def source_box(view: TrainView, *, height: int, width: int) -> Box:
    """Return the pixels of the stored frame (height, width) that a view shows.

    Each edge is rounded to a whole pixel, halves up, so that only these pixels are copied and resized: no point of
    the clip lies more than half a stored pixel from where resizing the whole frame first would put it.
    """
    top, bottom = _source_edges(view.box.top, view.box.height, numerator=height, denominator=view.size[0])
    left, right = _source_edges(view.box.left, view.box.width, numerator=width, denominator=view.size[1])
    return Box(top, left, bottom - top, right - left)


def apply_train_view(frames: NDArray[np.uint8] | Tensor, view: TrainView) -> Tensor:
    """Turn uint8 (T,H,W,3) into uint8 (3,T,S,S), the same for every frame; the result may lie strided in memory."""
    top, left, height, width = source_box(view, height=frames.shape[1], width=frames.shape[2])
    return resize_cut(frames[:, top : top + height, left : left + width], view)


def resize_cut(cut: NDArray[np.uint8] | Tensor, view: TrainView) -> Tensor:
    """Turn the `source_box` of frames, uint8 (T,h,w,3), into uint8 (3,T,S,S): resize and mirror."""
    scaled = resize(cut, size=(view.box.height, view.box.width)).permute(1, 2, 3, 0)  # (T,S,S,3), as it lies in memory
    return (scaled.flip(2) if view.flip else scaled).permute(3, 0, 1, 2)


def scaled_size(height: int, width: int, *, short_side: int) -> tuple[int, int]:
    """Return (height, width) with exactly this short side; the long side is rounded, halves up.

    The original truncates both, which makes 255 of 256 for 125 of the heights 120..1099 (float32 rounding).
    """
    if height <= width:
        return short_side, _round_ratio(width, short_side, height)
    return _round_ratio(height, short_side, width), short_side


def resize(frames: NDArray[np.uint8] | Tensor, *, size: tuple[int, int]) -> Tensor:
    """Scale uint8 (T,H,W,3) to uint8 (3,T,h,w), bilinear and antialiased.

    The original calls cv::resize, which does not antialias, on videos that FFmpeg's (antialiasing) scaler had
    brought to height 256 beforehand, so that it enlarges by 1 to 1.25 and never shrinks. Enlarging is the
    same with and without antialias; on files that were not prepared, shrinking with it is what the original
    did in two steps.
    """
    pixels = torch.as_tensor(frames)
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3:
        raise ValueError(f"frames must be uint8 (T,H,W,3), but are {pixels.dtype} {tuple(pixels.shape)}.")
    scaled: Tensor = F.resize(pixels.permute(0, 3, 1, 2), list(size), antialias=True)  # (T,3,h,w)
    return scaled.transpose(0, 1)


def crop(frames: Tensor, box: Box) -> Tensor:
    """Cut a rectangle out of (..., H, W); a view, nothing is copied."""
    top, left, height, width = box
    return frames[..., top : top + height, left : left + width]


def test_boxes(height: int, width: int, *, side: int, num_crops: NumCrops) -> tuple[Box, ...]:
    """Return the test crops of frames whose short side is `side`.

    Three lie at 0, 1 and 2 times int((longer - side) / 2) along the longer side, one is the middle of them
    (customized_video_io.cc:525-532); `full` is the whole frame.

    Raises:
        ValueError: `num_crops` is not 1, 3 or "full", or a frame is smaller than the crop.
    """
    if num_crops not in (1, 3, "full"):
        raise ValueError(f"num_crops ({num_crops!r}) must be 1, 3 or 'full'.")
    if num_crops == "full":
        return (Box(0, 0, height, width),)
    if min(height, width) < side:
        raise ValueError(f"a crop of {side} px does not fit into {height} x {width}; resize the short side to {side}.")
    down, right = (height - side) // 2, (width - side) // 2
    steps = (1,) if num_crops == 1 else (0, 1, 2)
    return tuple(Box(step * down, step * right, side, side) for step in steps)


class Normalize(nn.Module):
    """uint8 (N,3,T,H,W) in 0..255 -> float32 (x/255 - mean)/std, per channel."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, *, mean: Sequence[float] = (0.45, 0.45, 0.45), std: Sequence[float] = (0.225, 0.225, 0.225)
    ) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean {tuple(mean)} and std {tuple(std)} must be three numbers each, std positive.")
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(3, 1, 1, 1), persistent=False)

    def forward(self, clips: Tensor) -> Tensor:
        """Normalize; ValueError for anything but uint8 with three channels, which would pass twice unseen."""
        if clips.dtype != torch.uint8 or clips.ndim != 5 or clips.shape[1] != 3:
            raise ValueError(f"clips must be uint8 (N,3,T,H,W), but are {clips.dtype} {tuple(clips.shape)}.")
        return clips.to(torch.float32).div_(255).sub_(self.mean).div_(self.std)

    def extra_repr(self) -> str:
        """Show both in print(net)."""
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"


def _source_edges(first: int, length: int, *, numerator: int, denominator: int) -> tuple[int, int]:
    """Scale an interval to stored pixels; at least one is left."""
    begin = min(_round_ratio(first, numerator, denominator), numerator - 1)
    return begin, max(_round_ratio(first + length, numerator, denominator), begin + 1)


def _round_ratio(value: int, numerator: int, denominator: int) -> int:
    """Return value * numerator / denominator, rounded to an integer, halves up."""
    return (2 * value * numerator + denominator) // (2 * denominator)
