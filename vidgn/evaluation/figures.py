"""The figures of a test beside its accuracies: mean-class accuracy, macro F1, calibration, intervals, classes.csv."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from vidgn.escape import plain_cell
from vidgn.predictions import Prediction
from vidgn.statistics import bootstrap, by_class, calibration_error, macro_f1, mean_class

CLASSES = "classes.csv"


def figures(predictions: Sequence[Prediction], *, num_classes: int) -> dict[str, Any]:
    """Return what metrics.json has beside the accuracies, rounded; intervals are of 95 %, over videos."""
    if not predictions:
        return {}
    labels, best, top = _columns(predictions)
    right = labels == best
    scored = best >= 0

    def class_mean(rows: np.ndarray[Any, np.dtype[np.int64]]) -> float:
        videos = np.bincount(labels[rows], minlength=num_classes)
        hits = np.bincount(labels[rows][right[rows]], minlength=num_classes)
        return 100 * float((hits[videos > 0] / videos[videos > 0]).mean())

    top1, by_classes = bootstrap([lambda rows: 100 * float(right[rows].mean()), class_mean], len(labels))
    rows = by_class(labels, best, num_classes=num_classes)
    return {
        "mean_class": round(mean_class(rows), 4),
        "macro_f1": round(macro_f1(rows), 4),
        "calibration_error": round(calibration_error(right[scored], top[scored]), 6),
        "intervals": {
            "video_top1": [round(value, 4) for value in top1],
            "mean_class": [round(value, 4) for value in by_classes],
        },
    }


def class_table(predictions: Sequence[Prediction], classes: Sequence[str]) -> str:
    """Return classes.csv: one row per class, in the order of the labels; empty where nothing can be said."""
    labels, best, _ = _columns(predictions)
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["class", "videos", "predicted", "right", "recall", "precision", "f1"])
    for name, row in zip(classes, by_class(labels, best, num_classes=len(classes)), strict=True):
        shares = ["" if value is None else f"{value:.4f}" for value in (row.recall, row.precision, row.f1)]
        writer.writerow([plain_cell(name), row.videos, row.predicted, row.right, *shares])
    return table.getvalue()


def _columns(predictions: Sequence[Prediction]) -> tuple[Any, Any, Any]:
    """Return labels, best classes (-1: none; of equal scores the first) and their scores, (N,) each."""
    labels = np.array([item.label for item in predictions], np.int64)
    best = np.array([-1 if item.scores is None else int(np.argmax(item.scores)) for item in predictions], np.int64)
    top = np.array([0.0 if item.scores is None else max(item.scores) for item in predictions], np.float64)
    return labels, best, top
