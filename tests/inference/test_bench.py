"""`vidgn bench`: what it measures, what it shows, what it refuses."""

import io
import json

import pytest

from vidgn.inference import bench
from vidgn.inference.bench import run_bench

SMALL = {"model": "c2d_r50", "norm": "gn", "clip_len": 2, "crop": 32, "width": 8, "batch": 1, "device": "cpu"}


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setenv("VIDGN_CACHE", str(tmp_path))
    monkeypatch.setattr(bench, "ROUNDS", 1)
    times = {"matmul": 1.0, "conv2d over H, W": 2.0, "conv2d over T": 3.0, "fold": 4.0, "conv3d": 5.0}
    monkeypatch.setattr(
        "vidgn.models.fuse.tune._time_forms",
        lambda site, backward: {name: times[name] for name in bench_forms(site.conv)},
    )


def bench_forms(conv):
    from vidgn.models.fuse.conv import applicable_forms

    return applicable_forms(conv)


def test_the_table_shows_every_form_and_marks_the_one_taken(tmp_path):
    out = io.StringIO()
    assert run_bench(**SMALL, out=out, explained=True) == 0
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("c2d_r50, norm gn, 1 x 2 frames, 32 px, cpu, ")
    assert [line.split("  ")[1] for line in lines[1:3]] == ["as built", "fused and tuned"]
    assert lines[4] == f"forms, milliseconds of each; * is taken ({tmp_path}/convolutions.json)"
    pointwise = next(line for line in lines if "branch2.conv_c" in line)
    assert pointwise.endswith("*matmul 1.00 ms, conv2d over H, W 2.00 ms, conv2d over T 3.00 ms, conv3d 5.00 ms")


def test_without_explain_it_says_two_times():
    out = io.StringIO()
    run_bench(**SMALL, out=out)
    assert len(out.getvalue().splitlines()) == 3


def test_json_has_times_and_choices():
    out = io.StringIO()
    run_bench(**SMALL, out=out, as_json=True)
    told = json.loads(out.getvalue())
    assert set(told["seconds"]) == {"as built", "fused and tuned"}
    assert all(len(found) == 1 and found[0] > 0 for found in told["seconds"].values())
    assert sum(len(row["layers"]) for row in told["convolutions"]) == 53
    assert {row["form"] for row in told["convolutions"]} == {"matmul", "conv2d over H, W"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"model": "vgg"}, r"--model vgg is unknown; use one of i3d_r50, "),
        ({"batch": 0}, r"--batch 0 must be at least 1; 1 is a clip at a time"),
    ],
)
def test_what_cannot_be_timed_is_refused(words, message):
    with pytest.raises(ValueError, match=message):
        run_bench(**SMALL | words, out=io.StringIO())
