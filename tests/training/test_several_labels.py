"""Runs with several labels per video, and with several heads: what they learn from, and what they leave."""

import csv
import io
import json

import numpy as np
import pytest

from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video
from vidgn.inference.predict_print import run_predict, run_timeline
from vidgn.report.compare import compare_runs
from vidgn.report.write import run_report

FAST = (
    "data.num_workers=0", "epochs=1", "batch=2", "crop=32", "clip_len=8", "span=8", "num_clips=1", "num_crops=1",
    "model.width=8", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "trainer.limit_train_batches=1",
    "trainer.log_every_n_steps=1",
)  # fmt: skip
MANY = ("data.columns.label=labels", "data.label_separator=semicolon")
HEADS = ("data.columns.label=[verb,noun]",)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Eight short videos of four people, with several labels, a verb and a noun."""
    root = tmp_path_factory.mktemp("several")
    rows = [["path", "labels", "verb", "noun", "split", "group"]]
    for number, split in enumerate(("train", "train", "val", "val", "test", "test", "test", "test")):
        label = ("move_up", "zoom_in")[number % 2]
        frames = draw_video(label, spec=MotionsSpec(num_frames=6, side=36), key=(0, number))
        write_video(root / f"{number}.mp4", frames)
        labels = ";".join([label, *(["big"] if number in (1, 3, 4, 5) else [])])
        rows.append([f"{number}.mp4", labels, label, ("cup", "door")[number // 2 % 2], split, f"p{number // 2}"])
    with (root / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root / "table.csv"


def scores_of(folder, classes):
    """Return the scores of predictions.csv, which has those of up to five classes."""
    with (folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    return rows, np.array([[{row[f"class{k}"]: float(row[f"score{k}"]) for k in range(1, 1 + len(classes))}[name]
                            for name in classes] for row in rows])  # fmt: skip


def mean_precision(scores, rows, classes):
    values = []
    for column, name in enumerate(classes):
        order = np.argsort(-scores[:, column], kind="stable")
        hits = np.array([name in rows[row]["label"].split(";") for row in order])
        values.append((hits.cumsum() / np.arange(1, len(hits) + 1))[hits].mean())
    return 100 * np.mean(values)


@pytest.mark.slow
def test_a_run_with_several_labels(run, table, tmp_path):
    words = ["data=csv", f"data.file={table}", *FAST, *MANY, "mixup=0.5", "label_smoothing=0.1"]
    outcome = run("train", *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert outcome.status == 0, outcome.err
    assert "sigmoid averaged over positions and views" in outcome.out
    assert "95 % intervals over 2 groups: video_top1" in outcome.out
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    classes = ["big", "move_up", "zoom_in"]
    rows, scores = scores_of(tmp_path / "run", classes)
    assert [row["label"] for row in rows] == ["move_up;big", "zoom_in;big", "move_up", "zoom_in"]
    assert [row["group"] for row in rows] == ["p2", "p2", "p3", "p3"]
    assert (scores > 0.01).all()
    assert metrics["map"] == pytest.approx(mean_precision(scores, rows, classes), abs=1e-3)
    assert set(metrics["intervals"]) == {"video_top1", "map"}
    with (tmp_path / "run/metrics.csv").open() as file:
        values = [row for row in csv.DictReader(file) if row["val/map"]]
    assert float(values[-1]["val/error"]) == pytest.approx(100 - float(values[-1]["val/map"]), abs=1e-3)
    outcome = run("eval", f"ckpt={tmp_path / 'run'}", "data.num_workers=0", "trainer.accelerator=cpu",
                  "trainer.enable_progress_bar=false", f"hydra.run.dir={tmp_path / 'eval'}")  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert json.loads((tmp_path / "eval/metrics.json").read_text())["map"] == metrics["map"]
    assert compare_runs(tmp_path / "run", tmp_path / "eval").groups == 2
    out = io.StringIO()
    video, ckpt = str(table.parent / "4.mp4"), str(tmp_path / "run")
    limit = float(np.sort(scores[0])[1]) - 1e-4  # the two best
    assert run_predict([video], ckpt=ckpt, out=out, form="json", threshold=limit, device="cpu") == 0
    top = json.loads(out.getvalue())["videos"][0]["top"]
    assert len(top) == 2
    assert top[0]["score"] == pytest.approx(scores[0].max(), abs=1e-4)
    run_report([ckpt], target=str(tmp_path / "report"), out=io.StringIO())
    page = (tmp_path / "report/index.html").read_text()
    assert f"mean average precision {metrics['map']:.2f} %" in page
    assert "95 % intervals over groups" in page
    with pytest.raises(ValueError, match=r"--threshold \(2\) must be from 0 to 1"):
        run_predict([video], ckpt=ckpt, out=out, threshold=2, device="cpu")
    outcome = run("eval", f"ckpt={ckpt}", "data=csv", f"data.file={table}", "data.columns.label=verb",
                  "data.num_workers=0", "trainer.accelerator=cpu", f"hydra.run.dir={tmp_path / 'other'}")  # fmt: skip
    assert outcome.status == 2
    assert "but several classes in the checkpoint; leave data.label_separator" in outcome.err


@pytest.mark.slow
def test_a_run_with_two_heads(run, table, tmp_path):
    words = ["data=csv", f"data.file={table}", *FAST, *HEADS, f"hydra.run.dir={tmp_path}"]
    outcome = run("train", *words)
    assert outcome.status == 0, outcome.err
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    right = [[a == b for a, b in zip(row["label"].split(";"), row["class1"].split(";"), strict=True)] for row in rows]
    assert rows[0]["label"] == "verb:move_up;noun:cup"
    assert sum(float(rows[0][f"score{k}"]) for k in range(1, 5)) == pytest.approx(1, abs=1e-5)  # all four products
    assert metrics["video_top1"] == pytest.approx(100 * np.mean([all(row) for row in right]))
    assert [metrics["heads"][name]["top1"] for name in ("verb", "noun")] == pytest.approx(100 * np.mean(right, 0))
    assert set(metrics["intervals"]) == {"video_top1", "verb_top1", "noun_top1"}
    with (tmp_path / "metrics.csv").open() as file:
        logged = list(csv.DictReader(file))
    losses = [float(row["train/loss"]) for row in logged if row.get("train/loss")]
    heads = [[float(row[f"train/loss_{n}"]) for n in ("verb", "noun")] for row in logged if row.get("train/loss_verb")]
    assert losses == pytest.approx(np.mean(heads, 1), abs=1e-5)
    assert any(row.get("val/verb_top1") for row in logged)
    out = io.StringIO()
    video = str(table.parent / "4.mp4")
    assert run_predict([video], ckpt=str(tmp_path), out=out, device="cpu", top=2) == 0
    assert f"{rows[0]['class1']}" in out.getvalue()
    with pytest.raises(ValueError, match=r"--threshold \(0.5\) is for nets that give several classes"):
        run_predict([video], ckpt=str(tmp_path), out=out, threshold=0.5, device="cpu")
    with pytest.raises(ValueError, match=r"has 2 heads \(verb, noun\), and a timeline shows one class at a time"):
        run_timeline([video], ckpt=str(tmp_path), out=out, stride=None, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "word", "message"),
    [
        (MANY, "loss=focal", "loss (focal) needs one class per video, but data.label_separator=';'"),
        (MANY, "balanced=true", "balanced (True) needs one class per video"),
        (HEADS, "class_weights=balanced", "class_weights (balanced) needs one class per video, but"),
        (HEADS, "distill.ckpt=teacher.ckpt", "distill.ckpt (teacher.ckpt) needs one class per video"),
    ],
)  # fmt: skip
def test_options_that_need_one_label_are_refused(run, table, tmp_path, kind, word, message):
    outcome = run("train", "data=csv", f"data.file={table}", *FAST, *kind, word, f"hydra.run.dir={tmp_path}")
    assert outcome.status == 2
    assert message in outcome.err
