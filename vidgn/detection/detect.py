"""From pixels to detections in the pixels of the image as it was read."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import paste_masks_in_image

from vidgn.data.transforms import Normalize
from vidgn.detection.data.images import Annotated
from vidgn.detection.metric import Detections

_MASK = 0.5  # a pixel belongs to a mask above this (Detectron's MRCNN.THRESH_BINARIZE)


def normalize_images(normalize: Normalize, images: Sequence[Tensor]) -> list[Tensor]:
    """Return images uint8 (3,H,W) as the floats that the net wants."""
    return [normalize(image[None, :, None])[0, :, 0] for image in images]


@torch.no_grad()
def detect_images(
    net: nn.Module, normalize: Normalize, images: Sequence[Tensor], *, sides: Sequence[tuple[int, int]]
) -> list[Detections]:
    """Return the detections of each image, best first, in images of `sides`.

    Args:
        net: in evaluation mode.
        normalize: takes pixels to what the net wants.
        images: uint8 (3,H,W), resized.
        sides: height and width of each image as it was read.
    """
    detections = []
    rows = net(normalize_images(normalize, images))
    for row, image, (height, width) in zip(rows, images, sides, strict=True):
        scale = row["boxes"].new_tensor([width / image.shape[2], height / image.shape[1]] * 2)
        boxes = row["boxes"].float() * scale
        masks = None
        if "masks" in row:
            pasted = paste_masks_in_image(row["masks"].float(), boxes, (height, width))
            masks = (pasted[:, 0] > _MASK).to(torch.uint8)
        detections.append(Detections(boxes, row["scores"].float(), row["labels"], masks))
    return detections


def sides_of(originals: Sequence[Annotated]) -> list[tuple[int, int]]:
    """Return height and width of images as they were read."""
    return [(int(item.image.shape[1]), int(item.image.shape[2])) for item in originals]
