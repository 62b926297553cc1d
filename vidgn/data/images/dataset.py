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
from numpy.typing import NDArray
from torch import Tensor

from vidgn.data.clips import ClipSpec, random_draws
from vidgn.data.dataset import ClipDataset
from vidgn.data.faults.child_process import Arrays
from vidgn.data.faults.isolated_read import DEADLINE_SECONDS
from vidgn.data.faults.quarantine import Quarantine
from vidgn.data.images.views import NUM_DRAWS, apply_picture_view, centre_view, draw_picture_view
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.readers.types import MAX_PIXELS, VideoDecodeError
from vidgn.data.transforms import Box, CropSpec
from vidgn.data.views import ViewDataset

_PICTURE = ClipSpec(1, 1)
_VIEW = 1 << 22  # views that no clip of a video draws from


class PictureDecodeError(VideoDecodeError):
    """The content of a picture file is not what it should be; the file itself could be opened."""


def read_picture(path: str) -> NDArray[np.uint8]:
    """Read a picture file as uint8 RGB (H,W,3); grey, palette and CMYK become RGB, transparency is left out.

    Raises:
        PictureDecodeError: it is not a whole picture, or has more than `MAX_PIXELS` pixels; the message names it.
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


class PictureDataset(ClipDataset):
    """Clips of one frame: random views for training, the centre for validation.

    Unreadable images are treated as `ClipDataset` treats videos: replaced and recorded, or an error.

    Args:
        manifest: The pictures.
        crop: Sizes in pixels.
        seed: Of all draws.
        flip: Mirror half of the training pictures.
        stream: train or val.
        min_area: Smallest part of a picture that a training view shows.
        quarantine: Where unreadable images are written down; without it one is an error.
        deadline_seconds: How long to wait for one image, which then counts as unreadable; None: without a limit.

    Raises:
        ValueError: stream is neither, min_area is not in (0, 1], or deadline_seconds is not positive.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        crop: CropSpec,
        seed: int,
        flip: bool,
        stream: Literal["train", "val"],
        min_area: float = 0.08,
        quarantine: Quarantine | None = None,
        deadline_seconds: float | None = DEADLINE_SECONDS,
    ) -> None:
        super().__init__(
            manifest, clip=_PICTURE, crop=crop, seed=seed, flip=flip, stream=stream, quarantine=quarantine,
            deadline_seconds=deadline_seconds,
        )  # fmt: skip
        if not 0 < min_area <= 1:
            raise ValueError(f"data.min_area ({min_area}) must be in (0, 1]; ImageNet's is 0.08.")
        self.min_area = min_area

    def _open(self, path: str, epoch: int, video: int, turn: int) -> tuple[Arrays, None]:
        picture = read_picture(path)
        view = self._random(picture, epoch, video, turn) if self.stream == "train" else _centre(picture, self.crop)
        return [view[None, :, None].numpy()], None  # (1,3,1,S,S)

    def _random(self, picture: NDArray[np.uint8], epoch: int, index: int, turn: int) -> Tensor:
        draws = random_draws(self.seed, epoch=epoch, video=index, view=_VIEW + turn, count=NUM_DRAWS)
        height, width = picture.shape[:2]
        view = draw_picture_view(draws, height=height, width=width, flip=self.flip, min_area=self.min_area)
        return apply_picture_view(picture, view, side=self.crop.crop)


class CentreDataset(ViewDataset):
    """The centre of each picture, for testing; one that cannot be read is an item with an `error`.

    Args:
        manifest: The pictures.
        crop: Sizes in pixels.
        deadline_seconds: How long to wait for one picture; then it has failed. None: for ever.
        strict: A picture that cannot be read is an error, not an item with an `error`.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        crop: CropSpec,
        deadline_seconds: float | None = DEADLINE_SECONDS,
        strict: bool = False,
    ) -> None:
        super().__init__(
            manifest, clip=_PICTURE, crop=crop, num_clips=1, num_crops=1, deadline_seconds=deadline_seconds,
            strict=strict,
        )  # fmt: skip

    def _open(self, path: str, first: int, end: int) -> tuple[Arrays, tuple[Box, ...]]:
        view = _centre(read_picture(path), self.crop)[:, None]  # (3,1,S,S)
        return [view.numpy(), np.zeros((1, 1), np.int64)], (Box(0, 0, self.crop.crop, self.crop.crop),)


def _centre(picture: NDArray[np.uint8], crop: CropSpec) -> Tensor:
    return centre_view(picture, short_side=crop.test_side, side=crop.crop)
