"""The pixels that one training clip shows, gathered frame by frame and resized all at once."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidgn.data.buffers import Buffers, resize_into
from vidgn.data.transforms import TrainView, source_box
from vidgn.data.video import ChannelOrder

_buffers = Buffers()


class Cut:
    """One clip in the making.

    Args:
        view: What is cut, and to which size it is resized.
        frame: A frame of the video, uint8 (H,W,3); only its size counts.
        wanted: Indices of the clip's frames, (T,).
        order: In which the colours of frames come. The clip is rgb; bgr is for a view that is mirrored, which then
            takes a third of the time: turning round all bytes of a row turns round the colours too.

    Raises:
        ValueError: `order` is bgr, and the view is not mirrored.
    """

    def __init__(
        self, view: TrainView, frame: NDArray[np.uint8], wanted: NDArray[np.int64], *, order: ChannelOrder = "rgb"
    ) -> None:
        if order == "bgr" and not view.flip:
            raise ValueError("order (bgr) is for mirrored views only; use rgb.")
        box = source_box(view, height=frame.shape[0], width=frame.shape[1])
        self._view = view
        self._order = order
        self._rows = slice(box.top, box.top + box.height)
        self._columns = slice(box.left, box.left + box.width)
        self._places: dict[int, list[int]] = {}
        for place, index in enumerate(wanted.tolist()):
            self._places.setdefault(index, []).append(place)
        self._pixels = _buffers.empty((len(wanted), box.height, box.width, 3))  # (T,h,w,3)

    def take(self, index: int, frame: NDArray[np.uint8]) -> None:
        """Copy a frame to its places: none, one, or several where a short video loops."""
        for place in self._places.get(index, ()):
            self._pixels[place] = frame[self._rows, self._columns]

    def resized(self) -> Tensor:
        """Return the clip, uint8 (3,T,S,S), which lies in memory as (T,S,S,3); what `apply_train_view` makes."""
        shape = (len(self._pixels), self._view.box.height, self._view.box.width, 3)
        clip = torch.from_numpy(_buffers.empty(shape))
        resize_into(self._pixels, clip)
        if self._view.flip:
            scaled, clip = clip, torch.from_numpy(_buffers.empty(shape))
            if self._order == "bgr":
                torch.ops.aten.flip.out(scaled.flatten(2), [2], out=clip.flatten(2))  # (T,S,S*3)
            else:
                torch.ops.aten.flip.out(scaled, [2], out=clip)
        return clip.permute(3, 0, 1, 2)
