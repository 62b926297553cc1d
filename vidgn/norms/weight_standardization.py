"""Weight standardization: every filter of a convolution has mean 0 and variance 1 before it is applied.

For a kernel w of T x h x w' taps over I channels, per output filter, with fan_in = T I h w':

    mu = mean(w)     s = T std(w)     the deviation of the 2-D kernel that a still clip sees
    scaled    (w - mu) / sqrt(fan_in / T s^2 + 1e-4)      the default: outputs keep the size of the inputs
    timm      (w - mu) / sqrt(s^2 + 1e-6)                 biased variance
    authors   (w - mu) / (s + 1e-5)                       unbiased variance
    centered  w - mu                                      the mean alone, for norms that take none away (mabn)

At T = 1 the last two are timm's `StdConv2d` and the published layer. With T in s, standardizing an inflated kernel
w / T gives 1/T of the standardized 2-D kernel, so a net and its inflation agree on a still clip.

Source: Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization"
(arXiv 1903.10520), Eq. 5-7; timm layers/std_conv.py:29 (`StdConv2d`); scaling by 1/sqrt(fan_in): "Characterizing
signal propagation to close the performance gap in unnormalized ResNets" (arXiv 2101.08692), Eq. 5.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

from vidgn.norms.layers import is_norm
from vidgn.norms.weight_norm import ChannelBias3d

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Standardization(NamedTuple):
    """One convention of weight standardization.

    Attributes:
        eps: added to the variance, or to the deviation with `unbiased`.
        unbiased: divide the sum of squares by one less than the number of weights, as the authors do.
        scaled: divide by the square root of the fan-in too, so that outputs keep the size of the inputs.
        centered: take the mean away and divide by nothing.
    """

    eps: float
    unbiased: bool = False
    scaled: bool = False
    centered: bool = False


STANDARDIZATIONS: Mapping[str, Standardization] = {
    "scaled": Standardization(eps=1e-4, scaled=True),
    "timm": Standardization(eps=1e-6),  # std_conv.py:29
    "authors": Standardization(eps=1e-5, unbiased=True),  # joe-siyuan-qiao/WeightStandardization, README
    "centered": Standardization(
        eps=0.0, centered=True
    ),  # "Towards Stabilizing Batch Statistics" (2001.06838), sec. 4.2
}


def find_standardization(choice: bool | str) -> Standardization | None:
    """Return the convention that `weight_standardization=choice` names; None for false.

    Raises:
        ValueError: an unknown choice.

    >>> find_standardization("timm").eps
    1e-06
    """
    if choice is False:
        return None
    name = "scaled" if choice is True else choice
    if not isinstance(name, str) or name not in STANDARDIZATIONS:
        raise ValueError(
            f"weight_standardization={choice} is unknown; use true, false or one of {', '.join(STANDARDIZATIONS)}."
        )
    return STANDARDIZATIONS[name]


def own_standardization(norm: str | None, choice: bool | str) -> bool | str:
    """Return the standardization of a net: `choice`, or what its norm needs where that is false.

    >>> own_standardization("mabn", False)
    'centered'
    """
    return "centered" if norm == "mabn" and choice is False else choice


def standardize(kernel: Tensor, how: Standardization) -> Tensor:
    """Give a kernel (O, I, ...) whose filters have mean 0 and one size; a T axis is the first of three.

    The statistics of a float16 or bfloat16 kernel are computed in float32.
    """
    wide = kernel.float() if kernel.dtype in (torch.float16, torch.bfloat16) else kernel
    # A filter is read as it lies, and its layout stays: a convolution answers a channels-last kernel in channels-last.
    rows = wide if wide.is_contiguous() else wide.movedim(1, -1)  # (O, I, ...) or (O, ..., I)
    filters = rows.reshape(1, rows.shape[0], -1)  # (1, O, fan_in): a group norm of one sample, a filter per group
    frames = kernel.shape[2] if kernel.dim() == 5 else 1
    taps = filters.shape[2] // frames  # of one frame
    if filters.shape[2] == 1:  # one weight is its own mean
        return kernel - kernel
    if how.centered:
        divided = filters - filters.mean(2, keepdim=True)
    elif how.unbiased:
        divided = _by_deviation(filters, eps=how.eps, frames=frames, taps=taps)
    else:
        share = frames * (taps**0.5 if how.scaled else 1.0)
        scale = filters.new_full((filters.shape[1],), 1 / share)
        divided = F.group_norm(filters, filters.shape[1], scale, None, how.eps / share**2)
    shaped = divided.reshape(rows.shape)
    return (shaped if rows is wide else shaped.movedim(-1, 1)).to(kernel.dtype)


def _by_deviation(filters: Tensor, *, eps: float, frames: int, taps: int) -> Tensor:
    var, mean = torch.var_mean(filters, 2, correction=0, keepdim=True)
    var = var * (frames**2 * taps / max(taps - 1, 1))
    # sqrt has no gradient at 0, where all weights of a filter are equal; clamped it is 0 there.
    return (filters - mean) / (var.clamp_min(torch.finfo(var.dtype).tiny).sqrt() + eps)


class _Standardized:
    """Give a convolution of torch a standardized kernel; parameters, keys and hooks stay. Never built."""

    standardization: Standardization

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        kernel = standardize(weight, self.standardization)
        y: Tensor = super()._conv_forward(input, kernel, bias)  # type: ignore[misc]
        return y

    def extra_repr(self) -> str:
        """Say what torch's convolution says, and how its kernel is standardized."""
        return f"{super().extra_repr()}, {self.standardization}"  # type: ignore[misc]


class StandardizedConv1d(_Standardized, nn.Conv1d):
    """A 1-D convolution with a standardized kernel. Never built: a convolution becomes one."""


class StandardizedConv2d(_Standardized, nn.Conv2d):
    """A 2-D convolution with a standardized kernel. Never built: a convolution becomes one."""


class StandardizedConv3d(_Standardized, nn.Conv3d):
    """A 3-D convolution with a standardized kernel. Never built: a convolution becomes one."""


_KINDS: Mapping[type[nn.Module], type[nn.Module]] = {  # exact types: a subclass may compute otherwise
    nn.Conv1d: StandardizedConv1d,
    nn.Conv2d: StandardizedConv2d,
    nn.Conv3d: StandardizedConv3d,
}

_PLAIN = {standardized: plain for plain, standardized in _KINDS.items()}


def standardize_weights(net: nn.Module, how: Standardization) -> tuple[str, ...]:
    """Let every convolution of a net that a norm follows standardize its kernel, in place.

    Parameters and their names stay. Convolutions without a norm behind them, such as classifiers and those of squeeze
    and excitation, stay as they are: their size means something.

    Returns:
        Names of the convolutions changed.

    Raises:
        ValueError: a kernel is computed from other parameters (weight or spectral norm, pruning); nothing is changed.
    """
    check_kernels(net)
    names = normalized_convolutions(net)
    for conv in map(net.get_submodule, names):
        conv.__class__ = _KINDS.get(type(conv), type(conv))
        conv.standardization = how  # type: ignore[assignment]
    return names


def check_kernels(net: nn.Module, norm: str | None = None) -> None:
    """Check that the kernels of a net can be standardized, beside a norm of this name.

    Raises:
        ValueError: they are computed from other parameters, or `norm` will do so.
    """
    if norm == "wn":
        raise ValueError(
            "weight_standardization=true standardizes the kernels and norm=wn normalizes them in another way; use one"
            " of the two."
        )
    convs = {name: net.get_submodule(name) for name in normalized_convolutions(net)}
    computed = [name for name, conv in convs.items() if conv._parameters.get("weight") is None]
    if computed:
        raise ValueError(
            f"weight_standardization needs plain kernels, and {', '.join(computed)} compute theirs from other"
            " parameters (weight or spectral norm, pruning); remove that first, or leave weight_standardization out."
        )


def normalized_convolutions(net: nn.Module) -> tuple[str, ...]:
    """Name the convolutions that the next layer with weights, in the order of registration, normalizes.

    The norm has as many channels as the convolution gives, and a filter has more than one weight. `nn.Identity`, which
    stands for a norm in a net built with norm=none, counts as one, but not at the end of a block (`norm_c`): the kernel
    before it starts at zero, and without a norm its size is what the block adds. A block whose sum is normalized by the
    next one names the convolution that the order does not show in `normalized_sum`.
    """
    names = []
    before: tuple[str, nn.Module] | None = None
    for name, module in net.named_modules():
        if is_norm(module) or isinstance(module, ChannelBias3d | nn.Identity):
            adds = isinstance(module, nn.Identity) and name.rpartition(".")[2] == "norm_c"
            if before is not None and not adds and _channels(module) in (None, before[1].out_channels):
                names.append(before[0])
            before = None
        elif _is_convolution(module):
            before = (name, module)
        elif module._parameters and ".parametrizations." not in f".{name}":
            before = None
        names += [f"{name}.{part}" for part in getattr(module, "normalized_sum", ())]
    return tuple(dict.fromkeys(names))


def is_standardized(net: nn.Module) -> bool:
    """Tell whether a net standardizes any of its kernels when it is used."""
    return any(getattr(module, "standardization", None) is not None for module in net.modules())


def standardization_of(net: nn.Module) -> bool | str:
    """Return the option `weight_standardization` that makes a net like this one, for a description of it.

    >>> standardization_of(nn.Conv3d(2, 2, 1))
    False
    """
    for module in net.modules():
        how = getattr(module, "standardization", None)
        if how is not None:
            name = next((name for name, known in STANDARDIZATIONS.items() if known == how), None)
            if name is None:
                raise ValueError(f"{how} has no name; a net that is described must have one of STANDARDIZATIONS.")
            return True if name == "scaled" else name
    return False


def describe_kernels(model: Mapping[str, Any], net: nn.Module) -> dict[str, Any]:
    """Return the options of a model with `weight_standardization` as the net has it now, left out where it is false.

    A net whose kernels were folded must not be described as standardized: they would be standardized twice.
    """
    kept = {key: value for key, value in model.items() if key != "weight_standardization"}
    choice = standardization_of(net)
    return kept if choice is False else {**kept, "weight_standardization": choice}


@torch.no_grad()
def fold_standardization(net: ModuleT) -> ModuleT:
    """Replace standardized kernels by plain ones with the same output, in place, and return the net.

    Afterwards the net is an ordinary one, whose state dict any code can load. It is not trained after: the norm and
    direction that the optimizer saw are gone.
    """
    done: set[int] = set()  # kernels that two convolutions share are folded once
    for module in net.modules():
        how = getattr(module, "standardization", None)
        if how is None:
            continue
        weight = module.get_parameter("weight")
        if id(weight) not in done:
            weight.copy_(standardize(weight, how))
            done.add(id(weight))
        module.__class__ = _PLAIN.get(type(module), type(module))
        del module.standardization
    return net


def folded_state_dict(net: nn.Module) -> dict[str, Tensor]:
    """Give the state dict that `fold_standardization` would leave, and leave the net as it is."""
    state = dict(net.state_dict())
    for name, module in net.named_modules():
        how = getattr(module, "standardization", None)
        if how is not None:
            key = f"{name}.weight" if name else "weight"
            state[key] = standardize(state[key].detach(), how)
    return state


def _is_convolution(module: nn.Module) -> bool:
    """Tell whether this is a convolution of torch or of `vidgn.models.fuse`; others may compute otherwise."""
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return False
    if module.in_channels // module.groups * math.prod(module.kernel_size) == 1:
        return False
    return type(module) in _KINDS or hasattr(module, "standardization") or is_parametrized(module, "weight")


def _channels(norm: nn.Module) -> int | None:
    channels = getattr(norm, "num_channels", getattr(norm, "num_features", None))
    if isinstance(channels, int):
        return channels
    mean = getattr(norm, "running_mean", None)
    return mean.shape[-1] if isinstance(mean, Tensor) else None
