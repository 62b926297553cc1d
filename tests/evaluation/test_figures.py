import csv
import json

import pytest

from vidgn.data.manifests.manifest import Manifest
from vidgn.evaluation.figures import class_table, figures
from vidgn.scores.predictions import Prediction

PREDICTIONS = [
    Prediction(0, 0, (0.75, 0.25, 0.0), None), Prediction(1, 0, (0.35, 0.65, 0.0), None),
    Prediction(2, 1, (0.05, 0.95, 0.0), None), Prediction(3, 2, None, "b.mp4: empty file"),
]  # fmt: skip

MANIFEST = Manifest.from_rows(
    [("a.mp4", 0), ("b.mp4", 0), ("c.mp4", 1), ("d.mp4", 2)], root="/", classes=["walk", "=1+1", "sit"]
)


@pytest.mark.slow
def test_figures_of_predictions():
    values = figures(PREDICTIONS, MANIFEST)
    assert values["mean_class"] == 50.0  # 50, 100, 0
    assert values["macro_f1"] == pytest.approx((200 / 3 + 200 / 3 + 0) / 3, abs=1e-4)
    assert values["calibration_error"] == pytest.approx((0.25 + 0.65 + 0.05) / 3, abs=1e-6)  # of those with scores
    low, high = values["intervals"]["video_top1"]
    assert low <= 50.0 <= high
    assert figures([], MANIFEST) == {}


def test_each_class_is_a_row():
    rows = class_table(PREDICTIONS, MANIFEST).splitlines()
    assert rows[0] == "class,videos,predicted,right,recall,precision,f1"
    assert rows[1] == "walk,2,1,1,50.0000,100.0000,66.6667"
    assert rows[2].endswith(",1,2,1,100.0000,50.0000,66.6667")
    assert not rows[2].startswith("=")  # no spreadsheet computes a class name
    assert rows[3] == "sit,1,0,0,0.0000,,0.0000"


@pytest.mark.slow
def test_a_run_leaves_them_in_its_folder(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    with (trained / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == metrics["classes"] == 12
    assert metrics["mean_class"] == pytest.approx(sum(float(row["recall"]) for row in rows) / 12, abs=1e-3)
    assert metrics["mean_class"] == pytest.approx(metrics["video_top1"], abs=1e-3)  # one test video per class
    assert set(metrics["intervals"]) == {"video_top1", "mean_class"}
    assert 0 <= metrics["calibration_error"] <= 1
