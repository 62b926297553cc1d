"""The pixels that one training clip shows, gathered frame by frame and resized all at once."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vidgn.data.transforms import TrainView, resize_cut, source_box


class Cut:
    """One clip in the making.

    Args:
        view: What is cut, and to which size it is resized.
        frame: A frame of the video, uint8 (H,W,3); only its size counts.
        wanted: Indices of the clip's frames, (T,).
    """

    def __init__(self, view: TrainView, frame: NDArray[np.uint8], wanted: NDArray[np.int64]) -> None:
        box = source_box(view, height=frame.shape[0], width=frame.shape[1])
        self._view = view
        self._rows = slice(box.top, box.top + box.height)
        self._columns = slice(box.left, box.left + box.width)
        self._wanted = wanted
        self._pixels = np.empty((len(wanted), box.height, box.width, 3), dtype=np.uint8)  # (T,h,w,3)

    def take(self, index: int, frame: NDArray[np.uint8]) -> None:
        """Copy a frame to its places: none, one, or several where a short video loops."""
        for place in np.flatnonzero(self._wanted == index):
            self._pixels[place] = frame[self._rows, self._columns]

    def resized(self) -> Tensor:
        """Return the clip, uint8 (3,T,S,S)."""
        return resize_cut(self._pixels, self._view)
