import io
import json

import pytest

from vidgn.report.compare import compare_runs, run_compare


def write(folder, answers):
    folder.mkdir()
    rows = "".join(f"{video},{label},{best},0.9,\n" for video, label, best in answers)
    (folder / "predictions.csv").write_text("video,label,class1,score1,error\n" + rows)
    return folder


@pytest.fixture
def runs(tmp_path):
    first = [(f"v{k}.mp4", "a", "a" if k < 5 else "b") for k in range(20)]
    second = [(f"v{k}.mp4", "a", "a" if 1 <= k < 15 else "b") for k in range(21)]
    return write(tmp_path / "one", first), write(tmp_path / "two", second)


@pytest.mark.slow
def test_two_runs_are_compared_on_the_videos_that_both_tested(runs):
    result = compare_runs(*runs)
    assert (result.first, result.second, result.difference) == (25.0, 70.0, 45.0)
    assert (result.videos, result.only_first, result.only_second, result.left_out) == (20, 1, 10, 1)
    assert result.p == pytest.approx(0.01171875)  # 2 (1 + 11) / 2^11
    low, high = result.interval
    assert 10 < low < 45 < high < 75
    back = compare_runs(*reversed(runs))
    assert (back.difference, back.p) == (-45.0, result.p)


@pytest.mark.slow
def test_the_command_prints_it(runs):
    out = io.StringIO()
    assert run_compare(*map(str, runs), out=out) == 0
    assert "difference +45.00 points, 95 % interval +" in out.getvalue()
    assert "1 videos right in the first alone, 10 in the second alone, p = 0.0117" in out.getvalue()
    out = io.StringIO()
    run_compare(*map(str, runs), out=out, as_json=True)
    assert json.loads(out.getvalue())["videos"] == 20


def test_a_run_compared_with_itself_is_no_better(runs):
    result = compare_runs(runs[0], runs[0])
    assert (result.difference, result.p, result.interval) == (0.0, 1.0, (0.0, 0.0))


@pytest.mark.slow
def test_what_cannot_be_compared_is_said(runs, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no predictions.csv; give a run folder"):
        compare_runs(runs[0], tmp_path)
    other = write(tmp_path / "other", [("w.mp4", "a", "a")])
    with pytest.raises(ValueError, match="have no test video in common"):
        compare_runs(runs[0], other)
    labels = write(tmp_path / "labels", [("v1.mp4", "z", "a")])
    with pytest.raises(ValueError, match=r"1 videos, such as v1.mp4, have another label"):
        compare_runs(runs[0], labels)
