"""The norm of each part of a detector, as torchvision's builders ask for it."""

from collections.abc import Callable

from torch import nn

from vidgn.norms import make_norm

_PUBLISHED_WIDTH, _PUBLISHED_GROUPS = 64, 32  # NUM_GROUPS 32 (Detectron core/config.py:916) at a stem of 64 channels


def norm_layer(name: str, *, width: int) -> Callable[[int], nn.Module] | None:
    """Return what builds a norm from its number of channels; None for no norm, whose convolutions have biases.

    The groups of `gn` follow the width of the stem, as in the video nets.

    >>> norm_layer("gn", width=16)(64).num_groups
    8
    """
    if name == "none":
        return None
    if name == "bn":
        return nn.BatchNorm2d
    groups = max(1, _PUBLISHED_GROUPS * width // _PUBLISHED_WIDTH)
    return make_norm(name, num_groups=groups) if name == "gn" else make_norm(name)
