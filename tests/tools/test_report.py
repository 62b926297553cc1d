import json
import re
import shutil

import pytest

from vidgn.tools.cli import main
from vidgn.tools.report_page import TABLE_8, table_8
from vidgn.tools.report_read import Bin, Run, Scored, class_accuracy, confusion, read_run, reliability


@pytest.fixture
def vidgn(capsys):
    """Run `vidgn WORDS`; return (exit status, stdout, stderr)."""

    def run(*words):
        with pytest.raises(SystemExit, match=r"^\d+$") as stop:
            main([str(word) for word in words])
        return stop.value.code, *capsys.readouterr()

    return run


def test_a_run_becomes_one_page_that_needs_nothing_beside_it(vidgn, trained, tmp_path):
    status, out, _ = vidgn("report", trained, "--out", tmp_path)
    assert status == 0
    assert out.startswith(f"{tmp_path}/index.html: 1 runs, ")
    page = (tmp_path / "index.html").read_text()
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', page) == []
    assert "http://" not in page
    assert "https://" not in page
    assert "8 frames x stride 2" in page  # no number without its protocol
    names = {path.name for path in tmp_path.iterdir()}
    assert {"curves-gn.png", "curves-gn-dark.png", "run1-confusion.png", "run1-reliability.png"} <= names
    assert any(name.startswith("run1-strip") for name in names)


def test_bn_stands_left_of_gn_on_one_axis(vidgn, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "bn")
    config = (tmp_path / "bn" / "config.yaml").read_text()
    (tmp_path / "bn" / "config.yaml").write_text(config.replace("name: gn", "name: bn"))
    status, out, _ = vidgn("report", trained, tmp_path / "bn", "--out", tmp_path / "page", "--json")
    assert status == 0
    assert [run["title"].partition(": ")[2][:2] for run in json.loads(out)["runs"]] == ["GN", "BN"]
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.index("error curves of BN") < page.index("error curves of GN")


def test_json_has_the_numbers(vidgn, trained, tmp_path):
    _, out, _ = vidgn("report", trained, "--out", tmp_path, "--json")
    (run,) = json.loads(out)["runs"]
    metrics = json.loads((trained / "metrics.json").read_text())
    assert run["video_top1"] == metrics["video_top1"]
    assert run["videos_scored"] == 12
    assert len(run["worst"]) == 10


def test_videos_that_are_elsewhere_are_said(vidgn, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDGN_CACHE", str(tmp_path / "empty"))
    status, _, _ = vidgn("report", trained, "--out", tmp_path / "page")
    assert status == 0
    assert "The videos of this run are not on this machine" in (tmp_path / "page" / "index.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no run was given; give one or more run folders of train.py"),
        (["F/gone"], "F/gone is not a folder; give run folders of train.py"),
        (["F"], "F holds no config.yaml, so it is no run folder"),
    ],
)
def test_a_mistake_is_one_sentence(vidgn, tmp_path, words, said):
    given = [re.sub("^F", str(tmp_path), word) for word in words]
    status, _, err = vidgn("report", *given, "--out", tmp_path)
    assert status == 2
    assert re.sub("^F", str(tmp_path), said) in err


ROWS = [
    Scored("a.mp4", "run", "run", 0.9, ""),
    Scored("b.mp4", "run", "sit", 0.7, ""),
    Scored("c.mp4", "sit", "sit", 0.95, ""),
    Scored("d.mp4", "sit", None, 0.0, "empty file"),
]


def test_confusion_counts_what_was_taken_for_what():
    assert confusion(ROWS) == (["run", "sit"], [[1, 1], [0, 1]])


def test_failed_videos_count_as_wrong_in_their_class():
    assert class_accuracy(ROWS) == [("run", 50.0, 2), ("sit", 50.0, 2)]
    assert class_accuracy(ROWS[2:3]) == [("sit", 100.0, 1)]


def test_the_calibration_error_is_the_weighted_gap():
    """Tenth 0.7: score 0.7, none right; tenth 0.9: mean score 0.925, both right."""
    bins, error = reliability(ROWS)
    assert bins == [Bin(1, 0.7, 0.0), Bin(2, pytest.approx(0.925), 1.0)]
    assert error == pytest.approx((0.7 + 2 * 0.075) / 3)
    assert reliability([]) == ([], 0.0)


def test_table_8_is_the_papers_and_takes_only_runs_on_kinetics(trained):
    assert TABLE_8["gn", 64, 4] == (74.5, 91.7)
    assert TABLE_8["bn", 32, 4] == (72.1, 90.0)
    run = read_run(trained)
    words = {"norm": {"name": "gn"}, "clip_len": 32, "batch": 8}
    metrics = {"video_top1": 72.9, "video_top5": 90.5, "videos_scored": 19761}
    kinetics = Run(run.folder, {**words, "data": {"name": "kinetics400"}}, {}, {}, metrics, ())
    motions = Run(run.folder, {**words, "data": {"name": "motions"}}, {}, {}, metrics, ())
    assert "paper 73.0 / 90.6; ours 72.9 / 90.5 (n = 19761)" in table_8([kinetics])
    assert "72.9" not in table_8([motions])
