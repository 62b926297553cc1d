"""The figures of a test beside its accuracies: mean-class accuracy, macro F1, calibration, intervals, classes.csv."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidgn.data.manifests.manifest import Manifest
from vidgn.data.module import target_rows
from vidgn.scores.predictions import Prediction, label_ranks
from vidgn.scores.statistics import (
    FAILED,
    ClassFigures,
    RankedScores,
    bootstrap,
    by_class,
    calibration_error,
    macro_f1,
    mean_class,
)
from vidgn.terminal.escape import plain_cell

CLASSES = "classes.csv"
MOST_RESAMPLED = 2_000_000  # scores of a test whose mean average precision gets an interval: it takes half a minute


def figures(predictions: Sequence[Prediction], manifest: Manifest) -> dict[str, Any]:
    """Return what metrics.json has beside the accuracies, rounded; intervals are of 95 %, over videos or groups."""
    if not predictions:
        return {}
    kind = manifest.targets.kind
    numbers = {"one": _of_one, "many": _of_many, "heads": _of_heads}[kind](predictions, manifest)
    groups = _groups(predictions, manifest)
    over = {"intervals_over": "videos"} if groups is None else {"intervals_over": "groups", "groups": _count(groups)}
    return {**numbers, **over}


def _of_one(predictions: Sequence[Prediction], manifest: Manifest) -> dict[str, Any]:
    num_classes = len(manifest.classes)
    labels, best, top = _columns(predictions)
    right = labels == best
    scored = best >= 0

    def class_mean(rows: np.ndarray[Any, np.dtype[np.int64]]) -> float:
        videos = np.bincount(labels[rows], minlength=num_classes)
        hits = np.bincount(labels[rows][right[rows]], minlength=num_classes)
        return 100 * float((hits[videos > 0] / videos[videos > 0]).mean())

    rows = by_class(labels, best, num_classes=num_classes)
    return {
        "mean_class": round(mean_class(rows), 4),
        "macro_f1": round(macro_f1(rows), 4),
        "calibration_error": round(calibration_error(right[scored], top[scored]), 6),
        "intervals": _intervals(
            {"video_top1": lambda rows: 100 * float(right[rows].mean()), "mean_class": class_mean},
            predictions,
            manifest,
        ),
    }


def _of_many(predictions: Sequence[Prediction], manifest: Manifest) -> dict[str, Any]:
    """Return the mean average precision over the classes that have videos."""
    scores, dense = _tables(predictions, manifest)
    ranked = RankedScores(scores, dense > 0)
    right = dense[np.arange(len(dense)), scores.argmax(1)] * (scores[:, 0] != FAILED) > 0
    of: dict[str, Callable[[Any], float]] = {"video_top1": lambda rows: 100 * float(right[rows].mean())}
    if scores.size <= MOST_RESAMPLED:
        of["map"] = lambda rows: ranked.mean(np.bincount(rows, minlength=len(scores)).astype(np.float64))
    return {
        "map": round(ranked.mean(), 4),
        "classes_with_videos": int((dense.sum(0) > 0).sum()),
        "intervals": _intervals(of, predictions, manifest),
    }


def _of_heads(predictions: Sequence[Prediction], manifest: Manifest) -> dict[str, Any]:
    """Return the figures of each head; the joint ones are `video_top1` and `video_top5`."""
    scores, dense = _tables(predictions, manifest)
    is_scored = scores[:, 0] != FAILED
    heads: dict[str, dict[str, float]] = {}
    right = np.ones(len(scores), bool)
    of: dict[str, Callable[[Any], float]] = {"video_top1": lambda rows: 100 * float(right[rows].mean())}
    for (name, count), part in zip(manifest.targets.heads, manifest.targets.slices, strict=True):
        labels = dense[:, part].argmax(1)
        ranks = label_ranks(torch.from_numpy(scores[:, part]), torch.from_numpy(labels)).numpy()
        ranks = np.where(is_scored, ranks, count)
        best = np.where(is_scored, scores[:, part].argmax(1), -1)
        rows = by_class(labels, best, num_classes=count)
        top = {f"top{k}": round(100 * float((ranks < k).mean()), 4) for k in (1, 5)}
        heads[name] = {**top, "mean_class": round(mean_class(rows), 4)}
        of[f"{name}_top1"] = lambda rows, hit=ranks < 1: 100 * float(hit[rows].mean())  # type: ignore[misc]
        right &= ranks < 1
    return {"heads": heads, "intervals": _intervals(of, predictions, manifest)}


def _intervals(
    of: Mapping[str, Callable[[Any], float]], predictions: Sequence[Prediction], manifest: Manifest
) -> dict[str, list[float]]:
    groups = _groups(predictions, manifest)
    if groups is not None and _count(groups) < 2:
        return {}
    pairs = bootstrap(list(of.values()), len(predictions), groups=groups)
    return {name: [round(value, 4) for value in pair] for name, pair in zip(of, pairs, strict=True)}


def _groups(predictions: Sequence[Prediction], manifest: Manifest) -> NDArray[np.int64] | None:
    """Return the group of each video that has a prediction."""
    return None if manifest.groups is None else manifest.groups[[item.video for item in predictions]]


def _count(groups: NDArray[np.int64]) -> int:
    return len(np.unique(groups))


def _tables(predictions: Sequence[Prediction], manifest: Manifest) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return the scores of all videos, `FAILED` where they could not be read, and their targets, (N, Q) each."""
    failed = [FAILED] * len(manifest.classes)
    scores = np.array([failed if item.scores is None else item.scores for item in predictions], np.float64)
    rows = target_rows(manifest)
    assert rows is not None
    return scores, rows([item.video for item in predictions]).numpy()


def class_table(predictions: Sequence[Prediction], manifest: Manifest) -> str:
    """Return classes.csv: one row per class, in the order of the labels; empty where nothing can be said."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    if manifest.targets.kind == "many":
        scores, dense = _tables(predictions, manifest) if predictions else (np.zeros((0, 0)), np.zeros((0, 0)))
        writer.writerow(["class", "videos", "average_precision"])
        precision = RankedScores(scores, dense > 0).by_class() if predictions else np.zeros(0)
        for name, count, value in zip(manifest.classes, dense.sum(0).astype(int), precision, strict=False):
            writer.writerow([plain_cell(name), count, "" if np.isnan(value) else f"{100 * value:.4f}"])
        return table.getvalue()
    writer.writerow(["class", "videos", "predicted", "right", "recall", "precision", "f1"])
    for name, row in zip(manifest.classes, _class_rows(predictions, manifest), strict=True):
        shares = ["" if value is None else f"{value:.4f}" for value in (row.recall, row.precision, row.f1)]
        writer.writerow([plain_cell(name), row.videos, row.predicted, row.right, *shares])
    return table.getvalue()


def _class_rows(predictions: Sequence[Prediction], manifest: Manifest) -> list[ClassFigures]:
    """Return the figures of each class, of heads those of each head after one another."""
    if manifest.targets.kind == "one" or not predictions:
        labels, best, _ = _columns(predictions)
        return by_class(labels, best, num_classes=len(manifest.classes))
    scores, dense = _tables(predictions, manifest)
    rows: list[ClassFigures] = []
    for (_, count), part in zip(manifest.targets.heads, manifest.targets.slices, strict=True):
        best = np.where(scores[:, 0] != FAILED, scores[:, part].argmax(1), -1)
        rows += by_class(dense[:, part].argmax(1), best, num_classes=count)
    return rows


def _columns(predictions: Sequence[Prediction]) -> tuple[Any, Any, Any]:
    """Return labels, best classes (-1: none; of equal scores the first) and their scores, (N,) each."""
    labels = np.array([item.label for item in predictions], np.int64)
    best = np.array([-1 if item.scores is None else int(np.argmax(item.scores)) for item in predictions], np.int64)
    top = np.array([0.0 if item.scores is None else max(item.scores) for item in predictions], np.float64)
    return labels, best, top
