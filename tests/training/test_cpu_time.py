"""A job of many hours on a CPU is announced, with ways out."""

import pytest

from vidgn.training.cpu_time import long_job_note, training_hours

FULL = {"num_videos": 647, "epochs": 100, "width": 64, "clip_len": 32, "crop": 224, "num_threads": 2}


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        ({"epochs": 50}, 0.5),
        ({"num_videos": 1294}, 2),
        ({"width": 16}, 1 / 16),
        ({"crop": 112}, 1 / 4),
        ({"clip_len": 64}, 2),
        ({"num_threads": 8}, 1 / 4),
        ({"frozen": True}, 1 / 3),
    ],
)
def test_the_estimate_follows_the_size_of_the_job(change, factor):
    assert training_hours(**{**FULL, **change}) == pytest.approx(factor * training_hours(**FULL))


def test_only_long_jobs_are_announced():
    assert long_job_note(2.9) is None
    assert "roughly 44 hours" in long_job_note(44.2)
    assert "roughly 10 days" in long_job_note(240)
    assert "trainer=dry" in long_job_note(240)
