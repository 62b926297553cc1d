import io
import json
import re
import shutil
from dataclasses import replace

import pytest
from PIL import Image

from vidgn.report import curves
from vidgn.report.curves import PACE
from vidgn.report.page import TABLE_8, table_8
from vidgn.report.read_run import Bin, Run, Scored, class_accuracy, confusion, read_run, reliability
from vidgn.report.write import run_report, training_sections


@pytest.fixture(scope="module")
def page(trained, tmp_path_factory):
    """The folder of a report of one run, and what the command printed."""
    folder, out = tmp_path_factory.mktemp("page"), io.StringIO()
    assert run_report([str(trained)], target=str(folder), out=out, as_json=True) == 0
    return folder, json.loads(out.getvalue())


@pytest.mark.slow
def test_a_run_becomes_one_page_that_needs_nothing_beside_it(page):
    folder, told = page
    assert told["page"] == f"{folder}/index.html"
    text = (folder / "index.html").read_text()
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', text) == []
    assert "http://" not in text
    assert "https://" not in text
    assert "8 frames x stride 2" in text  # no number without its protocol
    names = {path.name for path in folder.iterdir()}
    assert {"curves-gn.png", "run1-confusion.png", "run1-reliability.png"} <= names
    assert any(name.startswith("run1-strip") for name in names)


@pytest.mark.slow
def test_bn_stands_left_of_gn_on_one_axis(vidgn, trained, tmp_path):
    for name in ("gn", "bn"):
        shutil.copytree(trained, tmp_path / name, ignore=shutil.ignore_patterns("predictions.csv", "metrics.json"))
    config = (tmp_path / "bn" / "config.yaml").read_text()
    (tmp_path / "bn" / "config.yaml").write_text(config.replace("name: gn", "name: bn"))
    status, out, _ = vidgn("report", tmp_path / "gn", tmp_path / "bn", "--out", tmp_path / "page", "--json")
    assert status == 0
    assert [run["title"].partition(": ")[2][:2] for run in json.loads(out)["runs"]] == ["GN", "BN"]
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.index("error curves of BN") < page.index("error curves of GN")


@pytest.mark.slow
def test_json_has_the_numbers(trained, page):
    (run,) = page[1]["runs"]
    metrics = json.loads((trained / "metrics.json").read_text())
    assert run["video_top1"] == metrics["video_top1"]
    assert run["videos_scored"] == 12
    assert len(run["worst"]) == 10


@pytest.mark.slow
def test_videos_that_are_elsewhere_are_said(vidgn, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDGN_CACHE", str(tmp_path / "empty"))
    status, _, _ = vidgn("report", trained, "--out", tmp_path / "page")
    assert status == 0
    assert "The videos of this run are not below" in (tmp_path / "page" / "index.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no run was given; give one or more run folders of train.py"),
        (["F/gone"], "F/gone is not a folder; give run folders of train.py"),
        (["F"], "F is not a run folder: it has no config.yaml"),
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


@pytest.mark.slow
def test_table_8_is_the_papers_and_takes_only_runs_on_kinetics(trained):
    assert TABLE_8["gn", 64, 4] == (74.5, 91.7)
    assert TABLE_8["bn", 32, 4] == (72.1, 90.0)
    run = read_run(trained)
    words = {"norm": {"name": "gn"}, "clip_len": 32, "batch": 8}
    metrics = {"video_top1": 72.9, "video_top5": 90.5, "videos_scored": 19761}
    kinetics = Run(run.folder, {**words, "data": {"name": "kinetics400"}}, {}, {}, metrics, ())
    motions = Run(run.folder, {**words, "data": {"name": "motions"}}, {}, {}, metrics, ())
    assert "paper 73.0 / 90.6; ours 72.9 / 90.5 (n = 19761)" in table_8([kinetics])
    assert table_8([motions]) == ""
    assert "72.9" not in table_8([motions, Run(run.folder, {**kinetics.config, "batch": 4}, {}, {}, {}, ())])


@pytest.mark.slow
def test_a_folder_of_runs_is_all_of_its_runs(vidgn, trained, tmp_path):
    for name in ("b", "a"):
        shutil.copytree(trained, tmp_path / "runs" / name, ignore=shutil.ignore_patterns("predictions.csv", "*.ckpt"))
    (tmp_path / "runs" / "notes").mkdir()
    status, out, err = vidgn("report", tmp_path / "runs", "--out", tmp_path / "page", "--json")
    assert status == 0, err
    assert [run["folder"] for run in json.loads(out)["runs"]] == [f"{tmp_path}/runs/a", f"{tmp_path}/runs/b"]


@pytest.mark.slow
def test_two_runs_have_two_colours(trained):
    run = read_run(trained)
    figure = curves.curves([run, run], top=100.0)
    drawn = [line.get_color() for line in figure.axes[0].get_lines() if len(line.get_xdata())]
    assert len(set(drawn)) == 2


@pytest.mark.slow
def test_a_run_draws_its_curves_as_it_goes(trained):
    with Image.open(trained / "curves.png") as picture:
        assert picture.width == 1120
        assert picture.height in (400, 770)  # one row, or two where more was recorded
    assert not (trained / "curves.png.part").exists()


@pytest.mark.slow
def test_the_percentiles_of_figure_6_are_recorded_and_drawn(trained, page):
    run = read_run(trained)
    assert run.layer == "res5"
    values = [run.percentiles[rank][1] for rank in (1, 20, 80, 99)]  # of the first epoch
    assert values == sorted(values)
    assert (page[0] / "run1-percentiles.png").is_file()
    assert "the last convolution of res5" in (page[0] / "index.html").read_text()


@pytest.mark.slow
def test_what_was_not_recorded_is_said(trained):
    run = replace(read_run(trained), pace={"pace/memory_gb": [(10, 1.5)]}, percentiles={})
    drawn = []
    (section,) = training_sections(run, 1, lambda name, alt, figure: drawn.append(name))
    assert drawn == ["run1-pace-memory_gb"]
    assert section.parts[-1] == "<p>not recorded: throughput (clips/s), waiting for data (%)</p>"


@pytest.mark.slow
def test_speed_over_the_steps_is_drawn(tmp_path, trained):
    run = replace(read_run(trained), pace={name: [(10, 4.0), (20, 6.0)] for name in PACE})
    for name, label in PACE.items():
        (line,) = curves.pace(run.pace[name], label=label).axes[0].lines
        assert line.get_xydata().tolist() == [[10, 4], [20, 6]]
    many = [(step, float(step)) for step in range(1, 1001)]
    (line,) = curves.pace(many, label="").axes[0].lines
    assert line.get_xydata()[0].tolist() == [3, 3]  # the mean of steps 1..5: 200 points of 1,000
