"""Read an excerpt: a segment of a video, or a video at another frame rate, as if it were a file of its own.

Rules, all in integers:

    segment in seconds     the frames with start <= time < end; the time of the first frame of the file is 0
    segment in frames      the frames start..end-1
    rate of r frames/s     frame j shows the last frame whose time, times r, rounds to j or less (halves round up), as
                           ffmpeg's filter fps=r does; there are round(duration * r) frames, at least one
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from fractions import Fraction
from types import TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidgn.data.readers.gather import distinct, gather_frames
from vidgn.data.readers.image_folder import ImageFolderReader
from vidgn.data.readers.pyav.reader import PyavReader
from vidgn.data.readers.types import Picture, Reader, VideoDecodeError
from vidgn.data.storage.excerpt import Excerpt, Interval

_MICROSECOND = 1_000_000
_MOST_FRAMES = 10_000_000  # of one video at a given rate: four days at 30 frames per second


class Times(NamedTuple):
    """When the frames of a video are shown: ticks from the first frame, ascending, (N,), and the end of the last."""

    ticks: NDArray[np.int64]
    end: int
    tick: Fraction  # seconds


class ExcerptReader:
    """Some frames of an open video, numbered from 0; see `vidgn.data.readers.types.Reader`.

    Args:
        inner: The video, which is closed with this reader.
        excerpt: What of it is read.

    Raises:
        VideoDecodeError: The segment holds no frame.
        ValueError: The back end does not tell the times of its frames, and they are needed.
    """

    def __init__(self, inner: Reader, excerpt: Excerpt) -> None:
        self._inner = inner
        self._is_resampled = excerpt.fps is not None
        self.path, self.notes = str(excerpt), inner.notes
        try:
            self._index, self.fps = _frames_of(inner, excerpt)
        except BaseException:
            inner.close()
            raise

    def __len__(self) -> int:
        return len(self._index)

    def seconds(self) -> NDArray[np.float64]:
        """Return when frames are shown; see `vidgn.data.readers.types.Reader.seconds`."""
        if self._is_resampled:
            return np.arange(len(self) + 1, dtype=np.float64) / self.fps
        whole = self._inner.seconds()
        moments: NDArray[np.float64] = np.append(whole[self._index], whole[self._index[-1] + 1]) - whole[self._index[0]]
        return moments

    @property
    def height(self) -> int:
        """Rows of an upright frame."""
        return self._inner.height

    @property
    def width(self) -> int:
        """Columns of an upright frame."""
        return self._inner.width

    @property
    def sources(self) -> NDArray[np.int64]:
        """The frames of the whole video that are shown, ascending, (N,)."""
        return self._index

    def frames(self, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield distinct frames in ascending order; see `vidgn.data.readers.types.Reader.frames`."""
        for index, picture in self.pictures(indices):
            yield index, picture.pixels()

    def pictures(self, indices: Iterable[int]) -> Iterator[tuple[int, Picture]]:
        """Yield the same frames before they are converted; a frame that is shown twice is decoded once."""
        wanted = distinct(indices, num_frames=len(self), path=self.path)
        sources = self._index[np.asarray(wanted, np.int64)]
        shown = iter(zip(wanted, sources.tolist(), strict=True))
        index, source = next(shown, (-1, -1))
        for number, picture in self._inner.pictures(np.unique(sources).tolist()):
            while source == number:
                yield index, picture
                index, source = next(shown, (-1, -1))

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read frames in any order and shape; see `vidgn.data.readers.types.Reader.read`."""
        return gather_frames(indices, self.frames)

    def close(self) -> None:
        """Close the video."""
        self._inner.close()

    def __enter__(self) -> "ExcerptReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def resampled(times: Times, rate: Fraction) -> NDArray[np.int64]:
    """Return which frame is shown at each moment of a constant rate (frames per second), int64 (N,).

    >>> resampled(Times(np.array([0, 40, 80, 120]), 160, Fraction(1, 1000)), Fraction(50)).tolist()
    [0, 0, 1, 1, 2, 2, 3, 3]
    >>> resampled(Times(np.array([0, 40, 80, 120]), 160, Fraction(1, 1000)), Fraction(12)).tolist()
    [1, 3]
    """
    step = times.tick * rate
    due = _rounded(times.ticks, step)
    count = max(1, int(_rounded(np.array([times.end]), step)[0]))
    if count > _MOST_FRAMES:
        raise ValueError(f"data.fps ({float(rate):g}) makes {count:,} frames of one video; use a lower rate.")
    return np.maximum(np.searchsorted(due, np.arange(count), side="right") - 1, 0)


def frame_times(reader: Reader) -> Times:
    """Return the times of a video's frames: those in the file, or where it has none, even steps at its mean rate.

    Raises:
        ValueError: The back end does not tell them.
        VideoDecodeError: The file tells neither times nor a rate.
    """
    if isinstance(reader, PyavReader) and reader.is_timed and reader.source.stream.time_base is not None:
        stamps = np.asarray(reader.source.packets.times, np.int64)[np.asarray(reader.index.order, np.int64)]
        ticks = stamps - stamps[0]
        tick = Fraction(reader.source.stream.time_base)
        return Times(ticks, int(ticks[-1]) + _last_ticks(ticks, reader.fps, tick), tick)
    if not isinstance(reader, (PyavReader, ImageFolderReader)):
        raise ValueError("times in seconds need data.backend=pyav; the other back ends number their frames only.")
    if not reader.fps > 0:
        raise VideoDecodeError(reader.path, "it tells neither the times of its frames nor their rate")
    count = len(reader)
    return Times(np.arange(count), count, 1 / _rate(reader.fps))


def _last_ticks(ticks: NDArray[np.int64], fps: float, tick: Fraction) -> int:
    """Return how long the last frame is shown: as long as the one before it, or one frame of the mean rate."""
    if len(ticks) > 1:
        return int(ticks[-1] - ticks[-2])
    return max(1, round(1 / (_rate(fps) * tick))) if fps > 0 else 1


def _frames_of(reader: Reader, excerpt: Excerpt) -> tuple[NDArray[np.int64], float]:
    """Return the frames that an excerpt shows, and their rate."""
    segment, fps = excerpt.segment, excerpt.fps
    total = len(reader)
    if fps is None and (segment is None or segment.unit == "frames"):
        first, last = _cut_frames(segment, total, excerpt)
        return np.arange(first, last), reader.fps
    times = frame_times(reader)
    if segment is not None and segment.unit == "seconds":
        first, last = _cut_seconds(segment, times, excerpt)
    else:
        first, last = _cut_frames(segment, total, excerpt)
    if fps is None:
        return np.arange(first, last), reader.fps
    end = int(times.ticks[last]) if last < total else times.end
    start = int(times.ticks[first])
    rate = _rate(fps) if fps else _rate(reader.fps or _mean_rate(times))
    return first + resampled(Times(times.ticks[first:last] - start, end - start, times.tick), rate), float(rate)


def _cut_frames(segment: Interval | None, total: int, excerpt: Excerpt) -> tuple[int, int]:
    first = 0 if segment is None or segment.start is None else int(segment.start)
    last = total if segment is None or segment.end is None else min(int(segment.end), total)
    if first >= last:
        raise VideoDecodeError(str(excerpt), f"the segment holds no frame; the video has {total}")
    return first, last


def _cut_seconds(segment: Interval, times: Times, excerpt: Excerpt) -> tuple[int, int]:
    """Return the first frame of a segment and the one after its last; times are compared in microseconds."""
    micro = _rounded(times.ticks, times.tick * _MICROSECOND).tolist()
    first = 0 if segment.start is None else bisect_left(micro, round(segment.start * _MICROSECOND))
    last = len(micro) if segment.end is None else bisect_left(micro, round(segment.end * _MICROSECOND))
    if first >= last:
        length = float(times.end * times.tick)
        raise VideoDecodeError(str(excerpt), f"the segment holds no frame; the video lasts {length:.3f} s")
    return first, last


def _rounded(ticks: NDArray[np.int64], step: Fraction) -> NDArray[np.int64]:
    """Return ticks * step, rounded, halves up."""
    return (2 * ticks.astype(np.int64) * step.numerator + step.denominator) // (2 * step.denominator)


def _rate(fps: float) -> Fraction:
    """Return a rate as a fraction: 29.97 and 23.976 as they are written, 30000/1001 where a file has it."""
    return Fraction(fps).limit_denominator(1001)


def _mean_rate(times: Times) -> float:
    return float(len(times.ticks) / (times.end * times.tick))
