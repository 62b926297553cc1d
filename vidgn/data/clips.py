"""Which frames: where clips begin and which frames they hold. Integers only; no video is opened.

A clip covers `span` consecutive raw frames, of which the net sees `clip_len`, `stride = span // clip_len` apart:

    span = 8, clip_len = 4, stride = 2      frames  s . s+2 . s+4 . s+6 .

Letters of shapes: K clips, T = clip_len frames.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

ClipRule = Literal["nonlocal", "linspace", "dense", "segments"]


@dataclass(frozen=True)
class ClipSpec:
    """How many frames a clip has and how many raw frames it covers; 32 of 64 and 64 of 64 in Table 8.

    Raises:
        ValueError: `clip_len` is not positive or does not divide `span`.
    """

    clip_len: int = 32
    span: int = 64

    def __post_init__(self) -> None:
        if self.clip_len < 1 or self.span < 1:
            raise ValueError(f"clip_len ({self.clip_len}) and span ({self.span}) must be at least 1 frame.")
        if self.span % self.clip_len:
            divisors = [n for n in range(1, self.span + 1) if self.span % n == 0]
            near = sorted(sorted(divisors, key=lambda n: (abs(n - self.clip_len), n))[:2])
            choices = " or ".join(str(n) for n in near)
            raise ValueError(f"clip_len ({self.clip_len}) must divide span ({self.span}); use {choices}, or set span.")

    @property
    def stride(self) -> int:
        """Raw frames from one frame of the clip to the next."""
        return self.span // self.clip_len


def train_start(num_frames: int, *, span: int, uniform: float) -> int:
    """Turn a draw from [0, 1) into a start from 0..num_frames-span, each equally likely; 0 in a short video."""
    _require_frames(num_frames)
    if not 0 <= uniform < 1:
        raise ValueError(f"uniform ({uniform}) must be in [0, 1).")
    return int(uniform * (max(num_frames - span, 0) + 1))


def test_starts(
    num_frames: int,
    *,
    num_clips: int,
    span: int,
    rule: ClipRule = "nonlocal",  # noqa: PT028 - the starts for testing; not a test
) -> NDArray[np.int64]:
    """Spread the starts of the test clips over a video.

    Args:
        num_frames: Frames of the video.
        num_clips: K.
        span: Raw frames that a clip covers.
        rule: `nonlocal`: clip j starts at int(j N / K) and the last ones run over the end into the beginning
            (video-nonlocal-net, customized_video_io.cc:690-693). `linspace`: evenly from 0 to N - span, the last
            clip ends with the video. `dense`: the same rounded down (temporal-shift-module, ops/dataset.py).

    Returns:
        int64 (K,).
    """
    _require_frames(num_frames)
    if num_clips < 1:
        raise ValueError(f"num_clips ({num_clips}) must be at least 1.")
    clip = np.arange(num_clips, dtype=np.int64)
    if rule == "nonlocal":
        return clip * num_frames // num_clips
    if rule == "linspace":
        gaps = max(num_clips - 1, 1)
        room = max(num_frames - span, 0)
        return (2 * clip * room + gaps) // (2 * gaps)  # j * room / gaps, rounded, halves up
    if rule == "dense":
        return clip * max(num_frames - span, 0) // max(num_clips - 1, 1)
    raise ValueError(f"rule ({rule!r}) must be one of {', '.join(get_args(ClipRule)[:-1])}.")


def clip_frames(
    num_frames: int, *, num_clips: int, clip_len: int, span: int, rule: ClipRule = "nonlocal"
) -> NDArray[np.int64]:
    """List the frames of the test clips: with `segments` those of equal parts, else `span` frames from each start.

    Returns:
        int64 (K, T), all in 0..num_frames-1.
    """
    if rule != "segments":
        starts = test_starts(num_frames, num_clips=num_clips, span=span, rule=rule)
        return frame_indices(starts, clip_len=clip_len, span=span, num_frames=num_frames)
    _require_frames(num_frames)
    if num_clips < 1:
        raise ValueError(f"num_clips ({num_clips}) must be at least 1.")
    clip, part = np.arange(num_clips, dtype=np.int64)[:, None], np.arange(clip_len, dtype=np.int64)
    middles = (2 * num_clips * part + 2 * clip + 1) * num_frames  # in 1 / (2 K T) of a frame
    frames: NDArray[np.int64] = middles // (2 * num_clips * clip_len)
    return frames


def segment_frames(num_frames: int, uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
    """Take a frame of each of T equal parts of a video, as "Temporal Segment Networks" (arXiv 1608.00859) trains.

    Args:
        num_frames: Frames of the video, N.
        uniforms: Where in its part each frame lies, [0, 1), (K, T).

    Returns:
        int64 (K, T), ascending; frame i lies in i*N/T..(i+1)*N/T.

    >>> segment_frames(30, np.array([[0.0, 0.5, 0.99]]))
    array([[ 0, 15, 29]])
    """
    _require_frames(num_frames)
    parts = uniforms.shape[1]
    frames = np.floor((np.arange(parts) + uniforms) * num_frames / parts).astype(np.int64)
    last: NDArray[np.int64] = np.minimum(frames, num_frames - 1)
    return last


def frame_indices(starts: NDArray[np.int64], *, clip_len: int, span: int, num_frames: int) -> NDArray[np.int64]:
    """List the frames of clips; a clip that runs over the end continues at the beginning, so short videos loop.

    Args:
        starts: int64 (K,).
        clip_len: T, which divides `span`.
        span: Raw frames that a clip covers.
        num_frames: Frames of the video.

    Returns:
        int64 (K, T), all in 0..num_frames-1.
    """
    _require_frames(num_frames)
    stride = ClipSpec(clip_len, span).stride
    return (np.asarray(starts, dtype=np.int64)[:, None] + stride * np.arange(clip_len)) % num_frames


# Key word 2 of the generator: keeps these draws apart from any other use of the seed ("clip" in ASCII).
_STREAM = 0x636C6970


def random_draws(seed: int, *, epoch: int, video: int, view: int, count: int) -> NDArray[np.float64]:
    """Draw numbers that depend on nothing but the arguments: not on workers, ranks, order or platform.

    Philox 4x64-10 (Salmon et al., SC 2011) with key (seed, "clip") encrypts the blocks (1.., view, video, epoch);
    the top 53 bits of each word are the fraction.

    Returns:
        float64 (count,), uniform on [0, 1).

    Raises:
        ValueError: An argument is not in 0..2^64-1.
    """
    for name, value in (("seed", seed), ("epoch", epoch), ("video", video), ("view", view), ("count", count)):
        if not 0 <= value < 1 << 64:
            raise ValueError(f"{name} ({value}) must be in 0..2^64-1.")
    key = np.array([seed, _STREAM], dtype=np.uint64)
    counter = np.array([0, view, video, epoch], dtype=np.uint64)
    integers: NDArray[np.uint64] = np.random.Philox(key=key, counter=counter).random_raw(count)
    fractions = (integers >> np.uint64(11)).astype(np.float64)
    return np.ldexp(fractions, -53)


def _require_frames(num_frames: int) -> None:
    if num_frames < 1:
        raise ValueError(f"num_frames ({num_frames}) must be at least 1; an empty video has no clips.")
