"""A signal to the whole process group, as schedulers send it: the run saves, exits with 143 and leaves nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vidgn.checkpoints.checkpoint import read_checkpoint

ROOT = next(folder for folder in Path(__file__).parents if (folder / "train.py").is_file())
SCRIPT = """
import os, signal, sys

def main():
    where, number, *sys.argv[1:] = sys.argv[1:]
    import vidgn.training.train as train
    from vidgn.classifier import VideoClassifier
    from vidgn.detection.dispatch import train_task
    from vidgn.runs.command_line import command

    owner = train if where == "build_parts" else VideoClassifier
    real, calls = getattr(owner, where), []

    def step(*args, **options):
        calls.append(1)
        if len(calls) == 2 or where == "build_parts":
            for _ in range(2):  # GNU timeout signals its child, then the group
                os.killpg(0, int(number))
        return real(*args, **options)

    if int(number):
        setattr(owner, where, step)
    command("train")(train_task)()

if __name__ == "__main__":
    main()
"""
WORDS = (
    "data.train=2", "data.val=1", "data.test=1", "data.num_workers=2", "epochs=1", "batch=4", "num_clips=1",
    "model.width=8", "crop=32", "clip_len=8", "span=16", "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
)  # fmt: skip


def train(folder, cache, *, where="training_step", number=0):
    """Run in a session of its own until the last process of it has ended; return the status and what it said."""
    script = folder.with_suffix(".py")
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "VIDGN_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, str(script), where, str(int(number)), *WORDS, f"hydra.run.dir={folder}"],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    said, _ = process.communicate()
    while in_session(process.pid):  # one that stays is a timeout of the test
        time.sleep(0.05)
    return process.returncode, said


def in_session(session):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.slow
def test_a_training_step_is_finished_and_saved_and_the_same_command_goes_on(cache, tmp_path):
    status, said = train(tmp_path / "run", cache, number=signal.SIGTERM)
    assert status == 143, said
    assert "stopped by request: saved " in said
    assert "Traceback" not in said
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt").step == 2
    status, said = train(tmp_path / "run", cache)
    assert status == 0, said
    assert "12 scored / 12 expected / 0 failed" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("build_parts", "stopped by request: nothing to save; run the same command again"),
        ("validation_step", "stopped by request: saved "),
        ("test_step", "the videos scored so far are in the journal"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_so_does_every_other_part_of_a_run(cache, tmp_path, where, sentence, number):
    status, said = train(tmp_path / "run", cache, where=where, number=number)
    assert status == 143, said
    assert sentence in said
    assert "Traceback" not in said
