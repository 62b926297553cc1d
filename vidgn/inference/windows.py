"""Slide a window over a video of any length, holding one window of frames at a time.

raw frames   0 . . . . . . . . 64 . . . . . . . . 128 . . . . . 170
windows      [--- span = 64 --]
                      [--- span ---------]          stride = 32
                               ...      [--- the last one ends with the video --]
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidgn.data.clips import ClipSpec, frame_indices
from vidgn.data.readers.types import Reader
from vidgn.data.transforms import crop, resize, scaled_size, test_boxes


class Window(NamedTuple):
    """Frames start..end-1 of a video, of which `clip` holds every stride-th: uint8 (3, T, S, S)."""

    start: int
    end: int
    clip: Tensor


def window_starts(num_frames: int, *, span: int, stride: int) -> list[int]:
    """Return where windows begin: every `stride` frames, and one that ends with the video.

    >>> window_starts(170, span=64, stride=64)
    [0, 64, 106]
    >>> window_starts(10, span=64, stride=64)
    [0]

    Raises:
        ValueError: stride is less than 1.
    """
    if stride < 1:
        raise ValueError(f"--stride ({stride}) must be at least 1 frame; the span of a clip is {span}.")
    last = max(num_frames - span, 0)
    starts = list(range(0, last + 1, stride))
    return starts if starts[-1] == last else [*starts, last]


def read_windows(reader: Reader, *, clip: ClipSpec, side: int, starts: list[int]) -> Iterator[Window]:
    """Read windows in one pass through the file: short side resized to `side`, the middle square cut.

    A video shorter than the span loops to its start. Memory is that of the frames of the windows that overlap.

    Raises:
        VideoDecodeError: a frame is damaged.
    """
    total = len(reader)
    size = scaled_size(reader.height, reader.width, short_side=side)
    (box,) = test_boxes(*size, side=side, num_crops=1)
    wanted = [_indices(start, clip, total) for start in starts]
    held: dict[int, Tensor] = {}
    number = 0
    for index, frame in reader.frames(np.unique(np.concatenate(wanted))):
        held[index] = crop(resize(frame[np.newaxis], size=size), box)[:, 0].contiguous()  # (3,S,S)
        while number < len(starts) and index >= wanted[number].max():
            frames = torch.stack([held[at] for at in wanted[number].tolist()], 1)  # (3,T,S,S)
            yield Window(starts[number], min(starts[number] + clip.span, total), frames)
            number += 1
            if number < len(starts):
                held = {at: kept for at, kept in held.items() if at >= starts[number]}


def shown_at(frames: NDArray[np.int64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return when frames are shown (s) in a video that loops: after its last frame the first one is shown again.

    Where the file states no times, 25 frames per second are assumed.
    """
    total = len(seconds) - 1
    known = seconds if np.isfinite(seconds).all() else np.arange(total + 1) / 25
    moments: NDArray[np.float64] = known[frames % total] + frames // total * known[-1]
    return moments


def moment(frame: int, seconds: NDArray[np.float64]) -> float | None:
    """Return when a frame is shown, to the millisecond; None where the file states no times.

    Args:
        frame: Its index; the number of frames for the end of the last one.
        seconds: Of `vidgn.data.readers.types.Reader.seconds`.
    """
    at = float(seconds[frame])
    return round(at, 3) if math.isfinite(at) else None


def _indices(start: int, clip: ClipSpec, num_frames: int) -> NDArray[np.int64]:
    starts = np.array([start], np.int64)
    return frame_indices(starts, clip_len=clip.clip_len, span=clip.span, num_frames=num_frames).reshape(-1)
