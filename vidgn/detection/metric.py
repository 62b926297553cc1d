"""COCO's average precision of boxes and masks, exact over any number of ranks.

Each rank keeps the detections of its own images, masks packed as run lengths; at the end the records of all ranks are
put into the order of the images and scored once, so that the number is that of one process to the last bit.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vidgn.detection.data.images import Annotated

BOX_NAMES = {"map": "box_ap", "map_50": "box_ap50", "map_75": "box_ap75"}
MASK_NAMES = {"map": "mask_ap", "map_50": "mask_ap50", "map_75": "mask_ap75"}


class Detections(NamedTuple):
    """What was found in an image.

    Attributes:
        boxes: float32 (N,4), in the pixels of the image as it was read.
        scores: float32 (N,).
        labels: int64 (N,), from 1.
        masks: uint8 (N,H,W); None where the net has none.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None


class Record(NamedTuple):
    """The detections and the objects of an image, masks as run lengths."""

    image: int
    found: Mapping[str, Any]
    objects: Mapping[str, Any]


def pack_record(index: int, detections: Detections, item: Annotated) -> Record:
    """Return what the metric must know of an image.

    Args:
        index: of the image in its split.
        detections: in it.
        item: the image as it was read, with its objects.
    """
    with_masks = detections.masks is not None
    objects: dict[str, Any] = {
        "boxes": item.boxes.cpu(), "labels": item.labels.cpu(), "iscrowd": item.crowd.cpu(), "area": item.area.cpu(),
    }  # fmt: skip
    detected: dict[str, Any] = {
        "boxes": detections.boxes.cpu().float(), "scores": detections.scores.cpu().float(),
        "labels": detections.labels.cpu(),
    }  # fmt: skip
    if detections.masks is not None and with_masks:
        detected["masks"], objects["masks"] = pack_masks(detections.masks), pack_masks(item.masks)
        detected["sides"] = objects["sides"] = tuple(item.masks.shape[1:])
    return Record(index, detected, objects)


def pack_masks(masks: Tensor) -> list[dict[str, Any]]:
    """Return masks (N,H,W) as COCO's run lengths."""
    from faster_coco_eval.core import mask as coco_mask

    return [coco_mask.encode(np.asfortranarray(mask)) for mask in masks.cpu().to(torch.uint8).numpy()]


def unpack_masks(packed: Sequence[Mapping[str, Any]], sides: tuple[int, int]) -> Tensor:
    """Return masks uint8 (N,H,W) of COCO's run lengths."""
    from faster_coco_eval.core import mask as coco_mask

    masks = np.zeros((len(packed), *sides), np.uint8)
    for number, row in enumerate(packed):
        masks[number] = coco_mask.decode(row)
    return torch.from_numpy(masks)


def gather_records(records: Sequence[Record]) -> list[Record]:
    """Return the records of all ranks in the order of the images, on every rank.

    Raises:
        RuntimeError: an image was scored twice.
    """
    parts: list[Any] = [list(records)]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        parts = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, list(records))
    merged = sorted((record for part in parts for record in part), key=lambda record: record.image)
    twice = [a.image for a, b in pairwise(merged) if a.image == b.image]
    if twice:
        raise RuntimeError(f"image {twice[0]} was scored twice; start the same command again, and please report this")
    return merged


def average_precision(records: Iterable[Record], *, masks: bool) -> dict[str, float]:
    """Return AP, AP50 and AP75 of boxes and, with `masks`, of masks, in percent.

    A value is NaN where no image has an object.

    Raises:
        ModuleNotFoundError: faster-coco-eval is not installed.
    """
    metric = _metric(masks=masks)
    for record in records:
        metric.update([_opened(record.found, masks=masks)], [_opened(record.objects, masks=masks)])
    values = metric.compute()
    prefix = "bbox_" if masks else ""
    wanted = {f"{prefix}{key}": name for key, name in BOX_NAMES.items()}
    if masks:
        wanted |= {f"segm_{key}": name for key, name in MASK_NAMES.items()}
    precision = {name: float(values[key]) for key, name in wanted.items()}
    return {name: 100 * value if value >= 0 else float("nan") for name, value in precision.items()}  # -1: no object


def require_metric() -> None:
    """Check that the metric's package is installed, before a run of days ends without it.

    Raises:
        ModuleNotFoundError: it is not.
    """
    try:
        import faster_coco_eval  # noqa: F401
    except ModuleNotFoundError as err:
        raise ModuleNotFoundError(
            "task=detect needs the package faster-coco-eval for its metric; pip install 'vidgn[detect]'."
        ) from err


def _metric(*, masks: bool) -> Any:
    require_metric()
    from torchmetrics.detection import MeanAveragePrecision

    logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)  # it prints a table of its own
    kinds: tuple[Literal["bbox", "segm"], ...] = ("bbox", "segm") if masks else ("bbox",)
    return MeanAveragePrecision(iou_type=kinds, backend="faster_coco_eval")


def _opened(values: Mapping[str, Any], *, masks: bool) -> dict[str, Any]:
    """Return what torchmetrics takes of an image."""
    plain = {key: value for key, value in values.items() if key not in ("masks", "sides")}
    if masks:
        plain["masks"] = unpack_masks(values["masks"], values["sides"]).bool()
    return plain
