"""From annotated images to batches of resized ones, mirrored by chance."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vidgn.data.clips import random_draws
from vidgn.detection.data.images import Annotated, AnnotatedImages, mirror_annotated, resize_annotated, resized_sides

_VIEW = 1 << 23  # of the draws: no clip and no image of a classifier draws from it
_MAX_SIDE = 4_096  # px


class ImageBatch(NamedTuple):
    """B images with their objects.

    Attributes:
        images: uint8 (3,H,W) each, resized.
        targets: boxes, labels and masks of each, as the net takes them.
        originals: the images as they were read; empty in training.
        videos: int64 (B,), rows of the split, by the name that all callbacks know.
    """

    images: list[Tensor]
    targets: list[dict[str, Tensor]]
    originals: list[Annotated]
    videos: Tensor

    @property
    def clips(self) -> Tensor:
        """The images as clips (B,1,3,H,W), zeros to the right and below, as callbacks count and keep them."""
        height, width = (max(image.shape[axis] for image in self.images) for axis in (1, 2))
        return torch.stack(
            [F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1]))[None] for image in self.images]
        )

    @property
    def labels(self) -> Tensor:
        """The labels of all objects."""
        return torch.cat([target["labels"] for target in self.targets])


class ResizedImages:
    """The items of a loader: (row, image to train or test on, image as it was read).

    Args:
        images: the split.
        shorter: side in pixels that the shorter side becomes.
        longest: most pixels of the other one.
        flip: mirror half of the images, drawn from (seed, epoch, image).
        seed: of the draws.
        train: the item is (epoch, index), and nothing is kept of the image as it was read.

    Raises:
        ValueError: a side is out of its range.
    """

    def __init__(
        self, images: AnnotatedImages, *, shorter: int, longest: int, flip: bool = False, seed: int = 0, train: bool
    ) -> None:
        if not 1 <= shorter <= longest <= _MAX_SIDE:
            raise ValueError(
                f"data.shorter_side ({shorter}) must be at least 1 and at most data.longest_side ({longest}), which "
                f"must be at most {_MAX_SIDE} pixels; Detectron's are 800 and 1333."
            )
        self.images = images
        self.shorter = shorter
        self.longest = longest
        self.flip = flip
        self.seed = seed
        self.train = train

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: tuple[int, int] | int) -> tuple[int, Annotated, Annotated | None]:
        epoch, index = item if isinstance(item, tuple) else (0, item)
        read = self.images[index]
        sides = resized_sides(*read.image.shape[1:], shorter=self.shorter, longest=self.longest)
        seen = resize_annotated(read, *sides)
        if self.flip and random_draws(self.seed, epoch=epoch, video=index, view=_VIEW, count=1)[0] < 0.5:
            seen = mirror_annotated(seen)
        return index, seen, None if self.train else read


def collate_images(items: Sequence[tuple[int, Annotated, Annotated | None]]) -> ImageBatch:
    """Put items of `ResizedImages` into a batch."""
    targets = [{"boxes": seen.boxes, "labels": seen.labels, "masks": seen.masks} for _, seen, _ in items]
    return ImageBatch(
        [seen.image for _, seen, _ in items],
        targets,
        [read for _, _, read in items if read is not None],
        torch.tensor([index for index, _, _ in items]),
    )
