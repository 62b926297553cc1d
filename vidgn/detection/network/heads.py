"""The heads of boxes and masks, and their losses as Detectron has them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference, maskrcnn_loss

Target = dict[str, Tensor]  # boxes (N,4) float xyxy, labels (N,) int64 from 1, masks (N,H,W) uint8


def box_head(channels: int, *, convs: int, hidden: int, norm: Callable[[int], nn.Module] | None) -> nn.Module:
    """Return the head of boxes: convolutions and a hidden layer (4conv1fc), or without convolutions two of these.

    Source: Detectron lib/modeling/fast_rcnn_heads.py:149-177.
    """
    head: nn.Module
    if convs == 0:
        head = TwoMLPHead(channels * 7 * 7, hidden)
    else:
        head = FastRCNNConvFCHead((channels, 7, 7), [channels] * convs, [hidden], norm_layer=norm)
    return head


def mask_head(channels: int, *, norm: Callable[[int], nn.Module] | None) -> nn.Module:
    """Return the four convolutions of the mask head (Detectron lib/modeling/mask_rcnn_heads.py:183-230)."""
    head: nn.Module = MaskRCNNHeads(channels, [channels] * 4, 1, norm_layer=norm)
    return head


class Res5BoxHead(nn.Module):
    """The last stage of a body as the head of boxes: RoIs (R, C, 14, 14) -> (R, 2C), averaged over 7 x 7.

    Args:
        res5: the stage.
    """

    def __init__(self, res5: nn.Module) -> None:
        super().__init__()
        self.res5 = res5

    def forward(self, rois: Tensor) -> Tensor:
        """Return a vector per RoI."""
        vectors: Tensor = self.res5(rois).mean((2, 3))
        return vectors


class Res5MaskHead(nn.Module):
    """The same stage as the head of masks: its tensors belong to the box head and are not held twice.

    Args:
        head: of boxes.
    """

    def __init__(self, head: Res5BoxHead) -> None:
        super().__init__()
        self._shared = [head]  # in a list: no child of this module

    def forward(self, rois: Tensor) -> Tensor:
        """Return a map (R, 2C, 7, 7) per RoI (R, C, 14, 14)."""
        maps: Tensor = self._shared[0].res5(rois)
        return maps


def box_losses(
    logits: Tensor, regression: Tensor, labels: Sequence[Tensor], targets: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return cross-entropy and box loss of the second stage, both divided by the number of RoIs.

    The box loss is smooth L1 with beta 1 (Detectron lib/modeling/fast_rcnn_heads.py:55-63); torchvision's is 1/9.

    Args:
        logits: (R, Q+1).
        regression: (R, 4(Q+1)).
        labels: of the RoIs of each image, 0 for background.
        targets: (r, 4) per image, encoded.
    """
    classes, wanted = torch.cat(list(labels)), torch.cat(list(targets))
    rows = torch.where(classes > 0)[0]
    offsets = regression.reshape(len(classes), -1, 4)[rows, classes[rows]]
    boxes = F.smooth_l1_loss(offsets, wanted[rows], beta=1.0, reduction="sum") / classes.numel()
    return F.cross_entropy(logits, classes), boxes


class Heads(RoIHeads):  # type: ignore[misc]  # torchvision has no types
    """torchvision's RoI heads with the box loss of Detectron."""

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return the detections of each image, empty in training, and the losses, empty in evaluation."""
        if self.training:
            return [], self._losses(features, proposals, image_shapes, targets)
        vectors = self.box_head(self.box_roi_pool(features, proposals, image_shapes))
        logits, regression = self.box_predictor(vectors)
        boxes, scores, labels = self.postprocess_detections(logits, regression, proposals, image_shapes)
        rows = [
            {"boxes": box, "labels": label, "scores": score}
            for box, label, score in zip(boxes, labels, scores, strict=True)
        ]
        if self.has_mask():
            masks = self._mask_logits(features, boxes, image_shapes)
            for row, mask in zip(rows, maskrcnn_inference(masks, list(labels)), strict=True):
                row["masks"] = mask
        return rows, {}

    def _losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None,
    ) -> dict[str, Tensor]:
        assert targets is not None  # of training
        proposals, matched, labels, offsets = self.select_training_samples(proposals, targets)
        vectors = self.box_head(self.box_roi_pool(features, proposals, image_shapes))
        logits, regression = self.box_predictor(vectors)
        classifier, box = box_losses(logits, regression, labels, offsets)
        losses = {"classifier": classifier, "box": box}
        if self.has_mask():
            objects = [torch.where(label > 0)[0] for label in labels]
            boxes = [box[rows] for box, rows in zip(proposals, objects, strict=True)]
            rows = [index[rows] for index, rows in zip(matched, objects, strict=True)]
            masks, names = [target["masks"] for target in targets], [target["labels"] for target in targets]
            losses["mask"] = maskrcnn_loss(self._mask_logits(features, boxes, image_shapes), boxes, masks, names, rows)
        return losses

    def _mask_logits(
        self, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        logits: Tensor = self.mask_predictor(self.mask_head(self.mask_roi_pool(features, boxes, image_shapes)))
        return logits
