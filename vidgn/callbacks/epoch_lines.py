"""One line per epoch, also where the output is a file and there is no progress bar."""

import time
from datetime import timedelta

import lightning as L
from lightning.pytorch.utilities import rank_zero_only


class EpochLines(L.Callback):
    """Print loss, errors, rate, speed and the time that is left after each epoch.

    The line is printed when the next epoch begins, or training ends: only then are all metrics of the epoch there.
    """

    def __init__(self) -> None:
        self._epoch: int | None = None  # the one whose line is to be printed
        self._clips = 0
        self._began = 0.0
        self._seconds: list[float] = []  # of each epoch of this process

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line of the epoch before, and begin to count."""
        self._print(trainer)
        self._epoch, self._clips, self._began = trainer.current_epoch, 0, time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Count clips."""
        clips = getattr(batch, "clips", None)
        self._clips += 0 if clips is None else clips.shape[0] * clips.shape[1]

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the last line."""
        self._print(trainer)

    @rank_zero_only
    def _print(self, trainer: L.Trainer) -> None:
        if self._epoch is None:
            return
        seconds = time.monotonic() - self._began
        self._seconds.append(seconds)
        last = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else None
        speed = self._clips * trainer.world_size / max(seconds, 1e-9)
        parts = [
            _value(trainer, "train/loss", "loss {:.3f}"),
            _value(trainer, "train/error", "train error {:.1f} %"),
            _value(trainer, "val/error", "val error {:.1f} %"),
            _value(trainer, "val/loss", "val loss {:.3f}"),
            "rate {:.3g}".format(trainer.optimizers[0].param_groups[-1]["lr"]) if trainer.optimizers else "",
            f"{speed:.1f} clips/s",
            clock(seconds),
            "" if last is None else f"{clock((last - self._epoch - 1) * min(self._seconds[-3:]))} left",
        ]
        total = "" if last is None else f"/{last}"
        print(f"epoch {self._epoch + 1}{total}: {', '.join(part for part in parts if part)}", flush=True)
        self._epoch = None


def clock(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds.

    >>> clock(75.4), clock(-3), clock(90061)
    ('0:01:15', '0:00:00', '1 day, 1:01:01')
    """
    return str(timedelta(seconds=round(max(0.0, seconds))))


def _value(trainer: L.Trainer, name: str, text: str) -> str:
    value = trainer.callback_metrics.get(name)
    return "" if value is None else text.format(float(value))
