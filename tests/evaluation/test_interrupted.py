"""A test that was interrupted goes on only with what gives the same scores."""

import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vidgn.classifier import VideoClassifier
from vidgn.data.manifests.manifest import Manifest
from vidgn.evaluation.interrupted import open_journal
from vidgn.runs.speed import Speed, SpeedSpec
from vidgn.scores.predictions import Prediction


def journal(folder, *, precision="32-true", backend="pyav", classes=("a", "b"), model="i3d", weights=b"1", device="cpu",
            protocol="10 clips", view_batch=8, net=1.0, **speed):  # fmt: skip
    (folder / "best.ckpt").write_bytes(weights)
    videos = [("a/1.mp4", 0), ("a/2.mp4", 1)]
    trainer = SimpleNamespace(
        callbacks=[Speed(SpeedSpec(**speed), clip=(8, 32, 1))], precision=precision, global_rank=0,
        strategy=SimpleNamespace(root_device=torch.device(device)),
    )  # fmt: skip
    description = SimpleNamespace(model={"name": model})
    layer = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(layer.weight, net)
    torch.nn.init.zeros_(layer.bias)
    classifier = SimpleNamespace(description=description, view_batch=view_batch, classes=classes, net=layer)
    data = SimpleNamespace(
        manifests={"test": Manifest.from_rows(videos, root=folder, classes=["a", "b"])},
        spec=SimpleNamespace(backend=backend),
    )
    return open_journal(
        trainer, classifier, data, folder=folder, checkpoint=folder / "best.ckpt", protocol=protocol
    )  # fmt: skip


@pytest.fixture
def begun(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("1", "2"):
        (tmp_path / "a" / f"{name}.mp4").write_bytes(b"video")
    first = journal(tmp_path)
    for video in range(2):
        first.add(Prediction(video, 0, [0.5, 0.5], None, 1, 1, 1))
    return tmp_path


@pytest.mark.parametrize(
    "changes",
    [{"quantize": "int8"}, {"fuse": True}, {"compile": True}, {"precision": "bf16-mixed"}, {"backend": "decord"},
     {"weights": b"2"}, {"classes": ("b", "a")}, {"model": "i3d_r50_8x8"}, {"device": "meta"}, {"view_batch": 4},
     {"protocol": "1 clip"}, {"net": 2.0}],
    ids=str,
)  # fmt: skip
def test_what_changes_a_score_begins_anew_and_is_named(begun, changes):
    assert list(journal(begun).read()) == [0, 1]
    other = journal(begun, **changes)
    assert other.read() == {}
    (name,) = changes
    assert list(other.others()) == [{"weights": "checkpoint", "net": "weights"}.get(name, name)]


def test_what_changes_no_score_goes_on(begun):
    assert list(journal(begun, keep_memory=True).read()) == [0, 1]


def test_a_replaced_file_is_scored_again(begun):
    before = (begun / "a" / "2.mp4").stat()
    (begun / "a" / "2.mp4").write_bytes(b"other")
    os.utime(begun / "a" / "2.mp4", ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    assert list(journal(begun).read()) == [0]


def interrupt(monkeypatch, *, at, act):
    real, seen = VideoClassifier.test_step, []

    def step(self, batch, batch_idx):
        seen.append(batch_idx)
        if len(seen) == at:
            act()
        return real(self, batch, batch_idx)

    monkeypatch.setattr(VideoClassifier, "test_step", step)


@pytest.mark.slow
def test_an_interrupted_test_with_another_precision_begins_anew_and_says_so(run, trained, tmp_path, monkeypatch):
    words = ("eval", f"ckpt={trained}/checkpoints/best.ckpt", f"hydra.run.dir={tmp_path}")
    interrupt(monkeypatch, at=6, act=lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert run(*words, "trainer.precision=bf16-mixed").status == 143
    outcome = run(*words)
    assert outcome.status == 0, outcome.err
    assert "starts again: precision 'bf16-mixed' -> '32-true'" in outcome.out
    assert "resuming the test" not in outcome.out
    assert (tmp_path / "predictions.csv").read_bytes() == (trained / "predictions.csv").read_bytes()


@pytest.mark.slow
def test_a_disk_that_goes_away_ends_the_test_and_keeps_what_is_scored(run, trained, motions, tmp_path, monkeypatch):
    shutil.copytree(motions / "test", tmp_path / "disk" / "test")
    words = ("eval", f"ckpt={trained}/checkpoints/best.ckpt", "data=folder", f"data.root={tmp_path / 'disk'}",
             "data.num_workers=0", f"hydra.run.dir={tmp_path / 'run'}")  # fmt: skip

    def unmount():
        Path(tmp_path / "disk").rename(tmp_path / "gone")
        (tmp_path / "disk").mkdir()

    interrupt(monkeypatch, at=6, act=unmount)
    outcome = run(*words)
    assert outcome.status == 2
    assert f"error: {tmp_path / 'disk'} is gone or empty since the test began" in outcome.err
    assert not (tmp_path / "run" / "metrics.json").exists()
    (tmp_path / "disk").rmdir()
    (tmp_path / "gone").rename(tmp_path / "disk")
    outcome = run(*words)
    assert outcome.status == 0, outcome.err
    assert "resuming the test: " in outcome.out
    assert "12 scored / 12 expected / 0 failed" in outcome.out
    scores = [(folder / "predictions.csv").read_text() for folder in (tmp_path / "run", trained)]
    assert scores[0] == scores[1]
