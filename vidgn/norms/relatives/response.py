"""Filter response normalization with its thresholded linear unit: no mean, no batch, an activation that learns.

    nu^2 = mean of x^2 over T, H, W of one channel of one clip
    y = weight * x / sqrt(nu^2 + eps) + bias
    z = max(y, tau)                              the TLU, in the place of the ReLU

Source: Singh and Krishnan, "Filter Response Normalization Layer" (arXiv 1911.09737), Eq. 1-3; eps stays as it is
(the paper learns it for maps of one position). timm layers/filter_response_norm.py:21.
"""

import torch
from torch import Tensor, nn

from vidgn.norms.relatives.channels import at_least_float32, per_channel, pixel_axes, scale_and_shift


class FilterResponseNorm3d(nn.Module):
    """Divide each channel of a clip by its root mean square, then apply max(y, tau).

    Args:
        num_features: channels C.
        eps: added to the mean square.
        act: end in max(y, tau); without it the layer ends in weight and bias, as before a shortcut is added.
    """

    tau: Tensor | None

    def __init__(self, num_features: int, *, eps: float = 1e-6, act: bool = True) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.tau = nn.Parameter(torch.zeros(num_features)) if act else None

    def forward(self, input: Tensor) -> Tensor:
        """Normalize `input` (N, C, ...)."""
        wide = at_least_float32(input)
        scale = wide.square().mean(pixel_axes(input), keepdim=True).add(self.eps).rsqrt()
        y = scale_and_shift((wide * scale).to(input.dtype), self.weight, self.bias)
        return y if self.tau is None else torch.maximum(y, per_channel(self.tau, y))

    def drop_activation(self) -> None:
        """End in weight and bias: something is added before the activation."""
        self.tau = None

    def extra_repr(self) -> str:
        """Show the channels, eps and whether the activation is included."""
        return f"{self.num_features}, eps={self.eps}, act={self.tau is not None}"
