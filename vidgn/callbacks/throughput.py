"""How fast a run goes, what it waits for, what it holds in memory, and how many of its videos are bad.

    data-bound     the loop waits for data more than a tenth of its time: a faster device would change nothing
    model-bound    it does not: faster reading would change nothing

The numbers go into `pace.csv` of the run folder and to the loggers, but not into `metrics.csv`, which is the same to
the last bit however often a run was stopped.
"""

import csv
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from rich import get_console
from rich.progress import ProgressColumn

from vidgn.callbacks.process_memory import descendants, proportional_bytes
from vidgn.lightning_internals import EpochTitleBar
from vidgn.terminal.escape import printable

DATA_BOUND = 10.0  # percent of the time
COLUMNS = (
    "step", "epoch", "time", "pace/clips_per_second", "pace/data_share", "pace/memory_gb", "pace/workers_gb",
    "pace/gpu_peak_gb", "pace/bad_videos",
)  # fmt: skip


class Pace(L.Callback):
    """Measure every `log_every_n_steps` batches, and say what bounds the run where that changes.

    Args:
        file: gets a row per measurement; rows after the step of a resumed run are dropped.
        but_not: kinds of loggers that get no numbers that depend on time.

    Attributes:
        data_share: of the last measurement: percent of the time in which the loop waited for data.
    """

    def __init__(self, file: Path, *, but_not: tuple[type[Logger], ...] = ()) -> None:
        self.file = file
        self.but_not = but_not
        self.data_share: float | None = None
        self._said = ""
        self._bad = 0
        self._clips = 0
        self._began = self._waited = self._paused = 0.0
        self._pause_began = 0.0

    @property
    def word(self) -> str:
        """What bounds the run; empty before the first measurement."""
        if self.data_share is None:
            return ""
        return "data-bound" if self.data_share > DATA_BOUND else "model-bound"

    def bar(self) -> dict[str, str]:
        """Return what the progress bar shows."""
        shown = {} if self.data_share is None else {"waiting": f"{self.data_share:.0f}%"}
        return {**shown, "bad": str(self._bad)} if self._bad else shown

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the file, or cut it at the step that the run resumes from."""
        if trainer.is_global_zero:
            rows = _rows(self.file, before=trainer.global_step)
            _write(self.file, rows)
            self._bad = _count_bad(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure from here; workers begin to read now."""
        self._begin(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure where it is time."""
        self._clips += batch.clips.shape[0] * batch.clips.shape[1]
        if (batch_idx + 1) % trainer.log_every_n_steps == 0 or trainer.is_last_batch:  # type: ignore[attr-defined]
            self._measure(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave validation out."""
        self._pause_began = time.monotonic()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on."""
        self._paused += time.monotonic() - self._pause_began

    def _begin(self, trainer: L.Trainer) -> None:
        self._began, self._waited = time.monotonic(), _waited(trainer)
        self._clips, self._paused = 0, 0.0

    @rank_zero_only
    def _measure(self, trainer: L.Trainer) -> None:
        seconds = time.monotonic() - self._began - self._paused
        self.data_share = 100 * min(1.0, (_waited(trainer) - self._waited) / seconds)
        own, others = proportional_bytes(os.getpid()), sum(map(proportional_bytes, descendants(os.getpid())))
        figures: dict[str, float] = {
            "pace/clips_per_second": self._clips * trainer.world_size / seconds,
            "pace/data_share": self.data_share,
            "pace/memory_gb": (own + others) / 1e9,
            "pace/workers_gb": others / 1e9,
            "pace/bad_videos": _count_bad(trainer),
        }
        if trainer.strategy.root_device.type == "cuda":
            figures["pace/gpu_peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
            torch.cuda.reset_peak_memory_stats()
        self._log(trainer, figures)
        self._say(trainer, figures)
        self._begin(trainer)

    def _log(self, trainer: L.Trainer, figures: Mapping[str, float]) -> None:
        position = {"step": trainer.global_step, "epoch": trainer.current_epoch, "time": round(time.time(), 3)}
        rounded = {name: round(value, 4) for name, value in figures.items()}
        with self.file.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS).writerow({**position, **rounded})
        for log in trainer.loggers:
            if not isinstance(log, self.but_not):
                log.log_metrics(dict(figures), step=trainer.global_step)

    def _say(self, trainer: L.Trainer, figures: Mapping[str, float]) -> None:
        if self.word != self._said:
            self._said = self.word
            print(
                f"step {trainer.global_step}: {self.word}: {figures['pace/clips_per_second']:.1f} clips/s, waiting for "
                f"data {self.data_share:.0f} % of the time"
                + ("; data.num_workers, prepared files or data.clips_per_video help" * (self.word == "data-bound")),
                flush=True,
            )
        quarantine = getattr(trainer.datamodule, "quarantine", None)  # type: ignore[attr-defined]
        if quarantine is not None and figures["pace/bad_videos"] > self._bad:
            for row in quarantine.rows()[self._bad :]:
                what = "replaced by others" if row.split == "train" else "counted as wrong"
                line = f"unreadable video: {row.video}: {row.error}; {what}, listed in {quarantine.path}"
                print(printable(line), flush=True)
            self._bad = int(figures["pace/bad_videos"])


_ALL_METRICS = 66  # columns of a terminal; with fewer the bar shows the loss alone


class Bar(EpochTitleBar):
    """Lightning's progress bar, with what bounds the run and how many videos are bad."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Return Lightning's metrics without its version, and this callback's, in short names for one line."""
        names = {"train/loss": "loss", "val/error": "val error"}
        metrics = {names.get(key, key): value for key, value in super().get_metrics(trainer, pl_module).items()}
        metrics.pop("v_num", None)
        if get_console().width < _ALL_METRICS:
            return {name: value for name, value in metrics.items() if name == "loss"}
        return {**metrics, **self._pace.bar()}

    def configure_columns(self, trainer: L.Trainer) -> list[ProgressColumn]:
        """Return the columns that fit one line of the terminal beside the metrics."""
        return self.columns_within(get_console().width, trainer=trainer)

    def epoch_title(self, current_epoch: int) -> str:
        """Count epochs from 1 to the last."""
        last = self.trainer.max_epochs
        text = f"epoch {current_epoch + 1}" + (f"/{last}" if last is not None and last > 0 else "")
        return text.ljust(len(self.validation_description)) if len(self.validation_description) > len(text) else text


def _waited(trainer: L.Trainer) -> float:
    """Return the seconds that the loop has waited in `next` of its loader, in all."""
    return float(getattr(trainer.train_dataloader, "waited_seconds", 0.0))


def _count_bad(trainer: L.Trainer) -> int:
    quarantine = getattr(trainer.datamodule, "quarantine", None)  # type: ignore[attr-defined]
    return 0 if quarantine is None else len(quarantine.rows())


def _rows(file: Path, *, before: int) -> list[dict[str, str]]:
    if not before or not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        return [row for row in csv.DictReader(lines) if int(row["step"]) <= before]


def _write(file: Path, rows: list[dict[str, str]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
