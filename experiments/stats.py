"""Means with 95 % intervals and paired t-tests, in plain arithmetic."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from vidgn.scores.statistics import student_t, student_within


class Interval(NamedTuple):
    """A mean and half of its 95 % confidence interval; `nan` where there is one value only."""

    mean: float
    half: float
    runs: int


class Paired(NamedTuple):
    """A mean of differences, half of its 95 % interval, and the two-sided p of a paired t-test."""

    mean: float
    half: float
    p: float
    runs: int


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of independent values and its interval by Student's t.

    >>> [round(x, 3) for x in interval([1.0, 2.0, 3.0, 4.0, 5.0])]
    [3.0, 1.963, 5]
    """
    if len(values) < 2:
        return Interval(fmean(values), math.nan, len(values))
    error = stdev(values) / math.sqrt(len(values))
    return Interval(fmean(values), student_t(len(values) - 1) * error, len(values))


def paired(one: Sequence[float], other: Sequence[float]) -> Paired:
    """Compare values that belong together, as those of one seed: mean of `one - other`.

    Raises:
        ValueError: not as many of one as of the other.
    """
    differences = [a - b for a, b in zip(one, other, strict=True)]
    mean, half, count = interval(differences)
    if count < 2:
        return Paired(mean, half, math.nan, count)
    error = stdev(differences) / math.sqrt(count)
    if error == 0:
        return Paired(mean, half, 1.0 if mean == 0 else 0.0, count)
    return Paired(mean, half, 1 - student_within(abs(mean) / error, count - 1), count)
