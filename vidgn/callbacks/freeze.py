"""Keep the frozen stages of a net as they are while the rest is trained."""

from collections.abc import Sequence

import lightning as L
from torch import nn


class Freeze(L.Callback):
    """Keep modules in `eval` mode in training: statistics of batch norm stay, nothing is dropped out.

    Lightning puts the whole net into training mode at the start and restores the modes after each validation.

    Args:
        modules: the frozen stages.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._modules = list(modules)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Freeze before the first step, also of a run that is resumed within an epoch."""
        self._freeze()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Freeze again in each epoch."""
        self._freeze()

    def _freeze(self) -> None:
        for module in self._modules:
            module.eval()
