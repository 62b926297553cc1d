"""Folds of a cross-validation: which runs belong together, and what their mean and interval are."""

import io
import json

import numpy as np
import pytest
import yaml

from vidgn.report.folds import read_fold_runs, summarize_folds
from vidgn.report.write import run_report

T_4 = 2.776445  # two-sided 95 % of Student's t with 4 degrees of freedom
VALUES = (80.0, 95.0, 70.0, 85.0, 90.0)


def write_run(folder, *, fold, top1, tested=True, **options):
    folder.mkdir(parents=True)
    data = {"name": "csv", "fold": fold, "folds": options.pop("folds", 5)}
    config = {
        "clip_len": 8, "batch": 4, "norm": {"name": "gn"}, "data": data, "seed": 0, "chosen": {},
        "trainer": {"default_root_dir": str(folder)}, **options,
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    metrics = {"video_top1": top1, "video_top5": 100.0, "clip_top1": top1, "videos_scored": 20, "videos_expected": 20,
               "protocol": "2 clips"}  # fmt: skip
    if tested:
        (folder / "metrics.json").write_text(json.dumps(metrics))


def summaries(root):
    return summarize_folds(read_fold_runs(root))


def test_mean_and_interval_of_five_folds(tmp_path):
    for fold, top1 in enumerate(VALUES):
        write_run(tmp_path / f"fold{fold}", fold=fold, top1=top1)
    (summary,) = summaries(tmp_path)
    half = T_4 * np.std(VALUES, ddof=1) / np.sqrt(5)
    record = summary.record()
    assert record["mean"] == pytest.approx(np.mean(VALUES))
    assert record["interval"] == pytest.approx([np.mean(VALUES) - half, np.mean(VALUES) + half], abs=1e-4)
    assert summary.text == (
        "top-1 84.00 % is the mean over 5 folds (95 % interval of the mean, over folds: 72.06 to 95.94); "
        "lowest 70.00 % in fold 2, highest 95.00 % in fold 1"
    )


def test_runs_that_differ_in_more_than_the_fold_are_apart(tmp_path):
    for fold in range(3):
        for seed in range(2):
            write_run(tmp_path / f"{fold}-{seed}", fold=fold, top1=50.0 + seed, seed=seed)
    assert [summary.record()["mean"] for summary in summaries(tmp_path)] == [50.0, 51.0]


def test_what_the_data_chose_may_differ_by_fold(tmp_path):
    for fold in range(3):
        chosen = {"crop": 64 + fold, "epochs": 15 * fold}
        options = {**chosen, "chosen": chosen, "trainer": {"max_epochs": 15 * fold}, "folds": "groups"}
        write_run(tmp_path / str(fold), fold=fold, top1=50.0, **options)
    (summary,) = summaries(tmp_path)
    assert "is the mean over 3 folds" in summary.text


def test_untested_and_repeated_folds(tmp_path):
    write_run(tmp_path / "a", fold=0, top1=10.0)
    write_run(tmp_path / "b", fold=0, top1=40.0)  # the last one counts
    write_run(tmp_path / "c", fold=1, top1=60.0)
    write_run(tmp_path / "d", fold=2, top1=90.0, tested=False)
    write_run(tmp_path / "e", fold=None, top1=0.0)
    (summary,) = summaries(tmp_path)
    assert summary.values == {0: 40.0, 1: 60.0}
    assert "over 2 of 5 folds (95 % interval of the mean, over folds: 0.00 to 100.00)" in summary.text


def test_one_fold_has_no_summary(tmp_path):
    write_run(tmp_path / "a", fold=0, top1=10.0)
    assert summaries(tmp_path) == []


def test_the_report_has_the_folds(tmp_path):
    for fold, top1 in enumerate(VALUES):
        write_run(tmp_path / "runs" / f"fold{fold}", fold=fold, top1=top1)
        (tmp_path / "runs" / f"fold{fold}" / "metrics.csv").write_text("epoch,step\n")
    out = io.StringIO()
    run_report([str(tmp_path / "runs")], target=str(tmp_path / "page"), out=out, as_json=True)
    (folds,) = json.loads(out.getvalue())["folds"]
    assert folds["mean"] == 84.0
    assert folds["values"] == {"0": 80.0, "1": 95.0, "2": 70.0, "3": 85.0, "4": 90.0}
    page = (tmp_path / "page" / "index.html").read_text()
    assert "Cross-validation: csv, gn, seed 0" in page
    assert "top-1 84.00 % is the mean over 5 folds" in page
