"""Means with 95 % intervals and paired t-tests, in plain arithmetic."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple


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
    return Interval(fmean(values), t_quantile(0.975, len(values) - 1) * error, len(values))


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
    return Paired(mean, half, 2 * (1 - t_cdf(abs(mean) / error, count - 1)), count)


def t_cdf(t: float, freedom: int) -> float:
    """Return the probability that Student's t of `freedom` degrees is below `t`, to about 1e-12.

    With t = sqrt(freedom) tan(a) the density becomes cos(a)^(freedom-1), integrated here by Simpson's rule.
    """
    top, steps = math.atan(t / math.sqrt(freedom)), 2000
    width = top / steps
    weights = (1 if k in (0, steps) else 4 if k % 2 else 2 for k in range(steps + 1))
    area = width / 3 * sum(w * math.cos(k * width) ** (freedom - 1) for k, w in enumerate(weights))
    whole = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    return 0.5 + whole * area


def t_quantile(probability: float, freedom: int) -> float:
    """Return the t below which Student's t of `freedom` degrees lies with this probability, 0.5 or more."""
    low, high = 0.0, 1.0
    while t_cdf(high, freedom) < probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, freedom) < probability else (low, middle)
    return (low + high) / 2
