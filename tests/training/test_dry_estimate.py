import pytest

from vidgn.training.dry_estimate import GPUS, Job, estimate_cost, memory_gib, needed_cores

# The paper's 64-frame cell: 104 epochs of 246,535 videos, 65.66 G multiply-adds per clip, 30 views of 85.86 G each.
JOB = Job(
    train_clips=104 * 246_535, test_views=19_881 * 30, macs=65_660_000_000, test_macs=85_860_000_000,
    activation_bytes=4 * 2**30, parameter_bytes=28_043_472 * 4, batch=4,
)  # fmt: skip
MACHINE = {"gpus": 8, "cores": 96, "utilization": 0.25, "dollars": None, "half": False}


def expect(**changes):
    machine = MACHINE | {"gpu": "A100-80GB", "read_seconds": 0.01, "test_read_seconds": 0.01} | changes
    return estimate_cost(JOB, **machine)


def test_hours_follow_from_multiply_adds_where_the_net_limits():
    found = expect()
    # 8 x 156 TFLOP/s x 0.25 = 312e12 a second; a step takes 6 x 65.66e9 operations per clip: 791.96 clips a second
    assert found.net_rate == pytest.approx(791.96, abs=0.01)
    assert found.read_rate == pytest.approx(9600)
    assert found.limit == "the net"
    assert found.hours == pytest.approx(8.993, abs=0.001)  # 25,639,640 / 791.96 / 3600
    # 596,430 views at 312e12 / (2 x 85.86e9) = 1816.9 a second
    assert found.test_hours == pytest.approx(0.0912, abs=0.0001)
    assert found.dollars == pytest.approx((8.993 + 0.0912) * 8 * GPUS["A100-80GB"].dollars, rel=1e-3)


def test_reading_limits_where_cores_are_few():
    found = expect(cores=8, read_seconds=0.1)
    assert found.limit == "reading"
    assert found.hours == pytest.approx(104 * 246_535 / 80 / 3600)
    assert needed_cores(found, read_seconds=0.1) == 80  # 791.96 clips a second x 0.1 s


def test_half_precision_is_faster_and_smaller():
    full, half = expect(), expect(half=True)
    assert half.net_rate == pytest.approx(2 * full.net_rate)  # 312 against 156
    assert memory_gib(JOB, half=False) == pytest.approx(16 + 3 * 28_043_472 * 4 / 2**30)
    assert memory_gib(JOB, half=True) == pytest.approx(8 + 3 * 28_043_472 * 4 / 2**30)


def test_a_job_that_does_not_fit_is_told():
    assert expect().fits
    assert not estimate_cost(
        JOB._replace(batch=6), gpu="RTX4090-24GB", read_seconds=1, test_read_seconds=1, **MACHINE
    ).fits


def test_a_price_of_ones_own_is_taken():
    assert expect(dollars=2.0).dollars == pytest.approx((8.993 + 0.0912) * 8 * 2, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gpu": "TPU"}, r"trainer\.dry\.gpu \(TPU\) is unknown; use one of V100-32GB"),
        ({"gpus": 0}, r"trainer\.dry\.gpus \(0\)"),
        ({"cores": 0}, r"cores \(0\) must be at least 1"),
        ({"utilization": 0.0}, r"utilization \(0\.0\) in"),
        ({"utilization": 1.5}, r"utilization \(1\.5\) in"),
    ],
)
def test_machines_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        expect(**changes)
