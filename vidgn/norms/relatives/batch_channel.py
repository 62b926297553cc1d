"""Batch-channel normalization: batch norm by estimated statistics, in training too, then group norm.

    mu, s^2  <-  moved by `momentum` towards the mean and biased variance of the batch, without gradient
    z = batch_weight * (x - mu) / sqrt(s^2 + eps) + batch_bias
    y = group norm of z, weight and bias per channel

Source: Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization" (arXiv
1903.10520v2 and 1911.09738), Algorithm 1; made for kernels with weight standardization.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidgn.norms.relatives.channels import at_least_float32, batch_axes, check_groups


class BatchChannelNorm3d(nn.Module):
    """Normalize by running statistics, then groups of channels of each clip.

    In training a batch moves the statistics before it is normalized by them; in evaluation they stay.

    Args:
        num_features: channels C.
        num_groups: groups G of the second norm; must divide C.
        eps: added to both variances.
        momentum: weight of the new batch in the statistics.

    Raises:
        ValueError: C is not a multiple of G.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, *, num_groups: int = 32, eps: float = 1e-5, momentum: float = 0.1) -> None:
        check_groups(num_groups, num_features)
        super().__init__()
        self.num_features = num_features
        self.num_groups = num_groups
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.batch_weight = nn.Parameter(torch.ones(num_features))
        self.batch_bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, input: Tensor) -> Tensor:
        """Normalize `input` (N, C, ...)."""
        if self.training:
            self._estimate(input)
        z = F.batch_norm(
            input,
            self.running_mean.clone() if self.training else self.running_mean,  # the next batch moves the buffer
            self.running_var.clone() if self.training else self.running_var,
            self.batch_weight,
            self.batch_bias,
            training=False,
            eps=self.eps,
        )
        return F.group_norm(z.contiguous(), self.num_groups, self.weight, self.bias, self.eps)

    @torch.no_grad()
    def _estimate(self, input: Tensor) -> None:
        var, mean = torch.var_mean(at_least_float32(input), batch_axes(input), correction=0)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(var.to(self.running_var.dtype), self.momentum)

    def extra_repr(self) -> str:
        """Show the channels, groups, eps and momentum."""
        return f"{self.num_features}, num_groups={self.num_groups}, eps={self.eps}, momentum={self.momentum}"
