"""The commands of task=detect in this process, and a tiny run on drawn shapes."""

import logging
import sys

import pytest

WORDS = (
    "task=detect", "data.train=6", "data.val=2", "data.test=3", "data.num_workers=0", "model.width=8", "model.rois=8",
    "model.proposals=10", "optim.steps=6", "optim.drops=[4]", "optim.warmup_steps=2", "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false", "model.score_threshold=0.0", "model.max_detections=5", "logger.names=[csv]",
)  # fmt: skip


def run_words(name, words):
    """Run `train` or `eval` with words in this process; return the exit status."""
    from vidgn.detection.dispatch import choose_options, evaluate_task, train_task
    from vidgn.runs.command_line import command

    choose, job = (choose_options, train_task) if name == "train" else (None, evaluate_task)
    before = list(logging.getLogger().handlers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", *words])
        try:
            command(name, choose_options=choose)(job)()
        except SystemExit as stop:
            return int(stop.code or 0)
        finally:
            for handler in set(logging.getLogger().handlers) - set(before):  # Hydra adds its own
                logging.getLogger().removeHandler(handler)
                handler.close()
    return 0


@pytest.fixture
def detect(capsys):
    """Run a command; return (status, printed, errors)."""

    def call(name, *words):
        status = run_words(name, list(words))
        return (status, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def small():
    """Words that make a detector a matter of seconds."""
    return WORDS


@pytest.fixture(scope="session")
def detected(tmp_path_factory):
    """The run folder of a tiny detector."""
    folder = tmp_path_factory.mktemp("detected")
    assert run_words("train", [*WORDS, f"hydra.run.dir={folder}"]) == 0
    return folder
