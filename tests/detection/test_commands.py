"""`vidgn predict` on images and `vidgn report` on runs of task=detect."""

import csv
import io
import json

import pytest
from PIL import Image

from vidgn.detection.data import DrawnShapes


@pytest.mark.slow
def test_predict_finds_what_the_test_found(detected, vidgn, tmp_path):
    image = tmp_path / "a.png"
    Image.fromarray(DrawnShapes("test", size=3, seed=0)[0].image.permute(1, 2, 0).numpy()).save(image)
    words = ("predict", image, "--ckpt", detected / "checkpoints" / "last.ckpt", "--device", "cpu")
    status, out, err = vidgn(*words, "--json")
    assert status == 0, err
    wanted = [row for row in json.loads((detected / "detections.json").read_text()) if row["image"] == "test/00000"]
    assert [{**row, "image": ""} for row in json.loads(out)] == [{**row, "image": ""} for row in wanted]
    _, text, _ = vidgn(*words)
    assert f"{image}: {len(wanted)} objects" in text
    _, table, _ = vidgn(*words, "--csv")
    assert len(list(csv.DictReader(io.StringIO(table)))) == len(wanted)
    status, _, err = vidgn(*words, "--num-clips", "3")
    assert status == 2
    assert "--num-clips and --num-crops are for videos" in err


@pytest.mark.slow
def test_a_report_has_the_table_and_the_images(detected, vidgn, tmp_path):
    status, out, err = vidgn("report", detected, "--out", tmp_path / "page", "--json")
    assert status == 0, err
    html = (tmp_path / "page" / "index.html").read_text()
    assert "Average precision" in html
    assert "mask_rcnn_r18_fpn" in html
    metrics = json.loads((detected / "metrics.json").read_text())
    precision = "/".join(f"{metrics[f'box_{name}']:.1f}" for name in ("ap", "ap50", "ap75"))
    assert precision in html
    found = {row["image"] for row in json.loads((detected / "detections.json").read_text())}
    assert len(list((tmp_path / "page").glob("run1-*.png"))) == len(found)
    assert json.loads(out)["runs"][0]["box_ap"] == metrics["box_ap"]


@pytest.mark.slow
def test_a_damaged_run_is_named(detected, vidgn, tmp_path):
    for name in ("config.yaml", "metrics.json"):
        (tmp_path / name).write_bytes((detected / name).read_bytes())
    (tmp_path / "detections.json").write_text("[")
    status, _, err = vidgn("report", tmp_path, "--out", tmp_path / "page")
    assert status == 2
    assert "detections.json cannot be read as plain values" in err
