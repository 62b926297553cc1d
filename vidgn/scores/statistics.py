"""Figures of a test beside its accuracy: by class, calibration, intervals, and the comparison of two tests.

    recall of class c      right videos of c / videos of c              mean over classes: mean-class accuracy
    precision of class c   right videos of c / videos predicted as c
    F1 of class c          2 right / (videos of c + predicted as c)     mean over classes: macro F1
    calibration error      sum over tenths of the score of |mean score - accuracy|, weighted by videos
                           (Guo et al. 2017, arXiv 1706.04599, eq. 3)
    interval               2.5 and 97.5 % of `RESAMPLES` means of videos drawn with replacement (Efron 1979)

    average precision      of class c: sum over scores s, falling, of (recall(s) - recall before s) precision(s), where
                           videos with a score of s or more are called c; mean over the classes that have videos
                           (scikit-learn, average_precision_score)

A video that could not be read has no best class (-1): it counts as wrong, and is predicted as nothing.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
FAILED = -1.0  # score of a video that could not be read, for the average precision: it comes last
_BINS = 10

Labels = NDArray[np.int64]
Interval = tuple[float, float]


class ClassFigures(NamedTuple):
    """One class of a test; shares in percent, None where there is nothing to take a share of.

    Attributes:
        videos: of the class.
        predicted: videos whose best class it is.
        right: both.
        recall: right / videos.
        precision: right / predicted.
        f1: their harmonic mean.
    """

    videos: int
    predicted: int
    right: int
    recall: float | None
    precision: float | None
    f1: float | None


def by_class(labels: Labels, best: Labels, *, num_classes: int) -> list[ClassFigures]:
    """Return the figures of each class.

    Args:
        labels: of the videos, (N,).
        best: their best classes, (N,); -1 where there is none.
        num_classes: Q.

    >>> by_class(np.array([0, 0, 1]), np.array([0, 1, 1]), num_classes=2)[0]
    ClassFigures(videos=2, predicted=1, right=1, recall=50.0, precision=100.0, f1=66.66666666666667)
    """
    videos = np.bincount(labels, minlength=num_classes).tolist()
    predicted = np.bincount(best[best >= 0], minlength=num_classes).tolist()
    right = np.bincount(labels[labels == best], minlength=num_classes).tolist()
    return [
        ClassFigures(n, p, r, _percent(r, n), _percent(r, p), _percent(2 * r, n + p))
        for n, p, r in zip(videos, predicted, right, strict=True)
    ]


def mean_class(rows: Sequence[ClassFigures]) -> float:
    """Return the mean recall in percent over the classes that have videos."""
    return _mean([row.recall for row in rows])


def macro_f1(rows: Sequence[ClassFigures]) -> float:
    """Return the mean F1 in percent over the classes that have videos or are predicted."""
    return _mean([row.f1 for row in rows])


def calibration_error(right: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Return the expected calibration error, 0 to 1.

    Args:
        right: whether the best class is the label, of the videos that have scores.
        scores: of the best class.
    """
    bins = np.minimum((scores * _BINS).astype(np.int64), _BINS - 1)
    gaps = [abs(float(scores[bins == k].sum() - right[bins == k].sum())) for k in range(_BINS)]
    return sum(gaps) / max(1, len(scores))


class RankedScores:
    """Scores that are sorted once, to take the average precision of all videos and of many resamples of them.

    Args:
        scores: (N, Q).
        positive: whether a video has a class, (N, Q).

    >>> round(RankedScores(np.array([[0.9], [0.8], [0.1]]), np.array([[True], [False], [True]])).mean(), 3)
    83.333
    """

    def __init__(self, scores: NDArray[np.floating[Any]], positive: NDArray[np.bool_]) -> None:
        self.order = np.argsort(-scores, axis=0, kind="stable")  # (N, Q)
        self.positive = np.take_along_axis(positive, self.order, 0)
        falling = np.take_along_axis(scores, self.order, 0)
        is_last = np.ones(scores.shape, bool)
        is_last[:-1] = falling[1:] != falling[:-1]
        row = np.where(is_last, np.arange(len(scores))[:, None], len(scores))
        self.ends = np.minimum.accumulate(row[::-1], 0)[::-1]  # the last row with the same score

    def by_class(self, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Return the average precision of each class from 0 to 1, (Q,); NaN where no video has it.

        Args:
            weights: how often each video counts, (N,).
        """
        counts = np.ones(len(self.order)) if weights is None else weights
        weight = counts[self.order]
        hits = weight * self.positive
        true_positives = np.take_along_axis(hits.cumsum(0), self.ends, 0)
        called = np.take_along_axis(weight.cumsum(0), self.ends, 0)
        precision = true_positives / np.maximum(called, 1)
        total = hits.sum(0)
        return np.where(total > 0, (hits * precision).sum(0) / np.where(total > 0, total, 1), np.nan)

    def mean(self, weights: NDArray[np.float64] | None = None) -> float:
        """Return the mean over the classes in percent."""
        values = self.by_class(weights)
        there = values[~np.isnan(values)]
        return 100 * float(there.mean()) if len(there) else 0.0


def bootstrap(
    figures: Sequence[Callable[[Labels], float]],
    num_items: int,
    *,
    groups: Labels | None = None,
    resamples: int = RESAMPLES,
) -> list[Interval]:
    """Return the 95 % interval of each figure, of the same resamples.

    Args:
        figures: of the rows that were drawn.
        num_items: N rows.
        groups: of each row, (N,), where rows are not independent samples: groups are drawn as a whole.
        resamples: how many.

    Raises:
        ValueError: there is no row.
    """
    if num_items < 1:
        raise ValueError("an interval needs at least 1 video.")
    members = None if groups is None else [np.flatnonzero(groups == group) for group in np.unique(groups)]
    count = num_items if members is None else len(members)
    raw = np.random.Philox(key=np.array([resamples, _STREAM], np.uint64))
    values = np.empty((resamples, len(figures)))
    for number in range(resamples):
        drawn = (raw.random_raw(count) % np.uint64(count)).astype(np.int64)
        rows = drawn if members is None else np.concatenate([members[group] for group in drawn])
        values[number] = [figure(rows) for figure in figures]
    low, high = np.percentile(values, [2.5, 97.5], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of some values and the 95 % interval of it by Student's t: mean +- t s / sqrt(k).

    The values count as independent draws of a normal distribution. Folds of a cross-validation share training videos,
    so that for them the interval is an approximation (Bengio and Grandvalet 2004).

    Raises:
        ValueError: there are fewer than two values.

    >>> mean_interval([80.0, 90.0, 100.0])[0]
    90.0
    """
    if len(values) < 2:
        raise ValueError(f"an interval of a mean needs at least 2 values, not {len(values)}.")
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    half = student_t(len(values) - 1) * deviation / math.sqrt(len(values))
    return mean, mean - half, mean + half


def student_t(freedom: int) -> float:
    """Return the t of Student's distribution with P(|T| < t) = 0.95, by bisection.

    >>> round(student_t(4), 3)
    2.776
    """
    low, high = 0.0, 13.0  # the largest is 12.706, of one degree of freedom
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_within(middle, freedom) < 0.95 else (low, middle)
    return (low + high) / 2


def student_within(t: float, freedom: int) -> float:
    """Return P(|T| < t) of Student's t with so many degrees of freedom; t is not negative.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = freedom % 2
    term, total = (cosine if is_odd else 1.0), 0.0
    for power in range(1 + is_odd, freedom, 2):
        total += term
        term *= cosine**2 * power / (power + 1)
    return 2 / math.pi * (angle + sine * total) if is_odd else sine * total


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p of McNemar's test: is one of two tests on the same videos right more often?

    Args:
        only_first: videos that only the first test has right.
        only_second: videos that only the second one has right.

    >>> mcnemar(1, 9)
    0.021484375
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(total, k) for k in range(fewer + 1))
    p: float = 2 * tail / 2**total
    return min(1.0, p)


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _mean(values: Sequence[float | None]) -> float:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else 0.0


_STREAM = int.from_bytes(b"boots", "big")  # keeps these numbers apart from other draws
