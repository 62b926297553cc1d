"""A run that is killed and started again with the same command is the run that was never killed."""

import errno
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from array import array
from dataclasses import replace
from pathlib import Path

import pytest

from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.data.manifests.manifest import Manifest
from vidgn.evaluation.journal import Journal
from vidgn.files.run_folder import claim_run_folder
from vidgn.runs.loggers import Events, History
from vidgn.runs.resume import check_same_job, find_start, fingerprint, init_content, own_folder
from vidgn.scores.predictions import Prediction
from vidgn.training.replay import replay

ROOT = Path(__file__).parents[2]
STEPS = ("epochs=2", "batch=8", "trainer.log_every_n_steps=1", "save_every_steps=1", "model.dropout=0.5")


@pytest.fixture(scope="module")
def remains():
    spec = importlib.util.spec_from_file_location("remains", ROOT / "benchmarks" / "remains.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def whole_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("resume") / "whole"


@pytest.fixture
def whole(run, tiny, whole_folder):
    """Return the folder of a run that was never stopped; the first test that needs it trains it."""
    if not (whole_folder / "metrics.json").exists():
        assert run("train", *tiny, *STEPS, f"hydra.run.dir={whole_folder}").status == 0
    return whole_folder


@pytest.mark.slow
def test_three_kills_leave_no_trace(cache, tmp_path):
    """In a save, on a reading process and in a validation, with batch norm and precise statistics: bit for bit."""
    done = subprocess.run(
        [
            sys.executable, "benchmarks/kill.py", "--json", "--kills", "3", "--folder", str(tmp_path),
            "--variants", "bn", "--workers", "1", "--moments", "save", "worker", "validation",
        ],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"kills": 3, "identical": 3, "torn": 0, "litter": 0}


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_goes_on_to_the_same_end(run, remains, tiny, whole, tmp_path, monkeypatch):
    words = (*tiny, *STEPS)
    from vidgn.classifier import VideoClassifier

    real = VideoClassifier.training_step
    with monkeypatch.context() as patch:

        def step(self, batch, batch_idx):
            if self.global_step == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return real(self, batch, batch_idx)

        patch.setattr(VideoClassifier, "training_step", step)
        outcome = run("train", *words, f"hydra.run.dir={tmp_path / 'stopped'}")
    assert outcome.status == 143
    outcome = run("train", *words, f"hydra.run.dir={tmp_path / 'stopped'}")
    assert outcome.status == 0, outcome.err
    assert "resuming from" in outcome.out
    assert remains.digest(tmp_path / "stopped") == remains.digest(whole)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [3, 4])  # at the end of the first epoch of three steps, within the second
def test_a_run_cut_by_max_steps_goes_on_to_the_same_end(run, remains, tiny, tmp_path, steps):
    words = (*tiny, *STEPS, "optim.schedule=constant")  # others depend on the number of steps
    assert run("train", *words, f"hydra.run.dir={tmp_path / 'whole'}").status == 0
    words = (*words, f"hydra.run.dir={tmp_path / 'cut'}")
    assert run("train", *words, "save_every_steps=null", f"trainer.max_steps={steps}", "test=false").status == 0
    assert read_checkpoint(tmp_path / "cut" / "checkpoints" / "last.ckpt").step == steps
    outcome = run("train", *words)
    assert outcome.status == 0, outcome.err
    assert "resuming from" in outcome.out
    assert remains.digest(tmp_path / "cut") == remains.digest(tmp_path / "whole")


@pytest.mark.slow
def test_sigusr1_in_a_validation_saves_and_validates_again(run, remains, tiny, whole, tmp_path, monkeypatch):
    words = (*tiny, *STEPS)
    from vidgn.classifier import VideoClassifier

    real = VideoClassifier.validation_step
    with monkeypatch.context() as patch:

        def step(self, batch, batch_idx):
            if self.current_epoch == 1:
                os.kill(os.getpid(), signal.SIGUSR1)
            return real(self, batch, batch_idx)

        patch.setattr(VideoClassifier, "validation_step", step)
        assert run("train", *words, f"hydra.run.dir={tmp_path / 'stopped'}").status == 143
    outcome = run("train", *words, f"hydra.run.dir={tmp_path / 'stopped'}")
    assert outcome.status == 0, outcome.err
    assert remains.digest(tmp_path / "stopped") == remains.digest(whole)


@pytest.mark.slow
def test_a_test_that_is_interrupted_goes_on_from_its_journal(run, trained, tmp_path, monkeypatch):
    from vidgn.classifier import VideoClassifier

    words = (f"ckpt={trained}/checkpoints/best.ckpt", f"hydra.run.dir={tmp_path}")
    real, scored = VideoClassifier.test_step, []

    def step(self, batch, batch_idx):
        scored.extend(batch.videos.tolist())
        if len(scored) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, batch, batch_idx)

    monkeypatch.setattr(VideoClassifier, "test_step", step)
    assert run("eval", *words).status == 143
    with (tmp_path / "predictions.rank0.jsonl").open("a") as file:
        file.write("[7, 1, [0.1")  # a line that was cut off
    outcome = run("eval", *words)
    assert outcome.status == 0, outcome.err
    assert "resuming the test: 4 of 12 videos are scored" in outcome.out
    assert scored == [*range(5), *range(4, 12)]  # of ten views a group of eight was full: the fifth is read again
    assert (tmp_path / "predictions.csv").read_bytes() == (trained / "predictions.csv").read_bytes()
    assert not list(tmp_path.glob("*.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_the_batch_changes_no_bit_of_the_predictions(run, trained, tmp_path, batch):
    outcome = run("eval", f"ckpt={trained}/checkpoints/best.ckpt", f"batch={batch}", f"hydra.run.dir={tmp_path}")
    assert outcome.status == 0, outcome.err
    assert (tmp_path / "predictions.csv").read_bytes() == (trained / "predictions.csv").read_bytes()


@pytest.mark.slow
def test_another_job_is_refused_with_what_differs_unless_forced(run, tiny, tmp_path):
    words = (*tiny, "trainer.max_steps=1", "test=false", f"hydra.run.dir={tmp_path}")
    assert run("train", *words).status == 0
    outcome = run("train", *words, "batch=4")
    assert outcome.status == 2
    assert "belongs to another job: batch 8 -> 4;" in outcome.err
    outcome = run("train", *words, "norm=ln")
    assert "norm {'name': 'gn'" in outcome.err
    outcome = run("train", *words, "batch=4", "resume.force=true")
    assert outcome.status == 0, outcome.err
    assert "warning: resume.force: resuming another job" in outcome.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        (
            "model",
            {"name": "i3d_r50", "width": 16},
            r"model \{'name': 'i3d_r50', .*'width': 8.*\} -> \{'name': 'i3d_r50', 'width': 16\}",
        ),
        ("norm", {"name": "bn"}, r"norm \{'name': 'gn', .*\} -> \{'name': 'bn'\}"),
        ("clip_len", 4, "clip_len 8 -> 4"),
        ("classes", ("a",), r"classes \['move_down', .*\] -> \['a'\]"),
        ("videos", {"train": "1 videos, 00"}, "videos .*24 videos, .* -> .*1 videos, 00"),
        ("batch", 4, "batch 8 -> 4"),
        ("seed", 1, "seed 0 -> 1"),
        ("optim", {"lr": 1.0}, r"optim.name 'sgd' -> None; .*optim.lr 0.48 -> 1.0"),
        ("init", "torchvision", "init None -> 'torchvision'"),
        ("epochs", 0, "epochs 1 -> 0"),  # shorter
        ("precise_bn", 20, "precise_bn None -> 20"),
        ("skip_nonfinite", 2, "skip_nonfinite 0 -> 2"),
        ("data.seed", 1, "data.seed 0 -> 1"),
        ("trainer.gradient_clip_val", 1.0, "trainer.gradient_clip_val None -> 1.0"),
        ("trainer.gradient_clip_algorithm", "value", "trainer.gradient_clip_algorithm None -> 'value'"),
        ("trainer.limit_train_batches", 3, "trainer.limit_train_batches None -> 3"),
        ("trainer.overfit_batches", 2, "trainer.overfit_batches 0.0 -> 2"),
        ("trainer.max_steps", 5, "trainer.max_steps -1 -> 5"),  # shorter, perhaps
    ],
)
def test_what_differs_from_the_checkpoint_is_said(trained, capsys, part, value, message):
    path = trained / "checkpoints" / "best.ckpt"
    ours = read_checkpoint(path).description
    check_same_job(path, ours, force=False)
    other = replace(ours, **{part: value} if hasattr(ours, part) else {"job": {**ours.job, part: value}})
    with pytest.raises(ValueError, match=f"belongs to another job: {message}.*resume.force=true"):
        check_same_job(path, other, force=False)
    check_same_job(path, other, force=True)
    assert re.search(f"resume.force: resuming another job .*: {message}", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 3, "note: epochs 1 -> 3: .*stretched over the whole new length"),
        ("trainer.limit_val_batches", 1, "note: trainer.limit_val_batches None -> 1: .*the best one"),
        ("trainer.check_val_every_n_epoch", 2, "note: trainer.check_val_every_n_epoch 1 -> 2: .*the best one"),
    ],
)
def test_a_longer_run_and_another_validation_are_named_and_go_on(trained, capsys, name, value, message):
    path = trained / "checkpoints" / "best.ckpt"
    ours = read_checkpoint(path).description
    check_same_job(path, replace(ours, job={**ours.job, name: value}), force=False)
    assert re.search(message, capsys.readouterr().out)


def test_what_a_run_starts_from_is_known_by_its_content(tmp_path):
    (tmp_path / "a.ckpt").write_bytes(b"weights")
    (tmp_path / "b.ckpt").write_bytes(b"weights")
    (tmp_path / "c.ckpt").write_bytes(b"others")
    contents = [init_content(str(tmp_path / f"{name}.ckpt")) for name in "abc"]
    assert contents[0] == contents[1] != contents[2]
    assert (init_content("torchvision"), init_content(None)) == ("torchvision", None)


@pytest.mark.slow
def test_more_epochs_go_on_and_say_what_happens_to_the_rate(run, tiny, tmp_path):
    words = (*tiny, "test=false", f"hydra.run.dir={tmp_path}", "optim.schedule=cosine", "optim.warmup=0")
    assert run("train", *words).status == 0
    first = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt").step
    outcome = run("train", *words, "epochs=2")
    assert outcome.status == 0, outcome.err
    assert "note: epochs 1 -> 2: the run continues to the new end" in outcome.out
    assert "note: the learning rate is now " in outcome.err  # half of the cosine is left, where none was
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt").step == 2 * first
    outcome = run("train", *words, "epochs=2", "clip_len=16")
    assert outcome.status == 2
    assert "belongs to another job: clip_len 8 -> 16" in outcome.err


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(run, tiny, tmp_path):
    words = (*tiny, "epochs=2", "test=false", f"hydra.run.dir={tmp_path}")
    assert run("train", *words).status == 0
    last = tmp_path / "checkpoints" / "last.ckpt"
    data = last.read_bytes()
    last.unlink()
    last.write_bytes(data[: len(data) // 2])
    outcome = run("train", *words)
    assert outcome.status == 0, outcome.err
    assert "last.ckpt" in outcome.out
    assert "last.1.ckpt, the newest that is whole" in outcome.out


@pytest.mark.slow
def test_nan_stops_with_a_dump_that_replays(run, tiny, tmp_path):
    outcome = run("train", *tiny, "optim.lr=1e30", "optim.warmup=0", "batch=4", f"hydra.run.dir={tmp_path}")
    assert outcome.status == 2
    assert "the weights are as before it and the last checkpoint stands" in outcome.err
    (dump,) = tmp_path.glob("nonfinite-step*.pt")
    found = replay(dump)
    assert str(found.loss) == str(found.recorded)
    assert found.first_bad_layer is not None


def test_a_checkpoint_without_a_step_cannot_be_replayed(trained):
    with pytest.raises(ValueError, match="is a checkpoint without a step to replay"):
        replay(trained / "checkpoints" / "best.ckpt")


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    with own_folder(tmp_path), pytest.raises(OSError, match=rf"is in use by another run \(process {os.getpid()}\)"):
        own_folder(tmp_path).__enter__()
    with own_folder(tmp_path):  # free again
        assert (tmp_path / "checkpoints").is_dir()


def test_leftovers_are_removed_and_named(tmp_path, capsys):
    claim_run_folder(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt.part").write_bytes(b"half")
    with own_folder(tmp_path):
        assert not list((tmp_path / "checkpoints").iterdir())
    assert "removed what an interrupted save left: last.ckpt.part" in capsys.readouterr().out


def test_where_all_checkpoints_are_damaged_nothing_starts_silently_anew(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"all 1 checkpoints in .* are damaged; start again with resume=null"):
        find_start("auto", tmp_path)
    assert find_start(None, tmp_path) is None
    assert find_start("auto", tmp_path / "new") is None
    with pytest.raises(FileNotFoundError, match=r"resume=/none\.ckpt does not exist"):
        find_start("/none.ckpt", tmp_path)


def test_the_sum_over_videos_knows_names_labels_and_order_but_not_the_place():
    def of(rows, root="/"):
        return fingerprint(Manifest.from_rows(rows, root=root, classes=["a", "b"]))

    rows = [("/x.mp4", 0), ("/y.mp4", 1)]
    assert of(rows) == of(rows)
    assert of(rows) != of(rows[::-1])
    assert of(rows) != of([("/x.mp4", 1), ("/y.mp4", 1)])


def test_the_curves_go_back_to_a_place_and_on(tmp_path):
    whole, cut = History(tmp_path / "whole"), History(tmp_path / "cut")
    for history, steps in ((whole, range(4)), (cut, range(2))):
        for step in steps:
            history.log_metrics({"loss": 0.1 * step, **({"error": 1.0} if step == 3 else {})}, step)
    place = cut.place()
    cut.log_metrics({"loss": 9.0, "other": 1.0}, 2)  # of steps that will be done again
    cut.save()
    again = History(tmp_path / "cut")
    again.go_back(place)
    for step in (2, 3):
        again.log_metrics({"loss": 0.1 * step, **({"error": 1.0} if step == 3 else {})}, step)
    whole.finalize("success")
    again.finalize("success")
    assert (tmp_path / "cut" / "metrics.csv").read_bytes() == (tmp_path / "whole" / "metrics.csv").read_bytes()


def test_the_curves_of_tensorboard_go_back_to_a_place_and_on(tmp_path, remains):
    """Where a validation was saved, what is logged after it has the same step: TensorBoard's purge keeps it."""
    first = Events(tmp_path)
    first.log_metrics({"loss": 0.5, "error": 9.0}, 5)
    place = first.place()
    first.log_metrics({"error": 8.0}, 5)
    first.finalize("killed")
    again = Events(tmp_path)
    again.go_back(place)
    again.log_metrics({"error": 8.0}, 5)
    again.log_metrics({"loss": 0.25}, 6)
    again.finalize("success")
    assert remains.curves(tmp_path) == {"error": [(5, 9.0), (5, 8.0)], "loss": [(5, 0.5), (6, 0.25)]}
    anew = Events(tmp_path)  # resume=null
    anew.log_metrics({"loss": 1.0}, 0)
    anew.finalize("success")
    assert remains.curves(tmp_path) == {"error": [], "loss": [(0, 1.0)]}


def test_files_that_tensorboard_got_after_the_place_are_removed(tmp_path, remains):
    first = Events(tmp_path)
    first.log_metrics({"loss": 0.5}, 0)
    place = first.place()
    first.finalize("killed")
    (tmp_path / "tensorboard" / "events.out.tfevents.9.of.a.later.start").write_bytes(b"half a record")
    again = Events(tmp_path)
    again.go_back(place)
    again.finalize("success")
    assert remains.curves(tmp_path) == {"loss": [(0, 0.5)]}


def test_curves_on_a_full_disk_say_which_file_and_what_to_do(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    history, events = History(tmp_path), Events(tmp_path)
    history.log_metrics({"error": 1.0, "loss": 0.25}, 0)
    history.save()
    history.log_metrics({"loss": 0.5}, 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"metrics\.csv could not be written \(No space left on device\); free space"):
            history.save()
        patch.setattr(events.experiment, "add_scalar", full)  # Lightning calls that a value that is not supported
        with pytest.raises(OSError, match=r"tensorboard could not be written \(No space left .*run the same command"):
            events.log_metrics({"loss": 0.5}, 0)
    history.save()  # with space again
    assert (tmp_path / "metrics.csv").read_text() == "error,loss,step\n1.0,0.25,0\n,0.5,1\n"
    with pytest.raises(ValueError, match="you tried to log x which is currently not supported"):
        events.log_metrics({"loss": "x"}, 0)


def test_a_journal_of_another_protocol_does_not_count(tmp_path):
    first = Journal(tmp_path, rank=0, key={"clips": 10})
    prediction = Prediction(3, 1, array("d", [0.1, 0.9]), None, 10, 9, 10)
    first.add(prediction)
    assert Journal(tmp_path, rank=1, key={"clips": 10}).read() == {3: prediction}
    other = Journal(tmp_path, rank=0, key={"clips": 2})
    assert other.read() == {}
    other.add(prediction._replace(video=4))
    assert list(other.read()) == [4]
    other.remove()
    assert not list(tmp_path.iterdir())
