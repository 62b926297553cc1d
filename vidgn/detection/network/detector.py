"""The net: body, proposals, heads; images in, losses or detections out."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList

from vidgn.detection.network.heads import Target
from vidgn.detection.network.spec import DetectorSpec

_DIVISOR = 32  # of the sides of a batch, so that every map of the pyramid is twice the next one


class Detector(nn.Module):
    """Mask R-CNN on images of any sizes.

    Args:
        spec: what it was built from.
        backbone: images to feature maps.
        rpn: feature maps to proposals.
        roi_heads: proposals to boxes and masks.
    """

    def __init__(self, spec: DetectorSpec, *, backbone: nn.Module, rpn: nn.Module, roi_heads: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = backbone
        self.rpn = rpn
        self.roi_heads = roi_heads

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Any:
        """Return a dictionary of losses in training; in evaluation the detections of each image.

        A detection has boxes (N,4) in the pixels of its image, labels (N,) from 1, scores (N,) and, where the net has
        masks, masks (N,1,28,28) inside the boxes (14 x 14 of a C4 net).

        Args:
            images: normalized float (3,H,W) each.
            targets: of training.
        """
        sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
        batch = pad_images(images)
        features = self.backbone(batch)
        given = None if targets is None else list(targets)
        proposals, rpn_losses = self.rpn(ImageList(batch, sizes), features, given)
        detections, losses = self.roi_heads(features, proposals, sizes, given)
        if not self.training:
            return detections
        named = {"objectness": rpn_losses["loss_objectness"], "proposal": rpn_losses["loss_rpn_box_reg"]}
        return {**named, **losses}


def pad_images(images: Sequence[Tensor]) -> Tensor:
    """Put images (3,H,W) into one batch, zeros to the right and below; sides are multiples of 32."""
    height = max(image.shape[1] for image in images)
    width = max(image.shape[2] for image in images)
    height, width = (-(-side // _DIVISOR) * _DIVISOR for side in (height, width))
    return torch.stack([F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in images])
