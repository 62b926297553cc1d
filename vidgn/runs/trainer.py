"""From the words to the parts: the net, the data, the trainer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from vidgn.callbacks.checkpointing import WholeCheckpoints
from vidgn.runs.loggers import Events, History
from vidgn.runs.ranks import find_strategy, limit_waiting
from vidgn.runs.speed import default_precision


def build_trainer(
    words: DictConfig,
    *,
    loggers: Sequence[str],
    folder: Path,
    callbacks: Sequence[L.Callback] = (),
    rank_timeout_minutes: float = 10.0,
) -> L.Trainer:
    """Build the Lightning Trainer of the words `trainer.*`.

    Args:
        words: arguments of the Trainer; `enable_checkpointing` decides about our own checkpoints (callbacks.keep),
            Lightning's are never used.
        loggers: names of `logger.names`.
        folder: of the run.
        callbacks: what watches the run.
        rank_timeout_minutes: that processes wait for each other.
    """
    strategy = find_strategy(str(words.strategy))
    arguments = cast("dict[str, Any]", OmegaConf.to_container(words, resolve=True))
    arguments["precision"] = arguments["precision"] or default_precision(arguments["accelerator"])
    trainer = L.Trainer(
        **{**arguments, "strategy": strategy, "enable_checkpointing": False},
        logger=[_logger(name, folder) for name in loggers] or False,
        callbacks=list(callbacks),
        plugins=[WholeCheckpoints()],
    )
    limit_waiting(trainer, minutes=rank_timeout_minutes)
    return trainer


def _logger(name: str, folder: Path) -> Logger:
    if name == "csv":
        return History(folder)
    if name == "tensorboard":
        return Events(folder)
    if name == "wandb":
        from lightning.pytorch.loggers import WandbLogger

        return WandbLogger(save_dir=folder, project="vidgn", name=folder.name)
    raise ValueError(f"logger.names ({name}) is unknown; use csv, tensorboard or wandb.")
