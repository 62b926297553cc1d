"""The pixels that one training clip shows, gathered frame by frame and resized all at once."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidgn.data.buffers import Buffers, resize_into
from vidgn.data.readers.types import ChannelOrder, Picture
from vidgn.data.transforms import TrainView, source_box

_buffers = Buffers()


class ClipCut:
    """One clip in the making.

    Args:
        view: What is cut, and to which size it is resized.
        shape: Rows and columns of the video's pictures.
        wanted: Indices of the clip's frames, (T,).
    """

    def __init__(self, view: TrainView, shape: tuple[int, int], wanted: NDArray[np.int64]) -> None:
        box = source_box(view, height=shape[0], width=shape[1])
        self._view = view
        # To turn round all bytes of a row turns round the colours too, and takes a third of the time.
        self._order: ChannelOrder = "bgr" if view.flip else "rgb"
        self._rows = slice(box.top, box.top + box.height)
        self._columns = slice(box.left, box.left + box.width)
        self._places: dict[int, list[int]] = {}
        for position, index in enumerate(wanted.tolist()):
            self._places.setdefault(index, []).append(position)
        self._pixels = _buffers.empty((len(wanted), box.height, box.width, 3))  # (T,h,w,3)

    def take(self, index: int, picture: Picture) -> None:
        """Copy a picture's part to its places: none, one, or several where a short video loops."""
        places = self._places.get(index, ())
        if places:
            part = picture.pixels(self._rows, self._columns, order=self._order)
            for position in places:
                self._pixels[position] = part

    def resized(self) -> Tensor:
        """Return the clip, uint8 (3,T,S,S), which lies in memory as (T,S,S,3); what `apply_train_view` makes."""
        shape = (len(self._pixels), self._view.box.height, self._view.box.width, 3)
        clip = torch.from_numpy(_buffers.empty(shape))
        resize_into(self._pixels, clip)
        if self._view.flip:
            scaled, clip = clip, torch.from_numpy(_buffers.empty(shape))
            torch.ops.aten.flip.out(scaled.flatten(2), [2], out=clip.flatten(2))  # (T,S,S*3)
        return clip.permute(3, 0, 1, 2)
