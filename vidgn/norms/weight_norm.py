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
        return (input.movedim(1, -1) + self.bias.to(input.dtype)).movedim(-1, 1)

    def extra_repr(self) -> str:
        """Show the channels."""
        return f"{self.num_features}"


def normalize_weights(net: nn.Module) -> tuple[str, ...]:
    """Give every convolution and linear layer of a net a kernel w = g v / ||v||, per output channel.

    The kernels keep their values; what is learned is the length g (`parametrizations.weight.original0`) and
    the direction v (`original1`). Layers that have it already stay.
    A filter of zeros has no direction: it gets that of ones, and the length 0.
    Source: Salimans and Kingma, "Weight Normalization" (arXiv 1602.07868), Eq. 2.

    Returns:
        Names of the layers changed.

    Raises:
        ValueError: see `check_weights`; nothing is changed.
    """
    check_normalizable(net)
    changed = []
    for name, layer in list(net.named_modules()):
        if isinstance(layer, _LAYERS) and not is_parametrized(layer, "weight"):
            dim = 1 if isinstance(layer, _TRANSPOSED) else 0
            weight_norm(layer, dim=dim)
            _give_directions(layer, dim=dim)
            changed.append(name)
    return tuple(changed)


def check_normalizable(net: nn.Module) -> None:
    """Check that `normalize_weights` can change every layer of a net.

    Raises:
        ValueError: a kernel is computed from other parameters (spectral norm, pruning), or two layers share one.
    """
    computed: list[str] = []
    owners: dict[int, list[str]] = {}  # names by the weight they use
    for name, layer in net.named_modules():
        if not isinstance(layer, _LAYERS) or _has_weight_norm(layer):
            continue
        weight = layer._parameters.get("weight")
        if weight is None:
            computed.append(name)
        else:
            owners.setdefault(id(weight), []).append(name)
    if computed:
        raise ValueError(
            f"norm=wn needs plain weights, and those of {', '.join(computed)} are computed from other parameters"
            " (spectral norm, pruning); remove that first, for example by torch.nn.utils.prune.remove."
        )
    tied = [", ".join(names) for names in owners.values() if len(names) > 1]
    if tied:
        raise ValueError(
            f"norm=wn would give layers that share one weight ({'; '.join(tied)}) weights of their own; untie them"
            " first, or use another norm."
        )


def _has_weight_norm(layer: nn.Module) -> bool:
    if not is_parametrized(layer, "weight"):
        return False
    parts = layer.get_submodule("parametrizations.weight").children()
    return any(type(part).__name__ == "_WeightNorm" for part in parts)


@torch.no_grad()
def _give_directions(layer: nn.Module, *, dim: int) -> None:
    direction = layer.get_parameter("parametrizations.weight.original1")
    rows = direction.movedim(dim, 0)
    rows[rows.flatten(1).norm(dim=1) == 0] = 1.0


_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)  # kernels (I, O, ...)
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, *_TRANSPOSED)
