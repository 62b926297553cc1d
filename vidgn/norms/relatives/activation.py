"""Give a norm that contains its activation the place of the activation that follows it.

    norm, ReLU (or SiLU)     the layer, activation included; the ReLU is gone
    norm, sum, ReLU          the layer without activation; the ReLU behind the sum stays

Known are pytorchvideo's blocks, X3D's head, and `nn.Sequential`.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from torch import nn

from vidgn.norms.relatives.evonorm import EvoNormS03d
from vidgn.norms.relatives.response import FilterResponseNorm3d

ACTIVATED = (EvoNormS03d, FilterResponseNorm3d)


class Slot(NamedTuple):
    """A norm's place: who holds the activation behind it, and under which name; None where a sum follows."""

    norm: nn.Module
    owner: nn.Module
    activation: str | None


def is_activated(module: nn.Module) -> bool:
    """Tell whether a module is a norm that contains its activation."""
    return isinstance(module, ACTIVATED) and (
        getattr(module, "tau", None) is not None or getattr(module, "v", None) is not None
    )


def take_activations(net: nn.Module) -> None:
    """Remove the activations that norms of a net contain, and from norms before a sum their own; in place."""
    for slot in list(find_slots(net)):
        if not isinstance(slot.norm, ACTIVATED):
            continue
        if slot.activation is None:
            slot.norm.drop_activation()
        elif isinstance(slot.owner, nn.Sequential):
            slot.owner[int(slot.activation)] = nn.Identity()
        elif slot.activation != _IN_FORWARD:
            setattr(slot.owner, slot.activation, None)  # the blocks skip what is None


def find_slots(net: nn.Module) -> Iterator[Slot]:
    """Yield the norms of a net whose activation is known."""
    for module in net.modules():
        kinds = (kind.__name__ for kind in type(module).__mro__)  # tsm's blocks are derived from pytorchvideo's
        for norm_name, activation in next((_PLACES[kind] for kind in kinds if kind in _PLACES), ()):
            norm = getattr(module, norm_name, None)
            norm = norm[0] if isinstance(norm, nn.Sequential) and len(norm) else norm  # X3D: norm, then excitation
            if isinstance(norm, nn.Module):
                yield Slot(norm, module, activation)
        if isinstance(module, nn.ModuleDict) and "pre_norm" in module:
            yield Slot(module["pre_norm"], module, _IN_FORWARD)
        if isinstance(module, nn.Sequential):
            layers = list(module)
            for number, (first, second) in enumerate(pairwise(layers)):
                if isinstance(second, nn.ReLU | nn.SiLU):
                    yield Slot(first, module, str(number + 1))


_IN_FORWARD = "forward"  # vidgn.models.builders.x3d.ProjectedHead applies its ReLU itself

# pytorchvideo's blocks: a norm, and the activation behind it.
_PLACES: Mapping[str, tuple[tuple[str, str | None], ...]] = {
    "ResNetBasicStem": (("norm", "activation"),),
    "BottleneckBlock": (("norm_a", "act_a"), ("norm_b", "act_b"), ("norm_c", None)),
    "ResBlock": (("branch1_norm", None),),
    "Conv2plus1d": (("norm", "activation"),),
    "FuseFastToSlow": (("norm", "activation"),),
    "NonLocalBlock": (("norm_out", None),),  # vidgn.models.builders.nonlocal_blocks
}
