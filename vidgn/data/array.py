"""Frames that are in memory already, read like a video file."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from vidgn.data.readers.gather import ArrayPicture, as_pictures, distinct, gather_frames
from vidgn.data.readers.types import Backend, Reader
from vidgn.data.video import open_video


class ArrayReader:
    """Read frames of an array as `vidgn.open_video` reads those of a file.

    Args:
        frames: uint8 (T, H, W, 3), RGB.
        fps: frames per second; 0.0 where it is not known.

    Raises:
        TypeError: the array is not uint8.
        ValueError: its shape is not (T, H, W, 3), or it holds no frame.

    >>> reader = ArrayReader(np.zeros((5, 4, 6, 3), np.uint8), fps=25.0)
    >>> len(reader), reader.height, reader.width
    (5, 4, 6)
    """

    def __init__(self, frames: NDArray[np.uint8], *, fps: float = 0.0) -> None:
        frames = np.asarray(frames)
        if frames.dtype != np.uint8:
            raise TypeError(f"frames ({frames.dtype}) must be uint8, 0..255; scale and convert them first.")
        if frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
            raise ValueError(f"frames {frames.shape} must have the shape (T, H, W, 3), with at least one frame.")
        self._frames = frames
        self.path = "array"
        self.notes: tuple[str, ...] = ()
        self.height, self.width = frames.shape[1:3]
        self.fps = fps

    def __len__(self) -> int:
        return len(self._frames)

    def seconds(self) -> NDArray[np.float64]:
        """Return when frames are shown; see `vidgn.data.readers.types.Reader.seconds`."""
        even = np.arange(len(self) + 1, dtype=np.float64)
        return even / self.fps if self.fps > 0 else np.full(len(even), np.nan)

    def frames(self, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield each distinct wanted frame once, in ascending order.

        Raises:
            IndexError: an index is not in 0..len-1.
        """
        for index in distinct(indices, num_frames=len(self), path=self.path):
            yield index, self._frames[index]

    def pictures(self, indices: Iterable[int]) -> Iterator[tuple[int, ArrayPicture]]:
        """Yield the same frames for callers that want a part of each."""
        return as_pictures(self.frames(indices))

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read frames by index: any shape (...) gives uint8 (..., H, W, 3)."""
        return gather_frames(indices, self.frames)

    def close(self) -> None:
        """Do nothing; the array stays."""

    def __enter__(self) -> "ArrayReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def as_reader(video: str | Path | Reader, *, backend: Backend = "pyav") -> AbstractContextManager[Reader]:
    """Open a file, or pass on a reader that is open already and stays open.

    Raises:
        OSError, VideoDecodeError: the file cannot be read.
    """
    return open_video(video, backend=backend) if isinstance(video, (str, Path)) else nullcontext(video)
