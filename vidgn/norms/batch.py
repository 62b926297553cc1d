"""Batch norm with its statistics frozen, or taken over parts of the batch.

Both layers take (N, C, ...), name their tensors as batch norm does, and read a batch norm's state dict.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FrozenBatchNorm3d(nn.Module):
    """Apply stored statistics and affine; nothing here learns or changes, in training either.

    Source: the BN* of "Group Normalization" sec. 4.2; video-nonlocal-net affine_nd_op.cc:34-53, whose scale
    and bias get no gradient.

    Args:
        num_features: channels C.
        eps: added to the variance.
        momentum: accepted and ignored, as by `GroupNorm3d`.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, *, eps: float = 1e-5, momentum: float | None = None) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, input: Tensor) -> Tensor:
        """Scale and shift `input` (N, C, ...)."""
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )

    def extra_repr(self) -> str:
        """Show the channels and eps."""
        return f"{self.num_features}, eps={self.eps}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(prefix + "num_batches_tracked", None)  # batch norm's counter: nothing is tracked here
        super()._load_from_state_dict(state_dict, prefix, *args)


class SubBatchNorm3d(nn.Module):
    """Batch norm of each of S interleaved parts of the batch: S devices with small batches, on one device.

    Part s of a batch are the samples k with k mod S = s. Each has running statistics of its own; evaluation
    uses those of all parts together, the mean of the means and, by the law of total variance, the mean of the
    variances plus the variance of the means.
    Source: SlowFast slowfast/models/batchnorm_helper.py:40-112, which aggregates on request; here evaluation
    always does.

    Args:
        num_features: channels C.
        num_splits: parts S; 2 makes of 8 clips per device the paper's batch norm at 4.
        eps: added to the variance.
        momentum: weight of the new batch in the running statistics.

    Raises:
        ValueError: `num_splits` is below 1, or in training the batch is not a multiple of it.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, *, num_splits: int = 2, eps: float = 1e-5, momentum: float = 0.1) -> None:
        if num_splits < 1:
            raise ValueError(f"num_splits ({num_splits}) must be at least 1; use a divisor of the batch.")
        super().__init__()
        self.num_features = num_features
        self.num_splits = num_splits
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_splits, num_features))
        self.register_buffer("running_var", torch.ones(num_splits, num_features))

    def forward(self, input: Tensor) -> Tensor:
        """Normalize `input` (N, C, ...), in training part by part."""
        if not self.training:
            mean, var = self.aggregate()
            return F.batch_norm(input, mean, var, self.weight, self.bias, training=False, eps=self.eps)
        splits, (samples, channels, *rest) = self.num_splits, input.shape
        if samples % splits:
            raise ValueError(
                f"num_splits ({splits}) must divide the batch ({samples}); use another batch or num_splits."
            )
        return F.batch_norm(
            input.reshape(samples // splits, splits * channels, *rest),
            self.running_mean.view(-1),
            self.running_var.view(-1),
            self.weight.repeat(splits),
            self.bias.repeat(splits),
            training=True,
            momentum=self.momentum,
            eps=self.eps,
        ).reshape(input.shape)

    def aggregate(self) -> tuple[Tensor, Tensor]:
        """Give the mean and variance (C,) of all parts together."""
        mean = self.running_mean.mean(0)
        return mean, self.running_var.mean(0) + (self.running_mean - mean).square().mean(0)

    def extra_repr(self) -> str:
        """Show the channels and the number of parts."""
        return f"{self.num_features}, num_splits={self.num_splits}, eps={self.eps}, momentum={self.momentum}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(prefix + "num_batches_tracked", None)
        for name in ("running_mean", "running_var"):  # batch norm has one for all
            value = state_dict.get(prefix + name)
            if value is not None and value.dim() == 1:
                state_dict[prefix + name] = value.expand(self.num_splits, -1)
        super()._load_from_state_dict(state_dict, prefix, *args)
