"""Drawn images with discs, squares and triangles: a data set for task=detect that needs no files.

An image is a function of (seed, split, index). Later shapes cover earlier ones; masks show what is visible.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vidgn.data.clips import random_draws
from vidgn.detection.data.images import Annotated

SHAPES = ("disc", "square", "triangle")
SIDE = 64  # px
_STREAMS = {"train": 1, "val": 2, "test": 3}
_MOST = 3  # shapes of an image
_DRAWS = 10 + 8 * _MOST
_LEAST_VISIBLE = 0.4  # share of a shape; one that is hidden further is not counted as an object


class DrawnShapes:
    """A split of the drawn data set.

    Args:
        split: train, val or test.
        size: images.
        seed: of the drawing.

    Raises:
        ValueError: `size` is below 1.

    >>> DrawnShapes("train", size=4, seed=0)[0].image.shape
    torch.Size([3, 64, 64])
    """

    classes: tuple[str, ...] = SHAPES

    def __init__(self, split: Literal["train", "val", "test"], *, size: int, seed: int) -> None:
        if size < 1:
            raise ValueError(f"data.{split} ({size}) must be at least 1 image.")
        self.split = split
        self.size = size
        self.seed = seed

    def __len__(self) -> int:
        return self.size

    def name(self, index: int) -> str:
        """Return the name of an image."""
        return f"{self.split}/{index:05d}"

    def __getitem__(self, index: int) -> Annotated:
        """Draw an image."""
        stream = _STREAMS[self.split]
        draws = random_draws(self.seed, epoch=stream, video=index, view=0, count=_DRAWS + 3 * SIDE * SIDE)
        image = _background(draws[:10], draws[_DRAWS:])
        masks: list[NDArray[np.bool_]] = []
        kinds: list[int] = []
        for number in range(1 + int(draws[9] * _MOST)):
            kind, mask, colour = _shape(draws[10 + 8 * number : 18 + 8 * number])
            image[mask] = colour + 24 * (image[mask] - image[mask].mean(0)) / 255
            masks = [*(other & ~mask for other in masks), mask]
            kinds.append(kind)
        whole = [_shape(draws[10 + 8 * number : 18 + 8 * number])[1].sum() for number in range(len(masks))]
        seen = [k for k, mask in enumerate(masks) if mask.sum() >= max(1, _LEAST_VISIBLE * whole[k])]
        pixels = torch.from_numpy(np.clip(np.rint(image), 0, 255).astype(np.uint8).transpose(2, 0, 1).copy())
        kept = np.stack([masks[k] for k in seen]).astype(np.uint8)
        return Annotated(
            self.name(index),
            pixels,
            boxes_of(torch.from_numpy(kept)),
            torch.tensor([1 + kinds[k] for k in seen]),
            torch.from_numpy(kept),
            torch.zeros(len(seen), dtype=torch.int64),
            torch.tensor(kept.sum((1, 2)), dtype=torch.float32),
        )


def boxes_of(masks: torch.Tensor) -> torch.Tensor:
    """Return the boxes (N,4) around masks (N,H,W) that are not empty.

    >>> boxes_of(torch.tensor([[[0, 1, 1], [0, 0, 0]]])).tolist()
    [[1.0, 0.0, 3.0, 1.0]]
    """
    boxes = []
    for mask in masks:
        rows, columns = torch.where(mask > 0)
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def _background(draws: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a slope between two dim colours with noise, (H,W,3) in 0..255."""
    first, second = 40 + 90 * draws[:3], 40 + 90 * draws[3:6]
    angle = 2 * np.pi * draws[6]
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1) - 0.5
    share = np.clip(0.5 + x * np.cos(angle) + y * np.sin(angle), 0, 1)[..., None]
    grain: NDArray[np.float64] = (noise.reshape(SIDE, SIDE, 3) - 0.5) * (10 + 30 * draws[7])
    image: NDArray[np.float64] = first * (1 - share) + second * share + grain
    return image


def _shape(draws: NDArray[np.float64]) -> tuple[int, NDArray[np.bool_], NDArray[np.float64]]:
    """Return kind, mask (H,W) and colour of a shape."""
    kind, radius = int(draws[0] * len(SHAPES)), 6 + 9 * draws[1]
    cx, cy = radius + (SIDE - 2 * radius) * draws[2:4]
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    x, y = x - cx, y - cy
    if kind == 0:
        mask = x * x + y * y <= radius * radius
    elif kind == 1:
        mask = np.maximum(abs(x), abs(y)) <= 0.85 * radius
    else:  # upright: the base below
        mask = (y <= 0.7 * radius) & (y >= -radius + 2 * abs(x) * 0.85)
    return kind, mask, 60 + 195 * draws[4:7]
