"""Group normalization over (T, H, W), and the table of every norm a net can be built with.

One mean and one variance per sample and set of channels, for x of shape (N, C, T, H, W):

    gn   a group of C/G channels, T, H, W     Eq. 7 of "Group Normalization" (arXiv 1803.08494)
    ln   all C channels, T, H, W              G = 1
    in   one channel, T, H, W                 G = C
    bn   one channel, N, T, H, W              Eq. 3; looks at the other samples

then y = weight * (x - mean) / sqrt(var + eps) + bias per channel (Eq. 1, 2 and 6). Relatives of bn:

    sync_bn       bn over the batches of all devices together
    sub_bn        bn over each of S parts of the batch
    frozen_bn     stored mean and variance, nothing learned
    batch_renorm  bn, corrected towards the running statistics

and two without statistics: `wn` normalizes the kernels and adds a bias, `none` does nothing. What came after the
paper is in `vidgn.norms.relatives`: `frn` and `evonorm_s0` contain their activation, `bcn`, `switchable` and `mabn`
look at other samples in training, `dyt` and `derf` are functions of one value.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional as F

from vidgn.norms.batch import FrozenBatchNorm3d, SubBatchNorm3d
from vidgn.norms.relatives.activation import take_activations
from vidgn.norms.relatives.batch_channel import BatchChannelNorm3d
from vidgn.norms.relatives.evonorm import EvoNormS03d
from vidgn.norms.relatives.moving_average import MovingAverageBatchNorm3d
from vidgn.norms.relatives.pointwise import DynamicErf3d, DynamicTanh3d
from vidgn.norms.relatives.response import FilterResponseNorm3d
from vidgn.norms.relatives.switchable import SwitchableNorm3d
from vidgn.norms.renorm import BatchRenorm3d
from vidgn.norms.sync import SyncBatchNorm3d
from vidgn.norms.weight_norm import ChannelBias3d, normalize_weights


class GroupNorm3d(nn.GroupNorm):
    """Normalize groups of channels over (T, H, W); takes the place of `nn.BatchNorm3d`.

    The statistics of a sample do not depend on the rest of the batch, and training and evaluation compute
    the same. Input and output are (N, C, ...) of one shape, dtype and memory format; without T it is the
    ordinary group norm of pictures.

    Args:
        num_features: channels C, the one positional argument, as in `nn.BatchNorm3d`.
        num_groups: groups G; must divide C.
        eps: added to the variance.
        momentum: accepted and ignored (there are no running statistics), so that a builder of batch norms
            can build this.
        affine: learn `weight` and `bias` (C,).
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: C is not a multiple of G.

    >>> GroupNorm3d(64)(torch.zeros(2, 64, 8, 7, 7)).shape
    torch.Size([2, 64, 8, 7, 7])
    """

    def __init__(
        self,
        num_features: int,
        *,
        num_groups: int = 32,
        eps: float = 1e-5,
        momentum: float | None = None,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        _check_divides("num_groups", num_groups, num_features)
        super().__init__(num_groups, num_features, eps=eps, affine=affine, device=device, dtype=dtype)

    @property
    def num_features(self) -> int:
        """Channels, by the name batch norm gives them."""
        return self.num_channels

    def forward(self, input: Tensor) -> Tensor:
        """Normalize `input` (N, C, ...)."""
        return group_norm_in_any_layout(input, self.num_groups, self.weight, self.bias, self.eps)


@torch.fx.wrap  # a leaf of torch.fx's graphs: what it asks of the input is not known when a graph is made
def group_norm_in_any_layout(
    input: Tensor, num_groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Normalize groups of channels of (N, C, ...), exactly in channels-last layout too, which stays."""
    if input.device.type != "cpu" or input.is_contiguous():
        return F.group_norm(input, num_groups, weight, bias, eps)
    # torch 2.15's channels-last kernel on the CPU takes E[x^2] - E[x]^2: wrong by 0.1 at mean 300, std 1.
    y = F.group_norm(input.contiguous(), num_groups, weight, bias, eps)
    if input.dim() > 3 and input.movedim(1, -1).is_contiguous():  # asked so that it works below vmap, too
        return y.movedim(1, -1).contiguous().movedim(-1, 1)
    return y


class NormFactory(Protocol):
    """Builds one norm layer; called as pytorchvideo's builders call `norm=`."""

    def __call__(self, num_features: int, *, eps: float = 1e-5, momentum: float | None = 0.1) -> nn.Module:
        """Build the norm of a layer with `num_features` channels."""
        ...


@dataclass(frozen=True)
class ConfiguredNorm:
    """A norm of the table with its options: a `NormFactory` that prints, compares and pickles.

    An option set here wins over the one the caller passes: pytorchvideo passes its own eps and momentum.
    """

    name: str
    options: tuple[tuple[str, float], ...] = ()

    def __call__(self, num_features: int, *, eps: float = 1e-5, momentum: float | None = 0.1) -> nn.Module:
        """Build the norm of a layer with `num_features` channels."""
        row = NORMS[self.name]
        passed = {"eps": eps, "momentum": momentum}
        options = {option: value for option, value in passed.items() if option in row.options}
        return row.build(num_features, **options | dict(self.options))


def make_norm(name: str, **options: float | None) -> ConfiguredNorm:
    """Choose a norm by name and set its options; the result builds one layer per call.

    Args:
        name: a key of `NORMS`.
        **options: what the row lists; None counts as not given. `gn` has `num_groups` (32) or, instead,
            `channels_per_group`; all that divide by a standard deviation have `eps` (1e-5); all with running
            statistics have `momentum` (0.1, the weight of the new batch); `sub_bn` has `num_splits`;
            `batch_renorm` has the limits and steps of `BatchRenorm3d`, and `mabn` those of its layer; `bcn` and
            `evonorm_s0` have `num_groups`, `dyt` and `derf` `alpha`.

    Raises:
        ValueError: an unknown name, an option the norm does not have, or both options of `gn`.

    >>> make_norm("gn", channels_per_group=16)(64).num_groups
    4
    """
    if name not in NORMS:
        raise ValueError(f"norm={name} is unknown; use one of {', '.join(NORMS)}.")
    given = {option: value for option, value in options.items() if value is not None}
    allowed = NORMS[name].options
    for option in given:
        if option not in allowed:
            raise ValueError(f"norm={name} has no option {option}; it has {', '.join(allowed) or 'none'}.")
    if "num_groups" in given and "channels_per_group" in given:
        raise ValueError(
            f"num_groups ({given['num_groups']}) and channels_per_group ({given['channels_per_group']}) both"
            " set the size of a group; set one and leave the other out (null)."
        )
    return ConfiguredNorm(name, tuple(sorted(given.items())))


def is_norm(module: nn.Module) -> bool:
    """Tell whether a module is a normalization layer of any kind, torch's or ours.

    Layers of other packages are found by what they are derived from, or, as torchvision's
    `FrozenBatchNorm2d`, by holding the four vectors of a batch norm.
    """
    if isinstance(module, _NORM_TYPES):
        return True
    vectors = [getattr(module, name, None) for name in ("weight", "bias", "running_mean", "running_var")]
    return all(isinstance(v, Tensor) and v.dim() == 1 for v in vectors)


class NormRow(NamedTuple):
    """One norm: how to build a layer of it, its options, what it is for, and what it does to a built net."""

    build: Callable[..., nn.Module]
    options: tuple[str, ...]
    purpose: str
    finish: Callable[[nn.Module], object] | None = None


def finish_net(net: nn.Module, norm: NormFactory) -> None:
    """Do to a net, built with `norm`, what that norm needs beyond its own layers; most need nothing.

    `wn` normalizes the kernels of the net; `frn` and `evonorm_s0` take the place of the activations behind them.
    """
    finish = NORMS[norm.name].finish if isinstance(norm, ConfiguredNorm) else None
    if finish is not None:
        finish(net)


def _build_gn(
    num_features: int, *, num_groups: int = 32, channels_per_group: int | None = None, eps: float
) -> nn.Module:
    if channels_per_group is not None:
        _check_divides("channels_per_group", channels_per_group, num_features)
        num_groups = num_features // channels_per_group
    return GroupNorm3d(num_features, num_groups=num_groups, eps=eps)


def _build_ln(num_features: int, *, eps: float) -> nn.Module:
    return GroupNorm3d(num_features, num_groups=1, eps=eps)


def _build_in(num_features: int, *, eps: float) -> nn.Module:
    return GroupNorm3d(num_features, num_groups=num_features, eps=eps)


def _build_wn(num_features: int) -> nn.Module:
    return ChannelBias3d(num_features)


def _build_none(num_features: int) -> nn.Module:
    return nn.Identity()


_RENORM_OPTIONS = ("eps", "momentum", "r_max", "d_max", "warmup_steps", "r_ramp_end", "d_ramp_end")

_MABN_OPTIONS = ("eps", "momentum", "buffer", "warmup_steps", "r_max")

NORMS: Mapping[str, NormRow] = {
    "gn": NormRow(_build_gn, ("num_groups", "channels_per_group", "eps"), "the default: any batch, from 1 clip on"),
    "ln": NormRow(_build_ln, ("eps",), "group norm with one group, for comparison"),
    "in": NormRow(_build_in, ("eps",), "group norm with a channel per group, for comparison"),
    "bn": NormRow(nn.BatchNorm3d, ("eps", "momentum"), "8 clips or more per device, and published weights"),
    "sync_bn": NormRow(SyncBatchNorm3d, ("eps", "momentum"), "batch norm over many devices with few clips each"),
    "sub_bn": NormRow(SubBatchNorm3d, ("num_splits", "eps", "momentum"), "batch norm of small batches, on one device"),
    "frozen_bn": NormRow(FrozenBatchNorm3d, ("eps",), "fine-tuning from batch-norm weights with few clips"),
    "batch_renorm": NormRow(BatchRenorm3d, _RENORM_OPTIONS, "batch norm with few clips, for comparison"),
    "wn": NormRow(_build_wn, (), "kernels with a length of their own, for comparison", finish=normalize_weights),
    "none": NormRow(_build_none, (), "no norm: with weight_standardization and optim.agc"),
    "frn": NormRow(
        FilterResponseNorm3d, ("eps",), "one channel of one clip, an activation that learns", finish=take_activations
    ),
    "evonorm_s0": NormRow(
        EvoNormS03d, ("num_groups", "eps"), "norm and activation in one, of one clip", finish=take_activations
    ),
    "bcn": NormRow(
        BatchChannelNorm3d, ("num_groups", "eps", "momentum"), "few clips, with weight_standardization; keeps averages"
    ),
    "switchable": NormRow(SwitchableNorm3d, ("eps", "momentum"), "a learned mix of in, ln and bn"),
    "mabn": NormRow(MovingAverageBatchNorm3d, _MABN_OPTIONS, "batch norm at 1 or 2 clips, by averages over steps"),
    "dyt": NormRow(DynamicTanh3d, ("alpha",), "no statistics: tanh, made for transformers"),
    "derf": NormRow(DynamicErf3d, ("alpha",), "no statistics: erf, made for transformers"),
}

_NORM_TYPES: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,  # batch, synchronized batch and instance norm, 1-D to 3-D, lazy or not
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
    nn.CrossMapLRN2d,
    FrozenBatchNorm3d,
    SubBatchNorm3d,
    BatchRenorm3d,
    FilterResponseNorm3d,
    EvoNormS03d,
    BatchChannelNorm3d,
    SwitchableNorm3d,
    MovingAverageBatchNorm3d,
    DynamicTanh3d,
    DynamicErf3d,
)


def _check_divides(option: str, value: int, num_features: int) -> None:
    if value < 1 or num_features % value:
        divisors = ", ".join(str(d) for d in range(1, num_features + 1) if num_features % d == 0)
        raise ValueError(f"{option} ({value}) must divide num_features ({num_features}); use one of {divisors}.")
