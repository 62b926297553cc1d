"""End a trial of a search whose validations are worse than those of earlier trials."""

from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from vidgn.callbacks.early_stop import Monitor


class Pruning(L.Callback):
    """Report every validation, and stop where the answer is that the trial is not worth its time.

    Must come before the callback that saves checkpoints, so that a checkpoint includes its own validation.

    Args:
        by: metric of the validation.
        report: takes the number of the validation, from 0, and its value; returns whether to stop.

    Attributes:
        values: of all validations so far.
        pruned: the run was stopped.
    """

    def __init__(self, by: Monitor, report: Callable[[int, float], bool]) -> None:
        self.by = by
        self.report = report
        self.values: list[float] = []
        self.pruned = False

    @property
    def best(self) -> float | None:
        """Return the best value; None: there is none."""
        best: float | None = None
        for value in self.values:
            best = value if self.by.is_better(value, best) else best
        return best

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report again what an interrupted run had reported, and end it at once if it was stopped."""
        for number, value in enumerate(self.values):
            self.report(number, value)
        trainer.should_stop = trainer.should_stop or self.pruned

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the value of this validation."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        value = float(trainer.callback_metrics[self.by.metric])
        self.values.append(value)
        if self.report(len(self.values) - 1, value):
            self.pruned = trainer.should_stop = True
            rank_zero_info(f"note: {self.by.metric} {value:.4g} is worse than the median of the trials so far; pruned")

    def state_dict(self) -> dict[str, Any]:
        """Remember the values."""
        return {"values": list(self.values), "pruned": self.pruned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the values of the interrupted run."""
        self.values, self.pruned = list(state_dict["values"]), bool(state_dict["pruned"])
