"""Averaged weights over a whole run: killed and started again, tested, chosen by eval."""

import json
import os
import signal

import pytest
import torch

from vidgn.checkpoints.checkpoint import read_checkpoint

WORDS = ("epochs=2", "batch=8", "trainer.log_every_n_steps=1", "save_every_steps=1", "ema=0.8", "optim.lr=2")


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_average_and_eval_chooses(run, tiny, tmp_path, monkeypatch):
    from vidgn.classifier import VideoClassifier

    words = (*tiny, *WORDS)
    assert run("train", *words, f"hydra.run.dir={tmp_path / 'whole'}").status == 0
    real = VideoClassifier.training_step
    with monkeypatch.context() as patch:

        def step(self, batch, batch_idx):
            if self.global_step == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return real(self, batch, batch_idx)

        patch.setattr(VideoClassifier, "training_step", step)
        assert run("train", *words, f"hydra.run.dir={tmp_path / 'stopped'}").status == 143
    outcome = run("train", *words, f"hydra.run.dir={tmp_path / 'stopped'}")
    assert outcome.status == 0, outcome.err
    whole, stopped = (read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("whole", "stopped"))
    for first, second in ((whole.net, stopped.net), (whole.trained, stopped.trained)):
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(whole.net["blocks.6.proj.weight"], whole.trained["blocks.6.proj.weight"])
    assert (tmp_path / "whole" / "predictions.csv").read_bytes() == (
        tmp_path / "stopped" / "predictions.csv"
    ).read_bytes()

    best = tmp_path / "whole" / "checkpoints" / "best.ckpt"
    scores = {}
    for which in ("averaged", "trained"):
        folder = tmp_path / which
        outcome = run("eval", f"ckpt={best}", f"weights={which}", "data.num_workers=0", f"hydra.run.dir={folder}")
        assert outcome.status == 0, outcome.err
        scores[which] = (folder / "predictions.csv").read_text()
    assert scores["averaged"] == (tmp_path / "whole" / "predictions.csv").read_text()
    assert scores["averaged"] != scores["trained"]
    assert json.loads((tmp_path / "averaged" / "metrics.json").read_text())["videos_scored"] == 12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ema=0.9", "precise_bn=2", "norm=bn"], "do not go with precise_bn=2"),
        (["swa=2"], "swa (2) must be in (0, 1)"),
    ],
)
def test_what_does_not_go_together_is_said(run, tiny, tmp_path, words, message):
    outcome = run("train", *tiny, *words, f"hydra.run.dir={tmp_path}")
    assert outcome.status == 2
    assert message in outcome.err
