"""Functions of one value in the place of a norm: no statistics at all.

    dyt     y = weight * tanh(alpha x) + bias            Zhu et al., "Transformers without Normalization" (2503.10622)
    derf    y = weight * erf(alpha x + shift) + bias     "Stronger Normalization-Free Transformers" (2512.10938)

alpha and shift are one number per layer. Both were made for transformers, in the place of layer norm.
"""

import torch
from torch import Tensor, nn

from vidgn.norms.relatives.channels import scale_and_shift


class DynamicTanh3d(nn.Module):
    """Squash each value: weight * tanh(alpha x) + bias.

    Args:
        num_features: channels C.
        alpha: value that alpha starts from.
    """

    def __init__(self, num_features: int, *, alpha: float = 0.5) -> None:
        super().__init__()
        self.num_features = num_features
        self.alpha = nn.Parameter(torch.tensor([float(alpha)]))
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, input: Tensor) -> Tensor:
        """Squash `input` (N, C, ...)."""
        return scale_and_shift(torch.tanh(self.alpha.to(input.dtype) * input), self.weight, self.bias)

    def extra_repr(self) -> str:
        """Show the channels."""
        return f"{self.num_features}"


class DynamicErf3d(nn.Module):
    """Squash each value: weight * erf(alpha x + shift) + bias.

    Args:
        num_features: channels C.
        alpha: value that alpha starts from.
    """

    def __init__(self, num_features: int, *, alpha: float = 0.5) -> None:
        super().__init__()
        self.num_features = num_features
        self.alpha = nn.Parameter(torch.tensor([float(alpha)]))
        self.shift = nn.Parameter(torch.zeros(1))
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, input: Tensor) -> Tensor:
        """Squash `input` (N, C, ...)."""
        inner = self.alpha.to(input.dtype) * input + self.shift.to(input.dtype)
        return scale_and_shift(torch.erf(inner), self.weight, self.bias)

    def extra_repr(self) -> str:
        """Show the channels."""
        return f"{self.num_features}"
