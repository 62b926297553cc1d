"""How the values of a layer spread during training: Figure 6 of "Group Normalization"."""

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

PERCENTILE = "percentiles/"  # before the number, in the metrics
RANKS = (1, 20, 80, 99)  # Figure 6
_FAST_PATH = ["multipathway_blocks", "1"]  # of a SlowFast; the slow one is looked at
_VALUES = 1_000_000  # of a batch that are sorted; of more, every n-th


class Percentiles(L.Callback):
    """Log the percentiles 1, 20, 80 and 99 of what a convolution puts out, before norm and ReLU (Figure 6).

    They are taken from the first validation batches, whose clips are the same in every epoch, on the first process.

    Args:
        net: the network.
        layer: `res2` to `res5`, the last convolution of that stage, or the name of a module of the net.
        num_batches: of each validation.

    Raises:
        ValueError: the net has no such layer.
    """

    def __init__(self, net: nn.Module, layer: str, *, num_batches: int = 4) -> None:
        self.layer = find_layer(net, layer)
        self.num_batches = num_batches
        self._found: list[Tensor] = []  # (4,) of each batch
        self._handle: Any = None

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Listen to the layer."""
        if batch_idx < self.num_batches and not trainer.sanity_checking:
            self._handle = self.layer.register_forward_hook(self._take)

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Listen no longer."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the mean over the batches."""
        if self._found:
            values = torch.stack(self._found).mean(0).tolist()
            self._found = []
            for rank, value in zip(RANKS, values, strict=True):
                pl_module.log(f"{PERCENTILE}{rank}", value, sync_dist=False)

    def _take(self, module: nn.Module, given: Any, output: Tensor) -> None:
        values = output.detach().flatten()
        values = values[:: -(-len(values) // _VALUES)].float()
        at = torch.tensor(RANKS, device=values.device) / 100
        self._found.append(torch.quantile(values, at).cpu())


def find_layer(net: nn.Module, name: str) -> nn.Module:
    """Return the module whose values are looked at.

    Raises:
        ValueError: the net has no such layer.
    """
    modules: dict[str, nn.Module] = dict(net.named_modules())
    if name in modules and name:
        return modules[name]
    stages = stage_convs(net)
    if name not in stages:
        known = ", ".join(stages) or "none"
        raise ValueError(
            f"log.percentiles ({name}) is not a layer of this net; use a stage ({known}) or the name of a module, "
            f"such as {next((key for key, module in modules.items() if isinstance(module, nn.Conv3d)), 'blocks.0')}."
        )
    return stages[name]


def stage_convs(net: nn.Module) -> dict[str, nn.Module]:
    """Return the last convolution of each stage of bottleneck blocks, `res2` first; two paths: of the first."""
    chosen: dict[str, nn.Module] = {}
    for block in net.get_submodule("blocks").children():
        parts = [(name.split("."), part) for name, part in block.named_modules()]
        convs = [part for name, part in parts if name[-1] == "conv_c" and name[:2] != _FAST_PATH]
        if convs:
            chosen[f"res{len(chosen) + 2}"] = convs[-1]
    return chosen
