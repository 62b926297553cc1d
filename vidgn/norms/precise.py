"""Precise batch-norm statistics: those of the weights as they are, over many batches, not a running average."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vidgn.norms.batch import SubBatchNorm3d

Statistics = dict[str, Tensor]  # buffers by their names in the net: NAME.running_mean, NAME.running_var


def statistics_layers(net: nn.Module) -> dict[str, nn.Module]:
    """Find the layers whose running averages may be replaced: bn, sync_bn, sub_bn.

    Frozen norms, whose statistics no batch moves, and norms without any are not among them, nor is batch_renorm: it is
    trained towards its own averages, and with others in their place it is another net (experiments/README.md: 20 to 57
    points of top-1 are lost).
    """
    return {
        name: layer
        for name, layer in net.named_modules()
        if isinstance(layer, _LAYERS) and isinstance(layer.running_mean, Tensor)
    }


class Moments:
    """Adds up what each layer sees, batch by batch: the mean m and the mean square of its channels.

        mean = average of m        var = average of (v + m^2) - mean^2

    with v a batch's biased variance: for batches of one size, the mean and biased variance of all of them
    together. For `sub_bn` the same in each part of the batch.
    Source: video-nonlocal-net lib/utils/bn_helper.py:170-201.

    Args:
        layers: by name, as `statistics_layers` finds them.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self.layers = layers
        self._sums: dict[str, Tensor] = {}  # (3, C) or (3, S*C): number of batches, sum of m, sum of v + m^2

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Count every batch that runs through the net; running averages and counters stay as they are."""
        buffers = [buffer for layer in self.layers.values() for buffer in layer.buffers(recurse=False)]
        before = [buffer.clone() for buffer in buffers]
        hooks = [layer.register_forward_pre_hook(self._adder(name)) for name, layer in self.layers.items()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)

    def statistics(self, *, reduce: Callable[[Tensor], Tensor] = lambda x: x) -> Statistics:
        """Give the statistics of all batches so far, of the layers that saw any.

        Args:
            reduce: averages a vector over the devices.
        """
        if not self._sums:
            return {}
        averages = reduce(torch.cat([(sums[1:] / sums[0]).flatten() for sums in self._sums.values()]))
        tensors, start = {}, 0
        for name, sums in self._sums.items():
            mean, square = averages[start : start + sums[1:].numel()].view(2, -1)
            start += sums[1:].numel()
            for kind, value in (("mean", mean), ("var", (square - mean.square()).clamp(min=0))):
                stored = self.layers[name].get_buffer(f"running_{kind}")
                tensors[_join(name, f"running_{kind}")] = value.view(stored.shape).to(stored)
        return tensors

    def _adder(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        @torch.no_grad()
        def add(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
            var, mean = _batch_moments(layer, args[0].detach())
            mean, var = (moment.to(_exact(moment.device)) for moment in (mean, var))
            sums = torch.stack([torch.ones_like(mean), mean, var + mean.square()])
            self._sums[name] = self._sums[name] + sums if name in self._sums else sums

        return add


def _batch_moments(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Give the biased variance and the mean of a batch (N, C, ...), (C,) or, part by part, (S*C,)."""
    if isinstance(layer, SubBatchNorm3d):
        samples, channels, *rest = x.shape
        x = x.reshape(samples // layer.num_splits, layer.num_splits * channels, *rest)
    axes = [axis for axis in range(x.dim()) if axis != 1]
    return torch.var_mean(x.to(torch.promote_types(x.dtype, torch.float32)), axes, correction=0)


def _exact(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # Apple's devices have no float64


def _join(name: str, buffer: str) -> str:
    return f"{name}.{buffer}" if name else buffer


_LAYERS = (_BatchNorm, SubBatchNorm3d)  # the first is torch's bn of 1 to 3 axes and sync_bn
