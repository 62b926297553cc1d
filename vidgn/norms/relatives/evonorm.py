"""EvoNorm-S0: a norm and an activation found together by search, of one clip alone.

    y = weight * x sigmoid(v x) / sqrt(var + eps) + bias       var of a group of channels over T, H, W

Without the activation, before a shortcut is added, weight * x + bias is left: nothing is divided there.
Source: Liu et al., "Evolving Normalization-Activation Layers" (arXiv 2004.02967), Table 1; timm
layers/evo_norm.py:241, which leaves the same.
"""

import torch
from torch import Tensor, nn

from vidgn.norms.relatives.channels import at_least_float32, check_groups, per_channel, scale_and_shift


class EvoNormS03d(nn.Module):
    """Gate each value by itself and divide by the deviation of its group of channels.

    Args:
        num_features: channels C.
        num_groups: groups G; must divide C.
        eps: added to the variance.
        act: gate and divide; without it the layer is weight * x + bias, as before a shortcut is added.

    Raises:
        ValueError: C is not a multiple of G.
    """

    v: Tensor | None

    def __init__(self, num_features: int, *, num_groups: int = 32, eps: float = 1e-5, act: bool = True) -> None:
        check_groups(num_groups, num_features)
        super().__init__()
        self.num_features = num_features
        self.num_groups = num_groups
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.v = nn.Parameter(torch.ones(num_features)) if act else None

    def forward(self, input: Tensor) -> Tensor:
        """Normalize and activate `input` (N, C, ...)."""
        if self.v is None:
            return scale_and_shift(input, self.weight, self.bias)
        gated = input * (input * per_channel(self.v, input)).sigmoid()
        grouped = at_least_float32(input).reshape(input.shape[0], self.num_groups, -1)
        scale = grouped.var(2, correction=0, keepdim=True).add(self.eps).rsqrt().to(input.dtype)
        y = (gated.reshape(grouped.shape) * scale).reshape(input.shape)
        return scale_and_shift(y, self.weight, self.bias)

    def drop_activation(self) -> None:
        """Leave weight * x + bias: something is added before the activation."""
        self.v = None

    def extra_repr(self) -> str:
        """Show the channels, groups, eps and whether the activation is included."""
        return f"{self.num_features}, num_groups={self.num_groups}, eps={self.eps}, act={self.v is not None}"
