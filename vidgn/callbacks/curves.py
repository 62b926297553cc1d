"""The curves of a run as a picture that grows with it."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import lightning as L

EVERY_MINUTES = 10.0  # between two pictures within an epoch


class Curves(L.Callback):
    """Draw after every epoch, now and then within one, and at the end; drawing never stops a run.

    Args:
        draw: writes the picture from what the loggers have on disk.
        every_minutes: between two pictures within an epoch.
    """

    def __init__(self, draw: Callable[[], None], *, every_minutes: float = EVERY_MINUTES) -> None:
        self.draw = draw
        self.every_minutes = every_minutes
        self._drawn_at = time.monotonic()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the epochs before; only now Lightning has logged all of the last one."""
        if trainer.current_epoch > 0:
            self._draw(trainer)

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Draw where an epoch takes long."""
        if time.monotonic() - self._drawn_at >= 60 * self.every_minutes:
            self._draw(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the whole run."""
        self._draw(trainer)

    def _draw(self, trainer: L.Trainer) -> None:
        self._drawn_at = time.monotonic()
        if not trainer.is_global_zero:
            return
        try:
            for log in trainer.loggers:
                log.save()
            self.draw()
        except Exception as err:  # days of training are worth more than a picture
            warnings.warn(f"the curves are not drawn ({type(err).__name__}: {err}); training continues", stacklevel=2)
