"""Weight normalization: normalize the kernels, not the features."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import is_parametrized


class ChannelBias3d(nn.Module):
    """Add a learned bias per channel to (N, C, ...): what is left of a norm beside normalized kernels.

    Args:
        num_features: channels C.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, input: Tensor) -> Tensor:
        """Add the bias to `input` (N, C, ...)."""
        return input + self.bias.to(input.dtype).view(-1, *[1] * (input.dim() - 2))

    def extra_repr(self) -> str:
        """Show the channels."""
        return f"{self.num_features}"


def normalize_weights(net: nn.Module) -> tuple[str, ...]:
    """Give every convolution and linear layer of a net a kernel w = g v / ||v||, per output channel.

    The kernels keep their values; what is learned is the length g (`parametrizations.weight.original0`) and
    the direction v (`original1`). Layers that have it already stay.
    Source: Salimans and Kingma, "Weight Normalization" (arXiv 1602.07868), Eq. 2.

    Returns:
        Names of the layers changed.
    """
    changed = []
    for name, layer in list(net.named_modules()):
        if isinstance(layer, _LAYERS) and not is_parametrized(layer, "weight"):
            weight_norm(layer, dim=1 if isinstance(layer, _TRANSPOSED) else 0)
            changed.append(name)
    return tuple(changed)


_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)  # kernels (I, O, ...)
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, *_TRANSPOSED)
