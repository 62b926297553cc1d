"""Build the Lightning Trainer from the options `trainer.*` and `logger.names`."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import Logger

from vidgn.callbacks.checkpointing import WholeCheckpoints
from vidgn.runs.config import TrainerSpec
from vidgn.runs.loggers import Events, History
from vidgn.runs.ranks import find_strategy, limit_waiting
from vidgn.runs.speed import default_precision
from vidgn.terminal.console import say


def build_trainer(
    options: TrainerSpec,
    *,
    loggers: Sequence[str],
    folder: Path,
    callbacks: Sequence[L.Callback] = (),
    rank_timeout_minutes: float = 10.0,
) -> L.Trainer:
    """Build the Lightning Trainer of the options `trainer.*`.

    Args:
        options: arguments of the Trainer; `enable_checkpointing` decides about our own checkpoints (callbacks.keep),
            Lightning's are never used.
        loggers: names of `logger.names`.
        folder: of the run.
        callbacks: what watches the run.
        rank_timeout_minutes: that processes wait for each other.

    Raises:
        ValueError: a precision that is not supported, or a number out of its range.
    """
    check_precision(options.precision)
    check_numbers(options)
    check_devices(options)
    strategy = find_strategy(options.strategy)
    precision = options.precision or default_precision(options.accelerator)
    trainer = L.Trainer(
        **{**options.plain(), "precision": precision, "strategy": strategy, "enable_checkpointing": False},
        logger=[build_logger(name, folder) for name in loggers] or False,
        callbacks=list(callbacks),
        plugins=[WholeCheckpoints()],
    )
    limit_waiting(trainer, minutes=rank_timeout_minutes)
    return trainer


def check_precision(precision: object) -> None:
    """Check the option `trainer.precision`.

    Raises:
        ValueError: weights, statistics and scores would not be float32.
    """
    if precision is not None and str(precision) not in _PRECISIONS:
        raise ValueError(
            f"trainer.precision ({precision}) must be one of 32-true, bf16-mixed, 16-mixed or null: weights, norm "
            "statistics and scores are float32; use bf16-mixed for less memory."
        )


_PRECISIONS = ("32-true", "32", "bf16-mixed", "bf16", "16-mixed", "16")  # as Lightning spells them


def check_numbers(options: TrainerSpec) -> None:
    """Check the numbers of `trainer.*` that Lightning divides by, or takes for "off" where they are negative.

    Raises:
        ValueError: one is out of its range.
    """
    for name in _COUNTS:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"trainer.{name} ({value}) must be at least 1.")
    epochs, interval, clipping = options.max_epochs, options.val_check_interval, options.gradient_clip_val
    if epochs is not None and epochs < 0 and not (epochs == -1 and options.max_steps > 0):
        raise ValueError(f"epochs ({epochs}) must be 0 or more, or -1 together with trainer.max_steps=STEPS.")
    if interval is not None and not interval > 0:
        raise ValueError(
            f"trainer.val_check_interval ({interval}) must be a number of batches from 1 on, a fraction of an epoch "
            "above 0, or null for the end of each epoch."
        )
    if clipping is not None and not 0 <= clipping < math.inf:
        raise ValueError(f"trainer.gradient_clip_val ({clipping}) must be above 0, or null for no clipping.")


_COUNTS = ("log_every_n_steps", "accumulate_grad_batches", "check_val_every_n_epoch", "num_nodes")


def check_devices(options: TrainerSpec) -> None:
    """Check the accelerator and the number of devices against this machine.

    Raises:
        ValueError: the accelerator is not here, or devices is not a number.
    """
    accelerator, devices = options.accelerator, options.devices
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    here = ["auto", "cpu", *(["gpu", "cuda"] if has_cuda else []), *(["gpu", "mps"] if has_mps else [])]
    if accelerator not in here:
        raise ValueError(
            f"trainer.accelerator={accelerator} is not on this machine; use one of {', '.join(here)}"
            + ("; torch finds no GPU here" if accelerator in ("gpu", "cuda") else "")
        )
    cores = len(os.sched_getaffinity(0))
    on_cpu = accelerator == "cpu" or not (has_cuda or has_mps)
    if on_cpu and isinstance(devices, int) and devices > cores:
        say(
            f"warning: trainer.devices={devices} starts {devices} processes on {cores} cores, which wait for each "
            f"other; trainer.devices={cores} or fewer is faster"
        )


def build_logger(name: str, folder: Path) -> Logger:
    """Return a logger of the option `logger.names`.

    Raises:
        ValueError: there is none of this name.
        ImportError: the package that it needs is not installed.
    """
    if name == "csv":
        return History(folder)
    if name == "tensorboard":
        return Events(folder)
    if name == "wandb":
        from lightning.pytorch.loggers import WandbLogger

        return WandbLogger(save_dir=folder, project="vidgn", name=folder.name)
    if name == "mlflow":
        return _mlflow(folder)
    raise ValueError(f"logger.names ({name}) is unknown; use csv, tensorboard, wandb or mlflow.")


def _mlflow(folder: Path) -> Logger:
    """Return MLflow's logger: to the server of MLFLOW_TRACKING_URI, or into `mlruns/` of the run folder.

    Raises:
        ImportError: MLflow is not installed.
    """
    from lightning.pytorch.loggers import MLFlowLogger

    try:
        return MLFlowLogger(
            experiment_name="vidgn",
            run_name=folder.name,
            tracking_uri=os.environ.get("MLFLOW_TRACKING_URI"),
            save_dir=str(folder / "mlruns"),
        )
    except ModuleNotFoundError as err:
        raise ImportError("logger.names (mlflow) needs MLflow; pip install 'vidgn[mlflow]'") from err
