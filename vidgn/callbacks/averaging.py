"""Averages of the weights of a run: validated and tested in place of the weights, saved beside them.

    ema    a <- d a + (1-d) w after each step, d = min(decay, (1+n)/(10+n)) at the n-th     (TensorFlow's warm-up)
    swa    the mean of w at the end of the last epochs           "Averaging Weights", arXiv 1803.05407, algorithm 1

The trained weights w never change by it: a checkpoint holds w where a run resumes, and a under `averaged`. Statistics
of batch norm are averaged like weights; counts are copied.
"""

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from vidgn.checkpoints.checkpoint import AVERAGED

_PREFIX = "net."  # of the net's tensors in a checkpoint


class WeightAverage(L.Callback):
    """Keep an average of a net's tensors; put it in place of them during validations.

    Must come before the callback that saves after a validation, which then finds the trained weights in place.

    Args:
        net: whose tensors are averaged.
        decay: of an exponential average after each step; None: the equal mean of epochs.
        swa: share of the epochs after which the equal mean begins; None: an exponential average.

    Raises:
        ValueError: both or neither are given, or one is out of its range.
    """

    def __init__(self, net: nn.Module, *, decay: float | None = None, swa: float | None = None) -> None:
        if (decay is None) == (swa is None):
            raise ValueError(f"ema ({decay}) and swa ({swa}) are two kinds of averages; give one of them.")
        if decay is not None and not 0 < decay < 1:
            raise ValueError(f"ema ({decay}) must be in (0, 1); 0.999 is usual, null is off.")
        if swa is not None and not 0 < swa < 1:
            raise ValueError(f"swa ({swa}) must be in (0, 1), a share of the epochs; 0.75 is usual, null is off.")
        self._net = net
        self._decay = decay
        self._swa = swa
        self._average: dict[str, Tensor] | None = None
        self._count = 0  # of what is in the average
        self._steps = -1  # of the optimizer, seen
        self._trained: dict[str, Tensor] | None = None  # while the average is in their place

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin with the weights there are, or bring a loaded average to their device."""
        if self._steps < 0:
            self._steps = trainer.global_step
        if self._average is not None:
            here = self._net.state_dict()
            self._average = {name: value.to(here[name].device) for name, value in self._average.items()}
        elif self._decay is not None:
            self._average = _copy(self._net.state_dict())

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take in the weights after each step of the optimizer."""
        if self._decay is not None and trainer.global_step != self._steps:
            self._steps = trainer.global_step
            self._count += 1
            self._take_in(ema_share(self._decay, self._count))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the average in place of the weights; at the end of an epoch take the weights in first."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        if self._swa is not None and trainer.global_step != self._steps and self._is_late(trainer):
            self._steps = trainer.global_step
            self._count += 1
            self._take_in(1 / self._count)
        if self._average is not None:
            self._trained = _copy(self._net.state_dict())
            self._net.load_state_dict(self._average)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the weights back."""
        if self._trained is not None:
            self._net.load_state_dict(self._trained)
            self._trained = None

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Put the weights back where a validation was broken off."""
        self.on_validation_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average beside the trained weights, also within a validation."""
        if self._trained is not None:
            for name, value in self._trained.items():
                checkpoint["state_dict"][_PREFIX + name] = value
        checkpoint[AVERAGED] = {
            "tensors": {} if self._average is None else dict(self._average), "count": self._count, "steps": self._steps,
        }  # fmt: skip

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Continue with the average of the checkpoint."""
        saved = checkpoint.get(AVERAGED)
        if saved is not None and trainer.state.fn == TrainerFn.FITTING:
            self._average = _copy(saved["tensors"]) or None
            self._count, self._steps = saved["count"], saved["steps"]

    def _is_late(self, trainer: L.Trainer) -> bool:
        assert self._swa is not None
        return trainer.current_epoch + 1 > self._swa * (trainer.max_epochs or 1)

    def _take_in(self, share: float) -> None:
        weights = self._net.state_dict()
        if self._average is None:
            self._average = _copy(weights)
        else:
            move_average(self._average, weights, share=share)


def ema_share(decay: float, count: int) -> float:
    """Return the share 1-d of the weights in an exponential average at the n-th step.

    >>> round(ema_share(0.99, 1), 3)
    0.818
    """
    return 1 - min(decay, (1 + count) / (10 + count))


@torch.no_grad()
def move_average(average: Mapping[str, Tensor], weights: Mapping[str, Tensor], *, share: float) -> None:
    """Move an average towards the weights by this share of the way, in place; counts are copied."""
    for name, value in average.items():
        if value.is_floating_point():
            value.lerp_(weights[name].detach(), share)
        else:
            value.copy_(weights[name])


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}
