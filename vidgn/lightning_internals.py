"""Everything that vidgn uses of Lightning beyond its documented interface.

No other module touches these names. tests/test_lightning_internals.py has a test per function, so that a release of
Lightning that changes one of them fails there, with the version, and not in the middle of a run. pyproject.toml admits
no minor version above the newest that passes.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, cast

import lightning as L
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.logger import _flatten_dict, _sanitize_params
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import CustomTimeColumn, ProcessingSpeedColumn
from lightning.pytorch.loggers import TensorBoardLogger
from rich.progress import BarColumn, ProgressColumn

# Columns of a terminal below which a part of the progress bar is left out, so that the rest fits one line.
_LEAST_WIDTHS = {BarColumn: 140, CustomTimeColumn: 100, ProcessingSpeedColumn: 80}
TESTED = ("2.6",)  # minor versions; pyproject.toml admits these

Counters = dict[str, Any]  # {"total": COUNTS, "current": COUNTS, "is_last_batch": bool}
# COUNTS: {"ready": int, "started": int, "processed": int, "completed": int}


def train_counters(checkpoint: Mapping[str, Any]) -> Counters:
    """Return the counters of training batches in a checkpoint, to be changed in place."""
    return cast("Counters", checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"])


def epoch_counters(checkpoint: Mapping[str, Any]) -> Counters:
    """Return the counters of epochs in a checkpoint, to be changed in place."""
    return cast("Counters", checkpoint["loops"]["fit_loop"]["epoch_progress"])


def validation_counters(checkpoint: Mapping[str, Any]) -> Counters:
    """Return the counters of the validation within training, to be changed in place."""
    return cast("Counters", checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"])


def uncount_step(checkpoint: Mapping[str, Any]) -> None:
    """Take one from the batches that made an optimizer step; Lightning counts it again when it restarts.

    The loggers' step comes from this count.
    """
    checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def loader_states(checkpoint: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the training loaders wrote into a checkpoint by their `state_dict`."""
    return list(checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", []))


def set_rank_timeout(trainer: L.Trainer, *, minutes: float) -> None:
    """Set how long processes wait for each other.

    The argument `timeout` of DDPStrategy is not reachable where Lightning chooses the strategy (`auto`).
    """
    if hasattr(trainer.strategy, "_timeout"):  # DDPStrategy
        trainer.strategy._timeout = timedelta(minutes=minutes)


def as_hparams(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested options as TensorBoard takes them: one level, names joined by `/`, plain values."""
    return _sanitize_params(_flatten_dict(dict(options)))


def reopen_events(logger: TensorBoardLogger) -> None:
    """Let the next call of a finished logger open a new event file, and keep the older ones."""
    logger._experiment = None
    logger._kwargs.pop("purge_step", None)


def slurm_job_id() -> int | None:
    """Return the number of the SLURM job; None outside SLURM and for an interactive job."""
    return SLURMEnvironment.job_id()


def filter_rank_zero_log(keep: Callable[[logging.LogRecord], bool]) -> None:
    """Filter the messages that Lightning writes on the first rank."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(keep)


class EpochTitleBar(RichProgressBar):
    """Lightning's progress bar, whose title of an epoch a subclass may choose by `epoch_title`."""

    def epoch_title(self, current_epoch: int) -> str:
        """Return the text before the bar of an epoch, counted from 0."""
        return super()._get_train_description(current_epoch)

    def columns_within(self, width: int, *, trainer: L.Trainer) -> list[ProgressColumn]:
        """Return the parts of the bar that leave room for the metrics on a line of this width."""
        left_out = tuple(kind for kind, least in _LEAST_WIDTHS.items() if width < least)
        columns: list[ProgressColumn] = super().configure_columns(trainer)
        return [column for column in columns if not isinstance(column, left_out)]

    def _get_train_description(self, current_epoch: int) -> str:
        return self.epoch_title(current_epoch)
