import math

import pytest

from experiments.stats import interval, paired, t_cdf, t_quantile


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),
    [
        (0.975, 1, 12.706204736),  # printed tables of Student's t
        (0.975, 4, 2.776445105),
        (0.95, 10, 1.812461123),
        (0.975, 1000, 1.962339081),
    ],
)
def test_quantiles_are_those_of_the_printed_tables(probability, freedom, expected):
    assert t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("t", "freedom", "expected"),
    [
        (0.0, 3, 0.5),
        (1.0, 1, 0.75),  # the Cauchy distribution: 1/2 + atan(t)/pi
        (-1.0, 1, 0.25),
        (2.0, 2, 0.5 + 1 / math.sqrt(6)),  # closed form of two degrees: 1/2 + t / (2 sqrt(2 + t^2))
    ],
)
def test_the_distribution_agrees_with_closed_forms(t, freedom, expected):
    assert t_cdf(t, freedom) == pytest.approx(expected, abs=1e-11)


def test_an_interval_of_five_values():
    # mean 3, standard deviation sqrt(2.5), half = 2.776445 * sqrt(2.5 / 5)
    assert interval([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx((3.0, 1.9632431615, 5))


def test_one_value_has_no_interval():
    mean, half, runs = interval([4.0])
    assert (mean, runs) == (4.0, 1)
    assert math.isnan(half)


def test_a_paired_test_of_a_textbook_sample():
    # differences -2, -1, 0, 1, 7: mean 1, s = sqrt(12.5), t = 1 / (s / sqrt 5) = 0.632456, 4 degrees
    found = paired([1.0, 2.0, 3.0, 4.0, 10.0], [3.0, 3.0, 3.0, 3.0, 3.0])
    assert found.mean == 1.0
    assert found.half == pytest.approx(2.776445105 * math.sqrt(12.5 / 5), rel=1e-8)
    assert found.p == pytest.approx(0.5614, abs=1e-4)


def test_equal_runs_are_no_evidence_and_constant_ones_are_certain():
    assert paired([1.0, 2.0], [1.0, 2.0]).p == 1.0
    assert paired([2.0, 3.0], [1.0, 2.0]).p == 0.0


def test_runs_that_do_not_pair_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        paired([1.0], [1.0, 2.0])
