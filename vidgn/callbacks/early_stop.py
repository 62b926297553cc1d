"""End a run that no longer gets better, at the same validation whether or not it was interrupted before."""

from typing import Any, NamedTuple

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info


class Monitor(NamedTuple):
    """A metric of the validation, and whether larger values are better."""

    metric: str
    larger: bool

    def is_better(self, value: float, best: float | None) -> bool:
        """Compare with the best so far; a value that is not a number is never better."""
        if best is None:
            return value == value
        return value > best if self.larger else value < best


MONITORS = {
    "error": Monitor("val/error", larger=False),
    "loss": Monitor("val/loss", larger=False),
    "top5": Monitor("val/top5", larger=True),
}


def monitor(name: str) -> Monitor:
    """Return the metric of the option `best_by`.

    Raises:
        ValueError: an unknown name.
    """
    if name not in MONITORS:
        raise ValueError(f"best_by ({name}) must be one of {', '.join(MONITORS)}.")
    return MONITORS[name]


class EarlyStop(L.Callback):
    """Stop after some validations in a row that were not better than the best one.

    Must come before the callback that saves checkpoints, so that a checkpoint includes its own validation.

    Args:
        patience: validations without a better one.
        by: what they are compared by.

    Raises:
        ValueError: the patience is less than 1.
    """

    def __init__(self, patience: int, *, by: Monitor = MONITORS["error"]) -> None:
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            raise ValueError(f"early_stop ({patience}) must be a number of validations, 1 or more; null never stops.")
        self.patience = patience
        self.by = by
        self.best: float | None = None
        self.waited = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End a run at once that was interrupted after its last validation."""
        trainer.should_stop = trainer.should_stop or self.waited >= self.patience

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the validations without a better one."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        value = float(trainer.callback_metrics[self.by.metric])
        if self.by.is_better(value, self.best):
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            trainer.should_stop = True
            best = "none" if self.best is None else f"{self.best:.4g}"
            rank_zero_info(
                f"note: early_stop={self.patience}: {self.waited} validations without a better {self.by.metric} than "
                f"{best}; the run ends"
            )

    def state_dict(self) -> dict[str, Any]:
        """Remember the best value and the validations since."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue counting."""
        self.best, self.waited = state_dict["best"], state_dict["waited"]
