"""Batch norm over the batches of all processes together, on any device.

torch's layer synchronizes on accelerators alone; on the CPU it refuses. There the same statistics come from two
sums over the process group, mean first and then the squares about it, whose gradients are sums over it again:

    process 0   x: 3 clips ─┐  sum of x, number  ┌─ mean ─┐  sum of (x - mean)²  ┌─ var
    process 1   x: 2 clips ─┘                    └─ mean ─┘                      └─ var
"""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function


class SyncBatchNorm3d(nn.modules.batchnorm._BatchNorm):
    """Batch norm whose statistics in training are those of all processes together.

    On accelerators it is torch's `SyncBatchNorm`; on the CPU it shares the same sums (over gloo, say). In one process,
    and in evaluation, it is batch norm. Processes may have batches of different sizes. It is no subclass of torch's
    layer because DistributedDataParallel refuses that on the CPU (torch/nn/parallel/distributed.py,
    _passing_sync_batchnorm_handle).

    Args:
        num_features: channels C.
        eps: added to the variance.
        momentum: weight of the new batch in the running statistics; None: their plain mean.
        process_group: the processes; None: all.
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, *, process_group: Any = None
    ) -> None:
        super().__init__(num_features, eps=eps, momentum=momentum)
        self.process_group = process_group

    def forward(self, input: Tensor) -> Tensor:
        """Normalize `input` (N, C, ...)."""
        if not self.training or not _in_a_group():
            return super().forward(input)
        if input.device.type != "cpu":
            return nn.SyncBatchNorm.forward(cast("nn.SyncBatchNorm", self), input)
        self._check_input_dim(input)
        return self._synchronized(input)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"The input has shape {tuple(input.shape)}; give (N, C, ...).")

    def _check_non_zero_input_channels(self, input: Tensor) -> None:
        nn.SyncBatchNorm._check_non_zero_input_channels(
            cast("nn.SyncBatchNorm", self), input
        )  # as torch's forward does

    def _synchronized(self, x: Tensor) -> Tensor:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        local = torch.cat([x.sum(axes), x.new_tensor([x.numel() // x.shape[1]])])
        sums = _sum(local, self.process_group)  # (C + 1,)
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = x - mean.view(shape)
        var = _sum(centred.square().sum(axes), self.process_group) / count
        self._follow(mean.detach(), var.detach(), count)
        y = centred * (var + self.eps).rsqrt().view(shape)
        return y * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        """Move the running statistics, whose variance is the unbiased one, as torch's batch norm does."""
        running_mean, running_var, steps = self.running_mean, self.running_var, self.num_batches_tracked
        assert running_mean is not None
        assert running_var is not None
        assert steps is not None
        steps.add_(1)
        weight = 1 / float(steps) if self.momentum is None else self.momentum
        running_mean.lerp_(mean.to(running_mean.dtype), weight)
        running_var.lerp_((var * count / (count - 1)).to(running_var.dtype), weight)


class _SumOverProcesses(Function):
    """Sum over the processes; each of them gets it, so the gradient is the sum of all their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        total = x.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None


def _sum(x: Tensor, group: Any) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(x, group)
    return total


def _in_a_group() -> bool:
    return dist.is_available() and dist.is_initialized()
