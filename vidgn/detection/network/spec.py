"""What a detector is built from: the options `model.*` of task=detect as a record."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

DETECTION_NORMS = ("gn", "ln", "in", "bn", "sync_bn", "frozen_bn", "none")
HEAD_STAGES = (0, 1, 2, 3, 4, 5)


class DetectorRow(NamedTuple):
    """A body and how its feature maps are used.

    Attributes:
        depth: of the ResNet.
        kind: `fpn`, a pyramid of four maps and a fifth for proposals; `c4`, one map and res5 as the head of both tasks.
    """

    depth: int
    kind: Literal["fpn", "c4"]


DETECTORS: Mapping[str, DetectorRow] = {
    "mask_rcnn_r50_fpn": DetectorRow(50, "fpn"),
    "mask_rcnn_r101_fpn": DetectorRow(101, "fpn"),
    "mask_rcnn_r18_fpn": DetectorRow(18, "fpn"),
    "mask_rcnn_r50_c4": DetectorRow(50, "c4"),
}


@dataclass(frozen=True)
class DetectorSpec:
    """A Mask R-CNN. The defaults are those of Detectron's configs/04_2018_gn_baselines, except for the frozen norms.

    Attributes:
        name: a key of `DETECTORS`.
        width: channels of the stem; the pyramid has 4 times as many, the hidden layer of the box head 16 times.
        backbone_norm: in the body; of a C4 net, in res5 as well. frozen_bn is the BN* of the paper.
        fpn_norm: behind the lateral and the output convolutions of the pyramid.
        box_norm: behind the four convolutions of the box head.
        mask_norm: behind the four convolutions of the mask head.
        box_convs: convolutions of the box head (4conv1fc); 0 is two hidden layers.
        masks: predict masks, too.
        frozen_stages: stages that do not learn, from the stem on; Detectron's FREEZE_AT: 2, or 0 from random weights.
        anchor: side of the smallest anchor in pixels; each of the five sizes is twice the one before.
        rois: boxes per image that the heads are trained on.
        proposals: boxes per image that the heads see in the test; twice as many in training.
        score_threshold: smallest score of a detection.
        max_detections: per image.

    Raises:
        ValueError: a value is out of its range.
    """

    name: str = "mask_rcnn_r50_fpn"
    width: int = 64
    backbone_norm: str = "frozen_bn"
    fpn_norm: str = "none"
    box_norm: str = "none"
    mask_norm: str = "none"
    box_convs: int = 4
    masks: bool = True
    frozen_stages: int = 2
    anchor: int = 32
    rois: int = 512
    proposals: int = 1000
    score_threshold: float = 0.05
    max_detections: int = 100

    def __post_init__(self) -> None:
        if self.name not in DETECTORS:
            raise ValueError(f"model ({self.name}) must be one of {', '.join(DETECTORS)} with task=detect.")
        for part in ("backbone_norm", "fpn_norm", "box_norm", "mask_norm"):
            if getattr(self, part) not in DETECTION_NORMS:
                raise ValueError(f"model.{part} ({getattr(self, part)}) must be one of {', '.join(DETECTION_NORMS)}.")
        if self.kind == "c4" and (self.fpn_norm, self.box_norm, self.mask_norm) != ("none", "none", "none"):
            raise ValueError(
                f"model={self.name} has res5 as its head and no pyramid, but model.fpn_norm ({self.fpn_norm}), "
                f"model.box_norm ({self.box_norm}) or model.mask_norm ({self.mask_norm}) is set; leave them at none, "
                "model.backbone_norm is the norm of res5."
            )
        if self.frozen_stages not in HEAD_STAGES:
            raise ValueError(f"model.frozen_stages ({self.frozen_stages}) must be in 0..5; Detectron's is 2.")
        for name, least in (("width", 1), ("box_convs", 0), ("anchor", 1), ("rois", 1), ("proposals", 1),
                            ("max_detections", 1)):  # fmt: skip
            if getattr(self, name) < least:
                raise ValueError(f"model.{name} ({getattr(self, name)}) must be at least {least}.")
        if not 0 <= self.score_threshold < 1:
            raise ValueError(f"model.score_threshold ({self.score_threshold}) must be in [0, 1); Detectron's is 0.05.")

    @property
    def depth(self) -> int:
        """Layers of the body."""
        return DETECTORS[self.name].depth

    @property
    def kind(self) -> str:
        """How the feature maps are used: `fpn` or `c4`."""
        return DETECTORS[self.name].kind


def detector_spec(options: Mapping[str, Any]) -> DetectorSpec:
    """Return the options `model.*` as a record.

    Raises:
        ValueError: an unknown option, or a value out of its range.
    """
    known = [field.name for field in fields(DetectorSpec)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(f"unknown option model.{unknown[0]}; use one of {', '.join(known)}.")
    return DetectorSpec(**options)
