"""Build a Mask R-CNN from its description, with fresh weights."""

from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign

from vidgn.detection.network.body import Body, Res4Map, freeze_body, with_pyramid
from vidgn.detection.network.detector import Detector
from vidgn.detection.network.heads import Heads, Res5BoxHead, Res5MaskHead, box_head, mask_head
from vidgn.detection.network.norms import norm_layer
from vidgn.detection.network.spec import DetectorSpec

_RATIOS = (0.5, 1.0, 2.0)
_CANONICAL = 7  # a box of 7 x the smallest anchor (224 px of 32) is looked at in the map of stride 16 (FPN, Eq. 1)
_C4_PROPOSALS = (12_000, 6_000)  # best anchors before NMS, in training and in the test (Detectron core/config.py)


def build_detector(spec: DetectorSpec, *, num_classes: int) -> Detector:
    """Build a detector with fresh weights from torch's global generator.

    Args:
        spec: of the net.
        num_classes: classes Q without the background, which is class 0 of the net.

    >>> net = build_detector(DetectorSpec(name="mask_rcnn_r18_fpn", width=8), num_classes=3)
    >>> net.roi_heads.box_predictor.cls_score.out_features
    4
    """
    body = Body(spec.depth, width=spec.width, norm=norm_layer(spec.backbone_norm, width=spec.width))
    freeze_body(body, stages=spec.frozen_stages)
    return _c4(spec, body, num_classes + 1) if spec.kind == "c4" else _fpn(spec, body, num_classes + 1)


def _fpn(spec: DetectorSpec, body: Body, outputs: int) -> Detector:
    channels, hidden = 4 * spec.width, 16 * spec.width
    backbone = with_pyramid(body, channels=channels, norm=norm_layer(spec.fpn_norm, width=spec.width))
    anchors = AnchorGenerator(tuple((spec.anchor << level,) for level in range(5)), (_RATIOS,) * 5)
    heads = _heads(
        spec,
        pool=_pool(spec, ["0", "1", "2", "3"], size=7, sampling=2),
        head=box_head(channels, convs=spec.box_convs, hidden=hidden, norm=norm_layer(spec.box_norm, width=spec.width)),
        predictor=FastRCNNPredictor(hidden, outputs),
    )
    if spec.masks:
        heads.mask_roi_pool = _pool(spec, ["0", "1", "2", "3"], size=14, sampling=2)
        heads.mask_head = mask_head(channels, norm=norm_layer(spec.mask_norm, width=spec.width))
        heads.mask_predictor = MaskRCNNPredictor(channels, channels, outputs)
    rpn = _rpn(spec, channels, anchors, before=(2 * spec.proposals, spec.proposals))
    return Detector(spec, backbone=backbone, rpn=rpn, roi_heads=heads)


def _c4(spec: DetectorSpec, body: Body, outputs: int) -> Detector:
    res5, channels = body.layer4, body.channels
    backbone = Res4Map(body)
    anchors = AnchorGenerator((tuple(spec.anchor << level for level in range(5)),), (_RATIOS,))
    head = Res5BoxHead(res5)
    pool = _pool(spec, ["0"], size=14, sampling=0)
    heads = _heads(spec, pool=pool, head=head, predictor=FastRCNNPredictor(channels, outputs))
    if spec.masks:
        heads.mask_roi_pool = _pool(spec, ["0"], size=14, sampling=0)
        heads.mask_head = Res5MaskHead(head)
        heads.mask_predictor = MaskRCNNPredictor(channels, 4 * spec.width, outputs)
    rpn = _rpn(spec, backbone.out_channels, anchors, before=_C4_PROPOSALS)
    return Detector(spec, backbone=backbone, rpn=rpn, roi_heads=heads)


def _pool(spec: DetectorSpec, maps: list[str], *, size: int, sampling: int) -> nn.Module:
    """Return RoIAlign; `sampling` points per side of a bin, 0: as many as the bin has pixels."""
    pool: nn.Module = MultiScaleRoIAlign(maps, size, sampling, canonical_scale=_CANONICAL * spec.anchor)
    return pool


def _heads(spec: DetectorSpec, *, pool: nn.Module, head: nn.Module, predictor: nn.Module) -> Heads:
    return Heads(
        pool,
        head,
        predictor,
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=spec.rois,
        positive_fraction=0.25,
        bbox_reg_weights=(10.0, 10.0, 5.0, 5.0),
        score_thresh=spec.score_threshold,
        nms_thresh=0.5,
        detections_per_img=spec.max_detections,
    )


def _rpn(spec: DetectorSpec, channels: int, anchors: AnchorGenerator, *, before: tuple[int, int]) -> nn.Module:
    """Return the proposal net; `before`: best anchors of a map before NMS, in training and in the test."""
    rpn: nn.Module = RegionProposalNetwork(
        anchors,
        RPNHead(channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n={"training": before[0], "testing": before[1]},
        post_nms_top_n={"training": 2 * spec.proposals, "testing": spec.proposals},
        nms_thresh=0.7,
    )
    return rpn
