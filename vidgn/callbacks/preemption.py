"""An end that the system asks for: finish the step, save, exit 143."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

from vidgn.callbacks.checkpointing import Keep
from vidgn.lightning_internals import slurm_job_id

EXIT = 143  # 128 + SIGTERM, what a job that was asked to end returns
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
ECHO = 1.0  # seconds in which one request may come twice: GNU timeout signals its child, then the child's group;
# torchrun passes on what its group got anyway


class Stop(L.Callback):
    """Answer SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 (SLURM's preemption) between two steps; a second one ends at once.

    Within `listening()`, but outside of training, validation and test, nothing is to be saved: the process ends at
    once, with the same status.

    Lightning 2.6.6 leaves with status 0 and without a checkpoint on SIGTERM, and saves within the signal handler,
    in the middle of a step, on SIGUSR1 (lightning/pytorch/trainer/connectors/signal_connector.py); neither can be
    resumed bit for bit, so its handlers are replaced during a run. Under SLURM, SIGUSR1 puts the job back into
    the queue, by Lightning's knowledge of SLURM: not for interactive jobs, and one task of an array by itself.

    Args:
        keep: saves; None: nothing is saved.
    """

    def __init__(self, keep: Keep | None = None) -> None:
        self.keep = keep
        self.asked: int | None = None  # the signal
        self._pid = os.getpid()
        self._heard_at = 0.0
        self._in_steps = False  # training, validating or testing: there is an end of a step to wait for

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen from the start of a command to its end; in the main thread."""
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self._listen()
        try:
            yield
        finally:
            if threading.current_thread() is threading.main_thread():
                for number, handler in before.items():
                    signal.signal(number, handler)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen from here; Lightning puts the handlers before back when the run ends."""
        self._listen()
        self._in_steps = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From here a signal ends the process at once."""
        self._in_steps = False

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen in tests too."""
        self._listen()
        self._in_steps = True

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From here a signal ends the process at once."""
        self._in_steps = False

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """From here a signal ends the process at once."""
        self._in_steps = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save and leave between two steps, at the first place that can be gone back to."""
        if not self._is_asked(trainer):
            return
        if self.keep is None or trainer.num_training_batches == 1:  # then the last validation has saved
            self._leave(trainer, "nothing more to save")
        elif self.keep.may_save(trainer, batch_idx):
            self._leave(trainer, f"saved {self.keep.save(trainer, 'step')}")

    def on_validation_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Save and leave; the validation will be run again from its start. Several ranks finish it first."""
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not fitting or self.asked is None or trainer.world_size > 1:  # ranks may have unequal numbers of batches
            return
        saved = "nothing to save" if self.keep is None else f"saved {self.keep.save(trainer, 'validation')}"
        self._leave(trainer, saved)

    def on_test_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Leave; what is scored is in the journal."""
        if self.asked is not None:  # ranks leave one by one: a test has nothing to agree upon
            self._leave(trainer, "the videos scored so far are in the journal")

    def _listen(self) -> None:
        self._pid = os.getpid()
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a child process that was forked a moment ago
            os._exit(EXIT)
        if self.asked is not None and time.monotonic() - self._heard_at < ECHO:
            return
        if self.asked is not None:
            os._exit(EXIT)
        self.asked, self._heard_at = number, time.monotonic()
        name = signal.Signals(number).name
        if not self._in_steps:
            os.write(2, f"\n{name}: stopped by request: nothing to save; run the same command again\n".encode())
            if number == signal.SIGUSR1 and int(getattr(rank_zero_only, "rank", 0)) == 0:
                _requeue()
            os._exit(EXIT)
        os.write(2, f"\n{name}: finishing the step; once more ends at once\n".encode())

    def _is_asked(self, trainer: L.Trainer) -> bool:
        asked = self.asked is not None
        return trainer.strategy.reduce_boolean_decision(asked, all=False) if trainer.world_size > 1 else asked

    def _leave(self, trainer: L.Trainer, what: str) -> None:
        if trainer.is_global_zero:
            os.write(2, f"stopped by request: {what}; the same command resumes there\n".encode())
            if self.keep is not None:
                os.write(2, f"{resume_line(sys.argv, self.keep.folder.parent)}\n".encode())
            if self.asked == signal.SIGUSR1:
                _requeue()
        raise SystemExit(EXIT)


def resume_line(argv: Sequence[str], folder: Path) -> str:
    """Return the command that resumes a run; it names the run folder.

    >>> resume_line(["train.py", "data.root=/my videos"], Path("runs/a"))
    "python train.py 'data.root=/my videos' hydra.run.dir=runs/a"
    """
    program = ["python", argv[0]] if argv[0].endswith(".py") else argv[0].split()
    overrides = [text for text in argv[1:] if not text.startswith("hydra.run.dir=")]
    return shlex.join([*program, *overrides, f"hydra.run.dir={folder}"])


def _requeue() -> None:
    """Put this SLURM job back into the queue; print why where that fails: the checkpoint is written in any case."""
    job = slurm_job_id()
    if job is None:
        return
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    name = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else str(job)
    command = ["scontrol", "requeue", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wrong = f"status {done.returncode}: {done.stderr.strip()}" if done.returncode else ""
    except OSError as err:
        wrong = str(err)
    says = f"failed ({wrong}); submit the same command again" if wrong else "done"
    os.write(2, f"{' '.join(command)}: {says}\n".encode())
