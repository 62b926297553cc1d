"""Memory for pixels that is used again: a page that is new to a process costs more time than the pixels in it."""

import math
import sys
import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidgn.data.transforms import resize

_KEPT = 4  # per thread: what is filled, what it becomes, and what the consumer still holds
_STEP = 1 << 22  # bytes; sizes differ from clip to clip, and room that is not written to takes no memory
_ALONE = [np.empty(0, dtype=np.uint8)]
_UNUSED = sys.getrefcount(_ALONE[0])  # of what only a list keeps


class Buffers:
    """Hands out arrays, and hands their memory out again once nothing refers to them any more.

    An array is known to be unused by its count of references, to which views and tensors made of it add. Each thread
    has buffers of its own.
    """

    def __init__(self) -> None:
        self._local = threading.local()

    def empty(self, shape: Sequence[int]) -> NDArray[np.uint8]:
        """Return an uninitialized uint8 array of this shape."""
        size = math.prod(shape)
        return self._memory(size)[:size].reshape(shape)

    def _memory(self, size: int) -> NDArray[np.uint8]:
        kept: list[NDArray[np.uint8]] = self._local.__dict__.setdefault("kept", [])
        for index in range(len(kept)):
            if sys.getrefcount(kept[index]) == _UNUSED:
                if kept[index].nbytes < size:
                    kept[index] = _reserve(size)
                return kept[index]
        memory = _reserve(size)
        if len(kept) < _KEPT:
            kept.append(memory)
        return memory


def _reserve(size: int) -> NDArray[np.uint8]:
    return np.empty(-(-size // _STEP) * _STEP, dtype=np.uint8)


def resize_into(frames: NDArray[np.uint8], out: Tensor) -> None:
    """Scale uint8 (T,H,W,3) into uint8 (T,h,w,3): to the bit what `vidgn.data.transforms.resize` gives."""
    size = out.shape[1], out.shape[2]
    if size == frames.shape[1:3] or not _IS_NATIVE:
        out.copy_(resize(frames, size=size).permute(1, 2, 3, 0))
    else:
        pixels, scaled = torch.from_numpy(frames).permute(0, 3, 1, 2), out.permute(0, 3, 1, 2)  # (T,3,H,W)
        torch.ops.aten._upsample_bilinear2d_aa.out(pixels, size, False, None, None, out=scaled)


# Where torch scales uint8 as it is; elsewhere torchvision goes by way of float32
# (torchvision/transforms/v2/functional/_geometry.py, _do_native_uint8_resize_on_cpu).
_IS_NATIVE = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
