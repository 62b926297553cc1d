import math

import pytest

from experiments.stats import interval, paired


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
