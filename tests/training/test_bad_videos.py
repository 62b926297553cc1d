"""Bad videos in a run: replaced and written down in training, wrong in validation and test, or the end of the run."""

import csv
import ctypes
import json
import os
import shutil
import signal

import pytest
import torch

from vidgn.data import dataset
from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video
from vidgn.data.video import open_video

WORDS = (
    "data=folder", "data.num_workers=0", "epochs=3", "batch=2", "crop=32", "clip_len=8", "span=16", "num_clips=1",
    "num_crops=1", "model.width=8", "save_every_steps=1", "trainer.accelerator=cpu", "trainer.log_every_n_steps=1",
    "trainer.enable_progress_bar=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two classes: six training and two validation videos each, one bad in either."""
    folder = tmp_path_factory.mktemp("bad")
    for label in ("move_up", "move_down"):
        for number in range(8):
            path = folder / ("train" if number < 6 else "val") / label / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, draw_video(label, spec=MotionsSpec(num_frames=12, side=40), key=(0, number)))
    (folder / "train" / "move_up" / "3.mp4").write_bytes(b"")
    (folder / "val" / "move_down" / "7.mp4").write_text("<html>404</html>")
    return folder


def rows(folder):
    return [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
def test_bad_videos_are_replaced_in_training_and_wrong_in_validation(run, videos, tmp_path, monkeypatch):
    words = (*WORDS, f"data.root={videos}", "data.max_share=0.1")
    outcome = run("train", *words, f"hydra.run.dir={tmp_path / 'whole'}")
    assert outcome.status == 0, outcome.err
    found = {(row["split"], row["video"]): row for row in rows(tmp_path / "whole")}
    assert set(found) == {("train", "train/move_up/3.mp4"), ("val", "val/move_down/7.mp4")}
    assert found["train", "train/move_up/3.mp4"]["error"] == "empty file"
    assert "not a video: it begins with the text" in found["val", "val/move_down/7.mp4"]["error"]
    with (tmp_path / "whole" / "metrics.csv").open() as file:
        metrics = [row for row in csv.DictReader(file) if row["val/error"]]
    assert [float(row["val/failed"]) for row in metrics] == [1, 1, 1]
    assert all(float(row["val/error"]) >= 25 for row in metrics)  # one of four is always wrong
    result = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert list(result["failures"]) == ["val/move_down/7.mp4"]
    assert (result["videos_expected"], result["videos_scored"]) == (4, 3)

    # Stopped in the second epoch and resumed, in another folder: the ledger comes along, and no bit differs.
    from vidgn.classifier import VideoClassifier

    real = VideoClassifier.training_step
    with monkeypatch.context() as patch:

        def step(self, batch, batch_idx):
            if self.global_step == 8:
                os.kill(os.getpid(), signal.SIGTERM)
            return real(self, batch, batch_idx)

        patch.setattr(VideoClassifier, "training_step", step)
        assert run("train", *words, f"hydra.run.dir={tmp_path / 'stopped'}").status == 143
    (tmp_path / "resumed").mkdir()
    outcome = run(
        "train", *words, f"resume={tmp_path / 'stopped' / 'checkpoints' / 'last.ckpt'}",
        f"hydra.run.dir={tmp_path / 'resumed'}",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    ours, theirs = weights(tmp_path / "whole"), weights(tmp_path / "resumed")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert rows(tmp_path / "resumed") == rows(tmp_path / "stopped")
    whole, resumed = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "resumed"))
    assert resumed["video_top1"] == whole["video_top1"]  # the best checkpoint came along, too


@pytest.mark.slow
def test_too_many_bad_videos_end_the_run_with_the_list(run, videos, tmp_path):
    outcome = run("train", *WORDS, f"data.root={videos}", f"hydra.run.dir={tmp_path}")
    assert outcome.status == 2
    assert "1 of 12 training videos cannot be read, more than data.max_share (0.01)" in outcome.err
    assert "train/move_up/3.mp4: empty file" in outcome.err
    assert "Traceback" not in outcome.err
    again = run("train", *WORDS, f"data.root={videos}", f"hydra.run.dir={tmp_path}", "data.max_share=0.2", "test=false")
    assert again.status == 0, again.err  # the same folder, told that one is allowed


def test_strict_ends_the_run_at_the_first_bad_video(run, videos, tmp_path):
    outcome = run("train", *WORDS, f"data.root={videos}", "strict=true", f"hydra.run.dir={tmp_path / 'train'}")
    assert outcome.status == 2
    assert "3.mp4: empty file" in outcome.err
    assert not (tmp_path / "train" / "quarantine.jsonl").exists()


@pytest.mark.slow
def test_a_strict_test_ends_at_the_first_bad_video(run, trained, tmp_path):
    told = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)["vidgn"]
    root = tmp_path / "test"
    for name in told["classes"]:
        (root / "val" / name).mkdir(parents=True)
        (root / "train" / name).mkdir(parents=True)
        (root / "val" / name / "a.mp4").write_bytes(b"")
        shutil.copy(root / "val" / name / "a.mp4", root / "train" / name / "b.mp4")
    words = (f"ckpt={trained}/checkpoints/best.ckpt", "data=folder", f"data.root={root}", "data.num_workers=0")
    outcome = run("eval", *words, "strict=true", f"hydra.run.dir={tmp_path / 'strict'}")
    assert outcome.status == 2
    assert "a.mp4: empty file" in outcome.err
    outcome = run("eval", *words, f"hydra.run.dir={tmp_path / 'loose'}")
    assert outcome.status == 0, outcome.err
    assert json.loads((tmp_path / "loose" / "metrics.json").read_text())["videos_failed"] == len(told["classes"])


@pytest.fixture
def sick(monkeypatch):
    """Return a function that makes one file do something instead of being read: `sick(name, act)`."""

    def make(name, act):
        def open_sick(path, *, backend):
            if path.endswith(name):
                act()
            return open_video(path, backend=backend)

        monkeypatch.setattr(dataset, "open_video", open_sick)

    return make


@pytest.mark.slow
def test_a_decoder_that_never_returns_costs_a_run_one_video(run, videos, tmp_path, sick):
    sick("train/move_up/1.mp4", lambda: ctypes.PyDLL(None).sleep(1000))  # PyDLL keeps the interpreter lock
    words = ("epochs=1", "data.max_share=0.2", "data.num_workers=1", "data.deadline_seconds=2", "test=false")
    outcome = run("train", *WORDS, f"data.root={videos}", *words, f"hydra.run.dir={tmp_path}")
    assert outcome.status == 0, outcome.err
    found = {row["video"]: row["error"] for row in rows(tmp_path) if row["split"] == "train"}
    assert found == {
        "train/move_up/1.mp4": "decoding took longer than the deadline of 2 s; its process was killed",
        "train/move_up/3.mp4": "empty file",
    }
    assert "unreadable video: train/move_up/1.mp4: decoding took longer" in outcome.out


@pytest.mark.slow
def test_a_reading_process_that_is_killed_is_one_sentence(run, videos, tmp_path, sick):
    sick("train/move_up/1.mp4", lambda: os.kill(os.getppid(), signal.SIGKILL))  # the helper kills its worker
    words = ("epochs=1", "data.max_share=0.2", "data.num_workers=1", "test=false")
    outcome = run("train", *WORDS, f"data.root={videos}", *words, f"hydra.run.dir={tmp_path}")
    assert outcome.status == 2
    (sentence,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert "was killed by signal 9 (SIGKILL) while it read " in sentence
    assert "train/move_up/1.mp4; 1 workers; signal 9 is most often lack of memory: use fewer workers" in sentence


@pytest.mark.slow
def test_several_clips_of_a_video_are_words_of_a_run(run, videos, tmp_path):
    words = ("epochs=1", "data.max_share=0.2", "data.clips_per_video=2", "test=false")
    outcome = run("train", *WORDS, f"data.root={videos}", *words, f"hydra.run.dir={tmp_path / 'two'}")
    assert outcome.status == 0, outcome.err
    state = torch.load(tmp_path / "two" / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 12  # 12 videos x 2 clips, 2 clips in a step
    outcome = run("train", *WORDS, f"data.root={videos}", "data.clips_per_video=3", f"hydra.run.dir={tmp_path / 'no'}")
    assert outcome.status == 2
    assert "data.clips_per_video (3) must divide batch (2), which counts clips." in outcome.err
