"""One image with its objects, and how its size and side are changed: boxes and masks follow exactly."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class Annotated(NamedTuple):
    """An image and its N objects.

    Attributes:
        name: of the image, for messages and records.
        image: uint8 RGB (3,H,W).
        boxes: float32 (N,4), x1 y1 x2 y2 in pixels; pixel k covers k to k+1.
        labels: int64 (N,), 1..Q.
        masks: uint8 (N,H,W), 0 or 1.
        crowd: int64 (N,), 1 where one box stands for many objects (COCO's iscrowd).
        area: float32 (N,), pixels of the object, by which COCO's metric sorts it into small, medium and large.
    """

    name: str
    image: Tensor
    boxes: Tensor
    labels: Tensor
    masks: Tensor
    crowd: Tensor
    area: Tensor


class AnnotatedImages(Protocol):
    """A split of a data set."""

    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Count the images."""
        ...

    def __getitem__(self, index: int) -> Annotated:
        """Read an image."""
        ...

    def name(self, index: int) -> str:
        """Return the name of an image without reading it."""
        ...


def resized_sides(height: int, width: int, *, shorter: int, longest: int) -> tuple[int, int]:
    """Return the sides of an image whose shorter one becomes `shorter`, unless the other would exceed `longest`.

    >>> resized_sides(480, 640, shorter=800, longest=1333)
    (800, 1067)
    >>> resized_sides(400, 1000, shorter=800, longest=1333)
    (533, 1333)
    """
    scale = min(shorter / min(height, width), longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_annotated(item: Annotated, height: int, width: int) -> Annotated:
    """Resize an image bilinearly, without a low-pass filter as Detectron's cv2.resize, and its objects with it.

    A pixel of a new mask is the old pixel in which its centre lies.
    """
    old_height, old_width = item.image.shape[1:]
    if (old_height, old_width) == (height, width):
        return item
    image = F.interpolate(item.image[None], size=(height, width), mode="bilinear", antialias=False)[0]
    rows, columns = _nearest(old_height, height), _nearest(old_width, width)
    scale = torch.tensor([width / old_width, height / old_height] * 2, dtype=torch.float32)
    return item._replace(image=image, boxes=item.boxes * scale, masks=item.masks[:, rows][:, :, columns])


def mirror_annotated(item: Annotated) -> Annotated:
    """Mirror an image and its objects, left to right."""
    width = item.image.shape[2]
    x1, y1, x2, y2 = item.boxes.unbind(1)
    boxes = torch.stack([width - x2, y1, width - x1, y2], 1)
    return item._replace(image=item.image.flip(2), boxes=boxes, masks=item.masks.flip(2))


def _nearest(old: int, new: int) -> Tensor:
    """Return the old index of each new one: floor((i + 1/2) old / new), in whole numbers."""
    return (2 * torch.arange(new) + 1) * old // (2 * new)
