"""Switchable normalization: each layer learns how much of instance, layer and batch statistics it uses.

    mean = sum of softmax(mean_weight) * (mean_in, mean_ln, mean_bn)
    var  = sum of softmax(var_weight) * (var_in, var_ln, var_bn)
    y = weight * (x - mean) / sqrt(var + eps) + bias

The variances are biased; in evaluation the batch's are running averages. Source: Luo et al., "Differentiable
Learning-to-Normalize via Switchable Normalization" (arXiv 1806.10779), Eq. 3-5; written from the equations alone.
"""

import torch
from torch import Tensor, nn

from vidgn.norms.relatives.channels import at_least_float32, pixel_axes, scale_and_shift


class SwitchableNorm3d(nn.Module):
    """Normalize by a learned mix of instance, layer and batch statistics.

    Args:
        num_features: channels C.
        eps: added to the variance.
        momentum: weight of the new batch in the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.mean_weight = nn.Parameter(torch.ones(3))  # of instance, layer, batch
        self.var_weight = nn.Parameter(torch.ones(3))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, input: Tensor) -> Tensor:
        """Normalize `input` (N, C, ...)."""
        wide = at_least_float32(input)
        var_in, mean_in = torch.var_mean(wide, pixel_axes(input), correction=0, keepdim=True)  # (N, C, 1, ...)
        mean_ln = mean_in.mean(1, keepdim=True)
        var_ln = var_in.mean(1, keepdim=True) + mean_in.var(1, correction=0, keepdim=True)  # law of total variance
        mean_bn, var_bn = self._batch_moments(mean_in, var_in)
        means, variances = self.mean_weight.softmax(0), self.var_weight.softmax(0)
        mean = means[0] * mean_in + means[1] * mean_ln + means[2] * mean_bn
        var = variances[0] * var_in + variances[1] * var_ln + variances[2] * var_bn
        y = (wide - mean) * (var + self.eps).rsqrt()
        return scale_and_shift(y.to(input.dtype), self.weight, self.bias)

    def _batch_moments(self, mean_in: Tensor, var_in: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and variance of the batch, or in evaluation the running ones, (1, C, 1, ...)."""
        shape = [1, self.num_features] + [1] * (mean_in.dim() - 2)
        if not self.training:
            return self.running_mean.to(mean_in.dtype).view(shape), self.running_var.to(mean_in.dtype).view(shape)
        mean = mean_in.mean(0, keepdim=True)
        var = var_in.mean(0, keepdim=True) + mean_in.var(0, correction=0, keepdim=True)
        with torch.no_grad():
            self.running_mean.lerp_(mean.flatten().to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(var.flatten().to(self.running_var.dtype), self.momentum)
        return mean, var

    def extra_repr(self) -> str:
        """Show the channels, eps and momentum."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"
