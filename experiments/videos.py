"""Harder motions, drawn in seconds and kept in memory: noise, few videos, and motions too fast for 32 frames.

The twelve motions of `vidgn.data.synthetic.motions` and four more, in which the layer shivers along one axis:

    class                 cycles per frame     seen at every second frame
    --------------------  -------------------  --------------------------
    shiver_slowly_*       f in 0.14 .. 0.23    2f
    shiver_quickly_*      0.5 - f              1 - 2f, which looks the same: 32 frames of 64 cannot tell them apart
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidgn.data.synthetic.drawing import Trajectory
from vidgn.data.synthetic.motions import CLASSES as MOTIONS
from vidgn.data.synthetic.motions import draw_trajectory, render_trajectory, write_video

SHIVERS = tuple(f"shiver_{pace}_{axis}" for pace in ("quickly", "slowly") for axis in ("horizontally", "vertically"))
CLASSES = (*MOTIONS, *SHIVERS)
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class VideoSpec:
    """What decides the pixels.

    Attributes:
        classes: names, index = label.
        train: videos per class to learn from.
        val: videos per class for the error during training.
        test: videos per class for the test.
        num_frames: per video.
        side: height and width in pixels.
        contrast: what differences from the mid grey are multiplied by.
        noise: standard deviation of what is added to each value of each frame, in grey levels.
    """

    classes: tuple[str, ...] = CLASSES
    train: int = 20
    val: int = 10
    test: int = 30
    num_frames: int = 96
    side: int = 36
    contrast: float = 0.6
    noise: float = 30.0


class Videos(NamedTuple):
    """The videos of one split."""

    pixels: Tensor  # (V, 3, F, side, side) uint8
    labels: Tensor  # (V,) int64


def make_videos(spec: VideoSpec, *, seed: int, split: Split) -> Videos:
    """Draw a split; equal arguments give equal pixels, and no two seeds or splits share a video."""
    per_class = {"train": spec.train, "val": spec.val, "test": spec.test}[split]
    labels = torch.arange(len(spec.classes)).repeat_interleave(per_class)
    pixels = torch.empty(len(labels), 3, spec.num_frames, spec.side, spec.side, dtype=torch.uint8)
    for number, label in enumerate(labels.tolist()):
        video = draw_video(spec.classes[label], spec=spec, key=(seed, SPLITS.index(split), number))
        pixels[number] = torch.from_numpy(video).permute(3, 0, 1, 2)
    return Videos(pixels, labels)


def draw_video(label: str, *, spec: VideoSpec, key: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Draw one video, (F, side, side, 3) uint8 RGB, a function of `spec` and `key` = (seed, split, number)."""
    rng = np.random.Generator(np.random.Philox(key=[key[0], 0x68617264], counter=[0, 0, key[1], key[2]]))
    draw = draw_shiver if label in SHIVERS else draw_trajectory
    clean = render_trajectory(rng, draw(rng, label, spec.num_frames), side=spec.side)
    noise = rng.standard_normal(clean.shape, dtype=np.float32) * np.float32(spec.noise)
    faded = (clean.astype(np.float32) - 128) * np.float32(spec.contrast) + 128 + noise
    return np.clip(np.rint(faded), 0, 255).astype(np.uint8)


def draw_shiver(rng: np.random.Generator, label: str, num_frames: int) -> Trajectory:
    """Draw the poses of a layer that swings along one axis within a few frames."""
    _, pace, axis = label.split("_")
    time = np.arange(num_frames)
    x, y, angle, level, phase = (value + 0.0 * time for value in rng.random(5))
    slow = rng.uniform(0.14, 0.23)
    frequency = slow if pace == "slowly" else 0.5 - slow  # cycles per frame
    swing = rng.uniform(0.06, 0.1) * np.sin(2 * np.pi * (phase + frequency * time))
    x, y = (x + swing, y) if axis == "horizontally" else (x, y + swing)
    return Trajectory(x, y, 2 * np.pi * angle, 0.6 * (1.5 / 0.6) ** level)


def cached(path: Path, make: Callable[[], Videos]) -> Videos:
    """Read what `make` gave before, or make it and keep it; whole or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        torch.save(tuple(make()), part)
        os.replace(part, path)
    return Videos(*torch.load(path, weights_only=True, mmap=True))


def write_missing(file: Path, draw: Callable[[], NDArray[np.uint8]]) -> None:
    """Write the frames (F, H, W, 3) that `draw` gives as a video, with its folder, unless the file is there."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_video(file, draw())
