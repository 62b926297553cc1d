import numpy as np
import pytest

from vidgn.scores.statistics import (
    bootstrap,
    by_class,
    calibration_error,
    macro_f1,
    mcnemar,
    mean_class,
    mean_interval,
    student_t,
    student_within,
)

LABELS = np.array([0, 0, 0, 0, 1, 1, 2])
BEST = np.array([0, 0, 0, 1, 1, 3, -1])  # the last one could not be read; no video is of class 3


def test_figures_by_class_and_their_means():
    rows = by_class(LABELS, BEST, num_classes=5)
    assert [row.recall for row in rows] == [75.0, 50.0, 0.0, None, None]
    assert [row.precision for row in rows] == [100.0, 50.0, None, 0.0, None]
    assert [row.f1 for row in rows] == [pytest.approx(600 / 7), 50.0, 0.0, 0.0, None]
    assert mean_class(rows) == pytest.approx(125 / 3)  # of the three classes with videos
    assert macro_f1(rows) == pytest.approx((600 / 7 + 50) / 4)
    assert mean_class([]) == 0.0


def test_calibration_error_is_the_mean_gap_of_score_and_accuracy():
    # 0.95, 0.95: 1 of 2 right, gap 0.45 each; 0.55: right, gap 0.45; 1.0 is in the last tenth
    assert calibration_error(np.array([True, False]), np.array([0.95, 0.95])) == pytest.approx(0.45)
    right, scores = np.array([True, False, True, True]), np.array([0.95, 0.95, 0.55, 1.0])
    assert calibration_error(right, scores) == pytest.approx((abs(2.9 - 2) + 0.45) / 4)


def test_an_interval_has_the_width_of_the_binomial():
    right = np.arange(400) % 2 == 0
    (interval,) = bootstrap([lambda rows: right[rows].mean()], 400)
    assert interval == pytest.approx((0.451, 0.549), abs=0.01)  # 0.5 +- 1.96 sqrt(0.25 / 400)
    (again,) = bootstrap([lambda rows: right[rows].mean()], 400)
    assert interval == again


def test_groups_that_are_drawn_as_a_whole_make_an_interval_wider():
    right, groups = np.repeat([True, False] * 10, 20), np.repeat(np.arange(20), 20)
    (wide,) = bootstrap([lambda rows: right[rows].mean()], 400, groups=groups)
    assert wide == pytest.approx((0.28, 0.72), abs=0.04)  # 0.5 +- 1.96 sqrt(0.25 / 20)


def test_an_interval_needs_a_video():
    with pytest.raises(ValueError, match="needs at least 1 video"):
        bootstrap([len], 0)


# scipy.stats.t.ppf(0.975, k - 1)
@pytest.mark.parametrize(
    ("num_values", "t"), [(2, 12.706205), (3, 4.302653), (4, 3.182446), (5, 2.776445), (9, 2.306004), (25, 2.063899)]
)
def test_the_interval_of_a_mean_is_students(num_values, t):
    values = np.arange(num_values, dtype=float) ** 2
    mean, low, high = mean_interval(values.tolist())
    half = t * values.std(ddof=1) / np.sqrt(num_values)
    assert (mean, low, high) == pytest.approx((values.mean(), values.mean() - half, values.mean() + half), rel=1e-6)


@pytest.mark.parametrize(("freedom", "t"), [(1, 12.706204736), (4, 2.776445105), (1000, 1.962339081)])  # printed tables
def test_the_t_of_95_percent_is_that_of_the_printed_tables(freedom, t):
    assert student_t(freedom) == pytest.approx(t, rel=1e-8)


@pytest.mark.parametrize(
    ("t", "freedom", "probability"),
    [
        (0.0, 3, 0.0),
        (1.0, 1, 0.5),  # the Cauchy distribution: 2 atan(t) / pi
        (2.0, 2, 2 / np.sqrt(6)),  # t / sqrt(2 + t^2)
        (1.812461123, 10, 0.9),
    ],
)
def test_students_distribution_agrees_with_closed_forms_and_tables(t, freedom, probability):
    assert student_within(t, freedom) == pytest.approx(probability, abs=1e-10)


def test_one_value_has_no_interval():
    with pytest.raises(ValueError, match="at least 2 values, not 1"):
        mean_interval([1.0])


def test_mcnemars_exact_test():
    # scipy.stats.binomtest(1, 10).pvalue and binomtest(25, 70).pvalue
    assert mcnemar(1, 9) == pytest.approx(0.021484375)
    assert mcnemar(9, 1) == mcnemar(1, 9)
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(0, 2000) < 1e-300
