"""What a test leaves behind: metrics.json, predictions.csv and a few lines on the screen."""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities import rank_zero_only

from vidgn.data.manifests.manifest import Manifest
from vidgn.data.passports.subset import subset_words
from vidgn.evaluation.answers import figure_lines, labels_of, ranked_answers
from vidgn.evaluation.figures import CLASSES, class_table
from vidgn.files.whole_files import PART
from vidgn.runs.environment import versions
from vidgn.runs.split import trained_on_note
from vidgn.scores.predictions import Prediction
from vidgn.terminal.escape import plain_cell, printable

TOP = 5  # classes per video in predictions.csv


class Result(NamedTuple):
    """The outcome of a test; accuracies in percent over scored and failed videos, failed ones counted as wrong."""

    video_top1: float
    video_top5: float
    clip_top1: float
    clip_top5: float
    videos_expected: int
    videos_scored: int
    videos_failed: int
    protocol: str
    folder: Path


@rank_zero_only
def write_result(
    result: Result,
    predictions: Sequence[Prediction],
    manifest: Manifest,
    *,
    checkpoint: str | Path | None,
    seconds: float,
    device: str,
    numbers: Mapping[str, Any],
    trained_on: Sequence[str] | None = None,
    part: Sequence[str] = (),
) -> None:
    """Write metrics.json, classes.csv and predictions.csv, each whole or not at all.

    `numbers` are those of `vidgn.evaluation.figures`. `trained_on` names the test videos that the weights were trained
    on; None: unknown. `part` says which part of the test a limit left.
    """
    result.folder.mkdir(parents=True, exist_ok=True)
    metrics = {
        **{name: value for name, value in result._asdict().items() if name != "folder"},
        **numbers,
        "failures": {manifest.video_id(item.video): item.error for item in predictions if item.error is not None},
        "classes": len(manifest.classes),
        "trained_on": None if trained_on is None else len(trained_on),
        "part_of_the_test": [*subset_words(manifest), *part],
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "seconds": round(seconds, 1),
        "device": device,
        "versions": versions(),
    }
    _replace(result.folder / "metrics.json", json.dumps(metrics, indent=1, ensure_ascii=False) + "\n")
    _replace(result.folder / CLASSES, class_table(predictions, manifest))
    top = min(TOP, len(manifest.classes))
    header = [
        "video",
        "label",
        *(f"{part}{k}" for k in range(1, top + 1) for part in ("class", "score")),
        "error",
        *([] if manifest.groups is None else ["group"]),
    ]
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(header)
    for item in predictions:
        cells = [manifest.video_id(item.video), labels_of(item.video, manifest), *ranked_answers(item, manifest, top)]
        group = manifest.group(item.video)
        end = [item.error or "", *([] if group is None else [group])]
        writer.writerow([plain_cell(cell) for cell in [*cells, *end]])
    _replace(result.folder / "predictions.csv", table.getvalue())


@rank_zero_only
def print_result(
    result: Result,
    failed: Sequence[Prediction],
    manifest: Manifest,
    *,
    numbers: Mapping[str, Any],
    trained_on: Sequence[str] | None = None,
) -> None:
    """Print the accuracies, how they came about, which videos failed and which were trained on."""
    if trained_on:
        print(printable(f"WARNING: {trained_on_note(trained_on, num_videos=len(manifest))}"))
    for item in failed[:10]:
        print(printable(f"failed: {manifest.video_id(item.video)}: {item.error}"))
    if len(failed) > 10:
        print(f"... and {len(failed) - 10} more, listed in metrics.json")
    print(
        f"\n          top-1    top-5\n"
        f"video   {result.video_top1:6.2f} % {result.video_top5:6.2f} %\n"
        f"clip    {result.clip_top1:6.2f} % {result.clip_top5:6.2f} %\n"
        f"{''.join(f'{line}{chr(10)}' for line in figure_lines(numbers))}"
        f"{result.protocol}\n"
        f"videos: {result.videos_scored} scored / {result.videos_expected} expected / {result.videos_failed} failed"
        f"{' (counted as wrong)' if result.videos_failed else ''}{_not_scored(result)}\n"
        f"{result.folder.absolute()}",
        flush=True,
    )


def _not_scored(result: Result) -> str:
    left = result.videos_expected - result.videos_scored - result.videos_failed
    return f" / {left} NOT SCORED: this is a part of the test" if left else ""


def _replace(path: Path, text: str) -> None:
    """Write a text whole or not at all."""
    part = path.with_name(path.name + PART)
    with part.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
