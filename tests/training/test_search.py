"""A search over a tiny drawn set: its space, what it records, what it prunes, and how it continues."""

import csv
import io
import json
import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip("optuna")

from vidgn.callbacks.early_stop import monitor
from vidgn.callbacks.nonfinite import NonFiniteError
from vidgn.classifier import VideoClassifier
from vidgn.training.search import search
from vidgn.training.search.search import run_search
from vidgn.training.search.space import as_override, corner_trials, split_space

WORDS = (
    "data.train=1", "data.val=1", "data.test=1", "data.num_workers=0", "batch=4", "crop=32", "clip_len=8", "span=8",
    "model.width=8", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "trainer.limit_train_batches=1",
    "trainer.log_every_n_steps=1",
)  # fmt: skip
RATE = "optim.lr=tag(log,interval(0.001,1.0))"


def test_a_space_is_read_from_overrides():
    fixed, space = split_space(
        [
            "norm=gn,ln",
            "epochs=range(2,7,2)",
            RATE,
            "batch=int(interval(2,5))",
            "optim.momentum=range(0,1,0.25)",
            "seed=3",
        ]
    )
    assert fixed == ["seed=3"]
    assert space["norm"].choices == ("gn", "ln")
    assert [(space[name].low, space[name].high) for name in ("epochs", "optim.lr", "batch", "optim.momentum")] == [
        (2, 6), (0.001, 1.0), (2, 5), (0.0, 0.75),
    ]  # fmt: skip
    assert (space["epochs"].step, space["optim.lr"].log, space["batch"].log) == (2, True, False)
    assert corner_trials({"norm": space["norm"], "batch": space["batch"]}) == [
        ["norm=gn", "batch=2"], ["norm=ln", "batch=2"], ["norm=gn", "batch=5"],
    ]  # fmt: skip
    assert as_override("optim.lr", 1 / 3) == "optim.lr=0.3333"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no option has several values; give some, as in norm=gn,bn"),
        (("norm=gn,gn",), "'norm=gn,gn' has fewer than two values"),
        (("epochs=range(3,4)",), "has fewer than two values; give range"),
        (("optim.lr=interval(1,0.1)",), "has no interval to draw from; give two numbers, the smaller one first"),
        (("optim.lr=tag(log,interval(0,1))",), "the smaller one first and above 0"),
        (("norm=gn,gnn",), "'norm=gnn' is unknown; it must be one of"),
        (("nrom=gn,ln",), "unknown option 'nrom'; did you mean 'norm'"),
        (("norm=(", "epochs=1,2"), r"'norm=\(' cannot be read"),
        (("norm=gn,ln", "test=true"), "test is set by the search; leave it out"),
        (("norm=gn,ln", "hydra.run.dir=x"), "hydra.run.dir is set by the search"),
        (("best_by=loss,error",), "best_by compares the trials"),
        (("norm=gn,ln", "trainer.devices=2"), r"trainer.devices \(2\) must be 1 in a search"),
    ],
)
def test_a_mistake_is_told_before_the_first_trial(tmp_path, words, message):
    with pytest.raises(ValueError, match=message):
        run_search(words, folder=str(tmp_path / "s"), trials=1, prune=True, seed=0, out=io.StringIO())
    assert not (tmp_path / "s").exists()


def test_a_search_needs_a_trial(tmp_path):
    with pytest.raises(ValueError, match=r"--trials \(0\) must be at least 1"):
        run_search(["norm=gn,ln"], folder=str(tmp_path), trials=0, prune=True, seed=0, out=io.StringIO())


@pytest.mark.slow
def test_trials_are_trained_recorded_and_added_to(vidgn, cache, tmp_path):
    words = [*WORDS, "epochs=1", RATE, "norm=gn,ln", "--out", tmp_path / "s", "--json"]
    status, out, err = vidgn("search", *words, "--trials", 2)
    assert status == 0, err
    result = json.loads(out.splitlines()[-1])
    assert [(row["trial"], row["state"]) for row in result["trials"]] == [(0, "complete"), (1, "complete")]
    best = min(result["trials"], key=lambda row: row["value"])
    assert result["best"] == best
    assert f"optim.lr={best['options']['optim.lr']}" in result["command"]
    assert "test=false" not in result["command"]
    for row in result["trials"]:
        with (tmp_path / "s" / row["folder"] / "metrics.csv").open(newline="") as file:
            (value,) = [float(line["val/error"]) for line in csv.DictReader(file) if line.get("val/error")]
        assert value == pytest.approx(row["value"], abs=1e-3)
        config = (tmp_path / "s" / row["folder"] / "config.yaml").read_text()
        assert f"lr: {float(row['options']['optim.lr'])}" in config
        assert not (tmp_path / "s" / row["folder"] / "predictions.csv").exists()  # nothing is tested
    status, out, err = vidgn("search", *words, "--trials", 3)
    assert status == 0, err
    again = json.loads(out.splitlines()[-1])["trials"]
    assert again[:2] == result["trials"]
    assert len(again) == 3
    with (tmp_path / "s" / "trials.csv").open(newline="") as file:
        assert [row["optim.lr"] for row in csv.DictReader(file)] == [row["options"]["optim.lr"] for row in again]
    status, out, err = vidgn("search", *words[:-2], tmp_path / "s", "--trials", 4, "seed=1")
    assert status == 2
    assert "has a search with other options" in err


@pytest.mark.slow
def test_an_interrupted_trial_continues_in_its_folder(cache, tmp_path, monkeypatch):
    """Stopped by a signal after one of two epochs: the next start trains the second one with the same options."""
    whole, folder = tmp_path / "whole", tmp_path / "s"
    words = [*WORDS, "epochs=2", RATE]
    arguments = {"trials": 1, "prune": True, "seed": 0, "out": io.StringIO()}
    run_search(words, folder=str(whole), **arguments)
    real, steps = VideoClassifier.training_step, []

    def step(self, batch, index):
        steps.append(self.current_epoch)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, batch, index)

    monkeypatch.setattr(VideoClassifier, "training_step", step)
    with pytest.raises(SystemExit, match="143"):
        run_search(words, folder=str(folder), **arguments)
    assert steps == [0, 1]
    run_search(words, folder=str(folder), **arguments)
    assert steps in ([0, 1], [0, 1, 1])  # the step in which the signal came is complete
    with (folder / "trials.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    with (whole / "trials.csv").open(newline="") as file:
        (expected,) = csv.DictReader(file)
    assert (row["trial"], row["folder"]) == ("1", "trial-000")
    assert [row[name] for name in ("state", "val/error", "optim.lr")] == [
        expected[name] for name in ("state", "val/error", "optim.lr")
    ]
    assert (folder / "trial-000" / "metrics.csv").read_bytes() == (whole / "trial-000" / "metrics.csv").read_bytes()


@pytest.mark.slow
def test_trials_below_the_median_are_pruned_and_diverged_ones_count(cache, tmp_path, monkeypatch):
    """Runs stand in for training: the error of each trial at its first validation is given."""
    errors = iter([10.0, 20.0, 30.0, 40.0, 5.0, 90.0, None])

    class Trainer:
        sanity_checking, should_stop = False, False

        def __init__(self, error):
            self.state = type("State", (), {"fn": "fit"})
            self.callback_metrics = {"val/error": error}

    def training(name, words, run):
        error = next(errors)
        if error is None:
            raise NonFiniteError("the loss is nan")
        run(error)

    def fake(error, extra):
        trainer = Trainer(error)
        for _ in range(2):
            if not trainer.should_stop:
                extra[0].on_validation_end(trainer, None)

    monkeypatch.setattr(search, "run_here", training)
    monkeypatch.setattr(search, "run_training", fake)
    monkeypatch.setattr(search.RunConfig, "read", staticmethod(lambda error: error))
    out = io.StringIO()
    run_search([RATE, "epochs=2"], folder=str(tmp_path), trials=7, prune=True, seed=0, out=out)
    with (tmp_path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == [*["complete"] * 5, "pruned", "diverged"]
    assert [row["val/error"] for row in rows] == ["10.0", "20.0", "30.0", "40.0", "5.0", "", ""]
    assert "best: trial 4 with val/error 5, of 7 trials" in out.getvalue()


def test_the_best_value_follows_the_metric():
    watch = search.Pruning(monitor("top5"), lambda step, value: False)
    assert watch.best is None
    watch.load_state_dict({"values": [40.0, 60.0, 50.0], "pruned": False})
    assert watch.best == 60.0


def test_a_foreign_table_is_not_replaced(tmp_path):
    (tmp_path / "trials.csv").write_text("mine")
    with pytest.raises(FileExistsError, match=r"trials\.csv was not written by a search; move the file"):
        run_search(["norm=gn,ln"], folder=str(tmp_path), trials=1, prune=True, seed=0, out=io.StringIO())
    assert (tmp_path / "trials.csv").read_text() == "mine"


@pytest.mark.slow
def test_a_folder_has_one_search_at_a_time(tmp_path):
    program = "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, 2); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "search.lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"1\n"
        with pytest.raises(BlockingIOError, match="is in use by another search; give another"):
            run_search(["norm=gn,ln"], folder=str(tmp_path), trials=1, prune=True, seed=0, out=io.StringIO())
        other.stdin.write(b"\n")
        other.stdin.close()
