"""Ctrl-C is answered as SIGTERM is: the step is finished, the run saved, and the line that resumes it printed."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from vidgn.callbacks.preemption import EXIT, Stop, resume_line

PROGRAM = """
import os, signal
from vidgn.callbacks.preemption import Stop
with Stop().listening():
    os.kill(os.getpid(), signal.SIGINT)
print("not reached")
"""


def test_ctrl_c_asks_for_the_end_of_the_step():
    stop = Stop()
    before = signal.getsignal(signal.SIGINT)
    with stop.listening():
        stop.on_train_start(None, None)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) == before


def test_the_run_is_saved_and_the_line_that_resumes_it_is_printed(capfd, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "norm=gn", "data.root=/my videos"])
    keep = SimpleNamespace(folder=Path("runs/a/checkpoints"), may_save=lambda *_: True, save=lambda *_: "last.ckpt")
    trainer = SimpleNamespace(world_size=1, num_training_batches=9, is_global_zero=True)
    stop = Stop(keep)
    stop.asked = signal.SIGINT
    with pytest.raises(SystemExit, match=str(EXIT)):
        stop.on_train_batch_start(trainer, None, None, 3)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("stopped by request: saved last.ckpt")
    assert lines[1] == "python train.py norm=gn 'data.root=/my videos' hydra.run.dir=runs/a"


def test_the_folder_is_said_once():
    argv = ["vidgn train", "hydra.run.dir=runs/b", "batch=4"]
    assert resume_line(argv, Path("/x/runs/b")) == "vidgn train batch=4 hydra.run.dir=/x/runs/b"


@pytest.mark.slow
def test_before_the_first_step_there_is_nothing_to_save():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == EXIT
    assert "SIGINT: stopped by request: nothing to save" in done.stderr
    assert done.stdout == ""
