"""What a test leaves behind: metrics.json, detections.json and a line on the screen."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities import rank_zero_only

from vidgn.detection.metric import Record
from vidgn.files.outputs import replacing
from vidgn.runs.environment import versions
from vidgn.terminal.console import say

DETECTIONS = "detections.json"


class PrecisionResult(NamedTuple):
    """The outcome of a test.

    Attributes:
        precision: AP, AP50 and AP75 of boxes and masks in percent, by name.
        images_scored: images.
        protocol: how they were scored.
        folder: of the run.
    """

    precision: Mapping[str, float]
    images_scored: int
    protocol: str
    folder: Path


@rank_zero_only
def write_precision(
    result: PrecisionResult,
    records: Sequence[Record],
    *,
    names: Sequence[str],
    classes: Sequence[str],
    checkpoint: str | None,
    seconds: float,
    device: str,
) -> None:
    """Write metrics.json and detections.json, whole or not at all, and print the result.

    Args:
        result: of the test.
        records: of the images.
        names: of the images of the split.
        classes: in the order of their labels.
        checkpoint: the file that the weights are from.
        seconds: that the test took.
        device: where it ran.
    """
    metrics = {
        "task": "detect",
        **{name: round(value, 4) if value == value else None for name, value in result.precision.items()},
        "images_scored": result.images_scored,
        "protocol": result.protocol,
        "classes": len(classes),
        "checkpoint": checkpoint,
        "seconds": round(seconds, 1),
        "device": device,
        "versions": versions(),
    }
    rows = [row for record in records for row in detection_rows(record, names=names, classes=classes)]
    for file, content in (("metrics.json", metrics), (DETECTIONS, rows)):
        with replacing(result.folder / file) as part:
            part.write_text(
                json.dumps(content, indent=1 if file == "metrics.json" else None, ensure_ascii=False) + "\n"
            )
    say(describe_precision(result))


def describe_precision(result: PrecisionResult) -> str:
    """Return the result in one line: AP/AP50/AP75 of boxes, of masks, and how it was measured."""
    shown = []
    for kind in ("box", "mask"):
        values = [result.precision.get(f"{kind}_{name}") for name in ("ap", "ap50", "ap75")]
        if values[0] is not None:
            shown.append(f"{kind} AP/AP50/AP75 {'/'.join(f'{value:.1f}' for value in values)}")
    return f"{', '.join(shown)}; {result.images_scored:,} images; {result.protocol}"


def detection_rows(record: Record, *, names: Sequence[str], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the detections of an image as rows of COCO's result format, with names beside the numbers."""
    detections = record.found
    rows = []
    for number, (box, score, label) in enumerate(
        zip(detections["boxes"].tolist(), detections["scores"].tolist(), detections["labels"].tolist(), strict=True)
    ):
        x1, y1, x2, y2 = box
        row: dict[str, Any] = {
            "image": names[record.image],
            "class": classes[label - 1],
            "bbox": [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)],
            "score": round(score, 5),
        }
        if "masks" in detections:
            packed = detections["masks"][number]
            counts = packed["counts"]
            row["segmentation"] = {
                "size": list(packed["size"]),
                "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
            }
        rows.append(row)
    return rows
