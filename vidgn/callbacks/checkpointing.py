"""Checkpoints of a run: by minutes or steps, after every validation, the last ones and the best."""

import time
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch.optim.lr_scheduler import LambdaLR

from vidgn.callbacks.early_stop import MONITORS, Monitor
from vidgn.callbacks.resume_point import Place, rescale, settle
from vidgn.checkpoints.checkpoint import read_state
from vidgn.files.whole_files import SUM, copy_whole, last_name, rotate, write_whole

BEST = "best.ckpt"  # by default: smallest validation error
CURVES = "curves"  # of a checkpoint: how much of each logger's belongs to it


@runtime_checkable
class Rewindable(Protocol):
    """A logger whose history can go back to the place of a checkpoint."""

    def place(self) -> dict[str, Any]:
        """Return how much has been logged, all of it on disk."""
        ...

    def go_back(self, place: dict[str, Any]) -> None:
        """Forget what was logged after `place`."""
        ...


class Keep(L.Callback):
    """Save a run so that it resumes bit for bit: every part of its state, at a point that it can resume from.

    Must come before every callback that logs at the start of a batch, so that nothing is logged twice.

    Args:
        folder: where the checkpoints go.
        every_minutes: between two checkpoints within an epoch; None: none by time.
        every_steps: the same in batches of an epoch; None: none by steps.
        last: newest checkpoints to keep, beside the best.
        by: what the best one is best in.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every_minutes: float | None = 10.0,
        every_steps: int | None = None,
        last: int = 2,
        by: Monitor = MONITORS["error"],
    ) -> None:
        if every_minutes is not None and not every_minutes > 0:
            raise ValueError(f"save_every_minutes ({every_minutes}) must be above 0; null saves by steps and epochs.")
        if every_steps is not None and every_steps < 1:
            raise ValueError(f"save_every_steps ({every_steps}) must be at least 1; null saves by minutes and epochs.")
        if last < 1:
            raise ValueError(f"keep_last ({last}) must be at least 1; 2 leaves one where the newest is damaged.")
        self.folder = folder
        self.every_minutes = every_minutes
        self.every_steps = every_steps
        self.last = last
        self.by = by
        self.best: float | None = None  # smallest error so far, or what `by` compares
        self.best_loss: float | None = None  # of that validation; of equal ones the smaller decides
        self.best_epoch: int | None = None  # counted from 0
        self._saved_at = time.monotonic()
        self._place: Place = "validated"
        self._saved_step: int | None = None  # after which the newest checkpoint was taken
        self._rescaled = False
        self._just_loaded = False  # then the place is saved already, and the one before it is worth its room

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the minutes from here; where the ranks or the length changed, put the rate where its schedule is."""
        self._saved_at = time.monotonic()
        for config in trainer.lr_scheduler_configs if self._just_loaded else ():
            schedule = config.scheduler
            if isinstance(schedule, LambdaLR):
                rates = zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
                before = [group["lr"] for group in schedule.optimizer.param_groups]
                for group, base, factor in rates:
                    group["lr"] = base * factor(schedule.last_epoch)
                now = [group["lr"] for group in schedule.optimizer.param_groups]
                if not self._rescaled and not np.allclose(before, now, rtol=1e-6, atol=0):
                    rank_zero_info(f"note: the learning rate is now {now[0]:g} by the schedule; it was {before[0]:g}")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save between two steps where it is due; the end of an epoch is saved after its validation."""
        loaded, self._just_loaded = self._just_loaded, False
        if not loaded and self.may_save(trainer, batch_idx) and self._is_due(trainer, batch_idx):
            self.save(trainer, "step")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save where `trainer.max_steps` ends the run, unless a validation after the same step has saved."""
        at_end = trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps
        if at_end and self._saved_step != trainer.global_step and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.save(trainer, "cut")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, and keep it as the best where its error is the smallest; of equal errors where the loss is."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        error = trainer.callback_metrics.get(self.by.metric)
        loss = trainer.callback_metrics.get("val/loss")
        is_best = error is not None and self._is_best(float(error), None if loss is None else float(loss))
        if is_best:
            assert error is not None
            self.best, self.best_loss = float(error), None if loss is None else float(loss)
            self.best_epoch = getattr(trainer, "current_epoch", None)
        self.save(trainer, "validated", best=is_best)

    def _is_best(self, error: float, loss: float | None) -> bool:
        if error == self.best:  # frequent: of 120 videos there are 121 errors
            return loss is not None and self.best_loss is not None and loss < self.best_loss
        return self.best is None or self.by.is_better(error, self.best)

    def may_save(self, trainer: L.Trainer, batch_idx: int) -> bool:
        """Tell whether the start of this batch is a place to come back to: between two optimizer steps of an epoch."""
        return batch_idx > 0 and batch_idx % trainer.accumulate_grad_batches == 0 and not trainer.fast_dev_run  # type: ignore[attr-defined]

    def save(self, trainer: L.Trainer, place: Place, *, best: bool = False) -> Path:
        """Save now; all ranks must call it. Returns the newest checkpoint."""
        newest = self.folder / last_name(0)
        self._place = place
        if trainer.is_global_zero:
            rotate(self.folder, keep=self.last)
        if best:  # save best first: last.ckpt must never refer to a missing best.ckpt
            trainer.save_checkpoint(self.folder / BEST, weights_only=False)
            if trainer.is_global_zero:
                copy_whole(self.folder / BEST, newest)
        else:
            trainer.save_checkpoint(newest, weights_only=False)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        return newest

    def save_end(self, trainer: L.Trainer) -> Path:
        """Save the state after the last step unless that is done; returns the newest checkpoint."""
        done = self._saved_step == trainer.global_step
        return self.folder / last_name(0) if done else self.save(trainer, "validated")

    def state_dict(self) -> dict[str, Any]:
        """Remember the smallest error."""
        return {"best": self.best, "best_loss": self.best_loss, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the smallest error if the checkpoint that had it is here; else the next validation is the best."""
        kept = (self.folder / BEST).exists()
        self.best = state_dict["best"] if kept else None
        self.best_loss = state_dict.get("best_loss") if kept else None
        self.best_epoch = state_dict.get("best_epoch") if kept else None

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write down the place, in the run and in its curves."""
        sampler = getattr(trainer.train_dataloader, "batch_sampler", None)
        settle(
            checkpoint,
            self._place,
            accumulate=trainer.accumulate_grad_batches,
            world_batch=getattr(sampler, "global_batch", 0),
        )
        self._place = "validated"  # for a save that does not come from this callback
        checkpoint[CURVES] = {type(log).__name__: log.place() for log in _rewindable(trainer)}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the curves back to the place of the checkpoint, and count in batches of the ranks there are now."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._just_loaded = True
            ratio = rescale(
                checkpoint,
                accumulate=trainer.accumulate_grad_batches,
                world_batch=getattr(trainer.datamodule, "videos_per_batch", 0) * trainer.world_size,  # type: ignore[attr-defined]
                by_steps=trainer.max_steps != -1,
            )
            self._rescaled = ratio != 1
            if self._rescaled:
                rank_zero_info(
                    f"note: {trainer.world_size} processes take {ratio:g} times the videos of the checkpoint per step; "
                    "the order of videos continues where it was, and the learning rate follows the linear rule"
                )
            for log in _rewindable(trainer):
                if type(log).__name__ in checkpoint.get(CURVES, {}):
                    log.go_back(checkpoint[CURVES][type(log).__name__])

    def _is_due(self, trainer: L.Trainer, batch_idx: int) -> bool:
        if self.every_steps is not None and batch_idx % self.every_steps == 0:
            return True
        if self.every_minutes is None:
            return False
        due = time.monotonic() - self._saved_at >= 60 * self.every_minutes
        return bool(trainer.strategy.broadcast(due)) if trainer.world_size > 1 else due  # clocks differ by rank


def _rewindable(trainer: L.Trainer) -> list[Rewindable]:
    """Return the loggers that can go back; only the first rank logs."""
    return [log for log in trainer.loggers if isinstance(log, Rewindable)] if trainer.is_global_zero else []


class WholeCheckpoints(CheckpointIO):
    """Write and read Lightning's checkpoints as vidgn's: whole files with a checksum, read without unpickling code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a whole file."""
        write_whole(Path(path), lambda file: torch.save(checkpoint, file))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint that vidgn wrote; `weights_only` is always true."""
        state: dict[str, Any] = read_state(path, map_location=map_location or "cpu")
        return state

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a file and its sum."""
        for name in (str(path), f"{path}{SUM}"):
            Path(name).unlink(missing_ok=True)
