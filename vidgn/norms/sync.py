"""Batch norm over the batches of all processes together, on any device.

torch's layer synchronizes on accelerators alone; on the CPU it refuses. There the same statistics come from two
sums over the process group, mean first and then the squares about it, whose gradients are sums over it again:

    process 0   x: 3 clips ─┐  sum of x, number  ┌─ mean ─┐  sum of (x - mean)²  ┌─ var
    process 1   x: 2 clips ─┘                    └─ mean ─┘                      └─ var
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function


class SyncBatchNorm3d(nn.SyncBatchNorm):
    """torch's `SyncBatchNorm`, which in training on the CPU shares its statistics, too (over gloo, say).

    Arguments, tensors and results are those of `nn.SyncBatchNorm`; in one process, and in evaluation, it is batch
    norm. Processes may have batches of different sizes.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalize `input` (N, C, ...)."""
        if not self.training or input.device.type != "cpu" or not _in_a_group():
            return super().forward(input)
        self._check_input_dim(input)
        return self._synchronized(input)

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
        return y if not self.affine else y * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        """Move the running statistics, whose variance is the unbiased one, as torch's batch norm does."""
        if not self.track_running_stats:
            return
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
    total: Tensor = _SumOverProcesses.apply(x, group)  # type: ignore[no-untyped-call]
    return total


def _in_a_group() -> bool:
    return dist.is_available() and dist.is_initialized()
