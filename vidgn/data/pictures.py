"""From a manifest of pictures to clips of one frame: what trains a 2-D network with the code for videos.

    PictureDataset[epoch, picture]   one random view, drawn from (seed, epoch, picture) alone     train
                                     the centre of the picture                                    validate
    CentreDataset[picture]           the centre of the picture                                    test

Pictures are RGB as they lie in the file; the orientation that a camera notes beside them (EXIF) is not applied,
as ImageNet's trainers do not.
"""

import io
import warnings
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vidgn.data.batches import ClipSample
from vidgn.data.board import Board
from vidgn.data.clips import random_draws
from vidgn.data.manifest import Manifest
from vidgn.data.picture_views import NUM_DRAWS, apply_picture_view, centre_view, draw_picture_view
from vidgn.data.transforms import Box, CropSpec
from vidgn.data.video import MAX_PIXELS, VideoDecodeError
from vidgn.data.views import VideoViews

_VIEW = 1 << 22  # views that no clip of a video draws from


class PictureDecodeError(VideoDecodeError):
    """The content of a picture file is not what it should be; the file itself could be opened."""


def read_picture(path: str) -> NDArray[np.uint8]:
    """Read a picture file as uint8 RGB (H,W,3); grey, palette and CMYK become RGB, transparency is left out.

    Raises:
        PictureDecodeError: it is no whole picture, or has more than `MAX_PIXELS` pixels; the message names it.
        OSError: it is missing or cannot be read.
    """
    from PIL import Image

    with open(path, "rb") as file:
        content = file.read()
    if not content:
        raise PictureDecodeError(path, "empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF, a palette's transparency: no pixel depends on them
            with Image.open(io.BytesIO(content)) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise PictureDecodeError(
                        path, f"{picture.width}x{picture.height} pixels are more than {MAX_PIXELS:,}; make it smaller"
                    )
                return np.array(picture.convert("RGB"))
    except PictureDecodeError:
        raise
    except Exception as err:  # each of Pillow's decoders has errors of its own
        raise PictureDecodeError(path, f"no whole picture ({err or type(err).__name__})") from err


class PictureDataset(Dataset[ClipSample]):
    """Clips of one frame: random views for training, the centre for validation.

    Args:
        manifest: The pictures.
        crop: Sizes in pixels.
        seed: Of all draws.
        flip: Mirror half of the training pictures.
        stream: train or val.

    Raises:
        ValueError: stream is neither.
    """

    def __init__(
        self, manifest: Manifest, *, crop: CropSpec, seed: int, flip: bool, stream: Literal["train", "val"]
    ) -> None:
        if stream not in ("train", "val"):
            raise ValueError(f"stream ({stream!r}) must be 'train' or 'val'.")
        self.manifest = manifest
        self.crop = crop
        self.seed = seed
        self.flip = flip
        self.stream = stream
        self.board = Board()

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, item: tuple[int, int]) -> ClipSample:
        """Read the view of `(epoch, picture)`, uint8 (1,3,1,S,S).

        Raises:
            PictureDecodeError: The file is no whole picture; the message names it.
            OSError: The file is missing or cannot be read.
        """
        epoch, index = item
        path = self.manifest.path(index)
        with self.board.reading(path):
            picture = read_picture(path)
        view = self._random(picture, epoch, index) if self.stream == "train" else _centre(picture, self.crop)
        return ClipSample(view[None, :, None], self.manifest.label(index), index)

    def _random(self, picture: NDArray[np.uint8], epoch: int, index: int) -> Tensor:
        draws = random_draws(self.seed, epoch=epoch, video=index, view=_VIEW, count=NUM_DRAWS)
        height, width = picture.shape[:2]
        view = draw_picture_view(draws, height=height, width=width, flip=self.flip)
        return apply_picture_view(picture, view, side=self.crop.crop)


class CentreDataset(Dataset[VideoViews]):
    """The centre of each picture, for testing; one that cannot be read is an item with an `error`.

    Args:
        manifest: The pictures.
        crop: Sizes in pixels.
    """

    def __init__(self, manifest: Manifest, *, crop: CropSpec) -> None:
        self.manifest = manifest
        self.crop = crop
        self.board = Board()

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, index: int) -> VideoViews:
        """Read the one view of a picture."""
        label, path = self.manifest.label(index), self.manifest.path(index)
        try:
            with self.board.reading(path):
                view, error = _centre(read_picture(path), self.crop)[:, None], None  # (3,1,S,S)
        except (PictureDecodeError, OSError) as err:
            view, error = torch.empty((3, 0, 0, 0), dtype=torch.uint8), str(err)
        clips = torch.zeros((0 if error else 1, 1), dtype=torch.int64)
        boxes = () if error else (Box(0, 0, self.crop.crop, self.crop.crop),)
        return VideoViews(view, clips, boxes, label, index, first_view=0, num_views=1, total_views=1, error=error)


def _centre(picture: NDArray[np.uint8], crop: CropSpec) -> Tensor:
    return centre_view(picture, short_side=crop.test_side, side=crop.crop)
