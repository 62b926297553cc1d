"""The mean average precision of several labels is that of all videos together, whichever process scored them."""

import csv
import json

import numpy as np
import pytest

from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video

MOTIONS = ("move_up", "zoom_in", "orbit_clockwise")
CLASSES = ["big", *sorted(MOTIONS)]
SPLITS = ("train",) * 4 + ("val",) * 5 + ("test",) * 7  # two processes have unequal shares of the last two


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("labels")
    rows = [["path", "labels", "split"]]
    for number, split in enumerate(SPLITS):
        motion = MOTIONS[number % len(MOTIONS)]
        write_video(
            root / f"{number}.mp4", draw_video(motion, spec=MotionsSpec(num_frames=8, side=36), key=(0, number))
        )
        rows.append([f"{number}.mp4", ";".join([motion, *(["big"] if number % 4 in (0, 3) else [])]), split])
    with (root / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root / "table.csv"


def average_precision(folder):
    """Compute the mean average precision from the scores of predictions.csv, class by class."""
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == SPLITS.count("test")
    scores = [{row[f"class{k}"]: float(row[f"score{k}"]) for k in range(1, 1 + len(CLASSES))} for row in rows]
    values = []
    for name in CLASSES:
        order = sorted(range(len(rows)), key=lambda row: -scores[row][name])
        hits = np.array([name in rows[row]["label"].split(";") for row in order])
        values.append((hits.cumsum() / np.arange(1, len(hits) + 1))[hits].mean())
    return 100 * np.mean(values)


def validation_precision(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row["val/map"]) for row in csv.DictReader(file) if row.get("val/map")]


@pytest.mark.slow
def test_two_processes_have_the_precision_of_all_their_videos(ranks, table, tmp_path):
    words = (
        "data=csv", f"data.file={table}", "data.columns.label=labels", "data.label_separator=semicolon",
        "span=8", "view_batch=2", "trainer.limit_train_batches=1", "test=true",
    )  # fmt: skip
    single = ranks(1, tmp_path / "one", *words, "batch=4")
    double = ranks(2, tmp_path / "two", *words, "batch=2")
    assert single.statuses + double.statuses == [0, 0, 0], (single.says, double.says)
    found = json.loads((tmp_path / "two" / "metrics.json").read_text())["map"]
    assert found == pytest.approx(average_precision(tmp_path / "two"), abs=1e-3)
    assert found == pytest.approx(json.loads((tmp_path / "one" / "metrics.json").read_text())["map"], abs=1e-3)
    (one,), (two,) = (validation_precision(tmp_path / name) for name in ("one", "two"))
    assert two == pytest.approx(one, abs=1e-3)
    assert 0 < one < 100
