"""From wanted frame indices to arrays, the same for every reader."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidgn.data.readers.types import EVERYTHING, ChannelOrder

Frames = Iterator[tuple[int, NDArray[np.uint8]]]


class ArrayPicture(NamedTuple):
    """A picture that is converted already, uint8 (H, W, 3); see `vidgn.data.video.Picture`."""

    image: NDArray[np.uint8]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.image.shape[0], self.image.shape[1]

    def pixels(
        self, rows: slice = EVERYTHING, columns: slice = EVERYTHING, *, order: ChannelOrder = "rgb"
    ) -> NDArray[np.uint8]:
        """Return a part of it; see `vidgn.data.video.Picture.pixels`."""
        return self.image[rows, columns, :: 1 if order == "rgb" else -1]


def as_pictures(frames: Frames) -> Iterator[tuple[int, ArrayPicture]]:
    """Yield frames as pictures, for `vidgn.data.video.Reader.pictures`."""
    return ((index, ArrayPicture(image)) for index, image in frames)


def distinct(indices: Iterable[int], *, num_frames: int, path: str) -> list[int]:
    """Sort the wanted indices and drop repeats.

    Raises:
        IndexError: One is not in 0..num_frames-1.
    """
    wanted = sorted({int(index) for index in indices})
    for index in wanted[:1] + wanted[-1:]:
        if not 0 <= index < num_frames:
            raise IndexError(f"frame {index} of {path} does not exist; its frames are 0..{num_frames - 1}.")
    return wanted


def gather_frames(indices: NDArray[np.int64], frames: Callable[[Iterable[int]], Frames]) -> NDArray[np.uint8]:
    """Put frames where they are wanted: indices of any shape (...) give uint8 (..., H, W, 3).

    Raises:
        ValueError: No index is given, so the size of the result is unknown.
        TypeError: The indices are not integers.
    """
    indices = np.asarray(indices)
    if indices.size == 0:
        raise ValueError(f"indices of shape {indices.shape} name no frame; give at least one.")
    if not np.issubdtype(indices.dtype, np.integer):
        raise TypeError(f"indices ({indices.dtype}) must be integers; round them first.")
    wanted, where = np.unique(indices.ravel(), return_inverse=True)
    slots = np.split(np.argsort(where, kind="stable"), np.cumsum(np.bincount(where))[:-1])
    out: NDArray[np.uint8] | None = None
    for (_, image), places in zip(frames(wanted.tolist()), slots, strict=True):
        if out is None:
            out = np.empty((indices.size, *image.shape), dtype=np.uint8)
        out[places] = image
    assert out is not None
    return out.reshape(*indices.shape, *out.shape[1:])
