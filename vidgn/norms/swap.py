"""Make the layer that takes the place of one norm: how it is built and what it inherits."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from vidgn.norms.batch import FrozenBatchNorm3d, SubBatchNorm3d
from vidgn.norms.groups import fit_groups, unfit_option
from vidgn.norms.layers import ConfiguredNorm, GroupNorm3d
from vidgn.norms.relatives.batch_channel import BatchChannelNorm3d
from vidgn.norms.renorm import BatchRenorm3d
from vidgn.norms.sync import SyncBatchNorm3d


class Stay(NamedTuple):
    """The layer cannot be replaced."""

    reason: str


class Misfit(NamedTuple):
    """The groups asked for do not divide the layer's channels."""

    channels: int
    option: str


@torch.no_grad()
def replace_layer(
    old: nn.Module, norm: ConfiguredNorm, *, dims: int | None, fold: bool, nearest: bool
) -> tuple[nn.Module, str] | Stay | Misfit:
    """Build the norm for the place of `old` and a note on what is not the same; `old` is left as it is.

    `dims` are the axes of the model's convolutions, for an `old` that does not tell its own; None: unknown.
    """
    kind = _kind(old)
    if isinstance(old, LazyModuleMixin):
        return Stay("it has not seen a batch yet")
    if kind is None:
        return Stay("it normalizes in a way of its own")
    if isinstance(old, _INSTANCE_NORMS) and old.track_running_stats:
        return Stay("it normalizes by running statistics in evaluation, which no other norm here does per clip")
    if _has_hooks(old):
        return Stay("it has hooks, which would be lost")
    if norm.name == "frozen_bn" and _statistics(old) is None:
        return Stay("it has no stored statistics to freeze")
    dims = kind.dims or dims
    if norm.name == "bn" and dims is None:
        return Stay("batch norm needs the number of axes, and the model's convolutions do not agree on one")
    channels = _num_channels(old)
    fitted = _fit_groups(norm, channels, nearest=nearest)
    if isinstance(fitted, Misfit):
        return fitted
    new, built = _build(old, fitted[0], channels, dims=dims)
    notes = [fitted[1], built, *_hand_over_affine(old, new), *_hand_over_statistics(old, new)]
    if fold and isinstance(new, FrozenBatchNorm3d):
        _fold(new)
    return new.train(old.training), ", ".join(note for note in notes if note)


class _Kind(NamedTuple):
    layer: type[nn.Module]
    dims: int | None  # axes beside batch and channels; None: any


_KINDS = (
    *(_Kind(layer, d) for d, layer in enumerate((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), start=1)),
    *(_Kind(layer, d) for d, layer in enumerate((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), start=1)),
    *(_Kind(layer, None) for layer in (nn.SyncBatchNorm, SyncBatchNorm3d, nn.GroupNorm, GroupNorm3d)),
    *(_Kind(layer, None) for layer in (FrozenBatchNorm3d, SubBatchNorm3d, BatchRenorm3d, BatchChannelNorm3d)),
)
_BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def _kind(layer: nn.Module) -> _Kind | None:
    for kind in _KINDS:
        # A subclass may do more than normalize (timm's BatchNormAct2d): only torch's own forward is replaced.
        if isinstance(layer, kind.layer) and type(layer).forward is kind.layer.forward:
            return kind
    if type(layer).__name__ == "FrozenBatchNorm2d":  # torchvision's and Detectron2's
        return _Kind(type(layer), 2)
    return None


def _has_hooks(layer: nn.Module) -> bool:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(layer, name) for name in hooks)


def _num_channels(layer: nn.Module) -> int:
    if isinstance(layer, nn.GroupNorm):
        return layer.num_channels
    channels = getattr(layer, "num_features", None)
    return channels if isinstance(channels, int) else len(layer.get_buffer("running_mean"))


def _fit_groups(norm: ConfiguredNorm, channels: int, *, nearest: bool) -> tuple[ConfiguredNorm, str] | Misfit:
    unfit = unfit_option(norm, channels)
    if unfit is None:
        return norm, ""
    if not nearest:
        return Misfit(channels, f"{unfit[0]} ({unfit[1]})")
    fitted = fit_groups(norm, channels)
    groups = int(dict(fitted.options)["num_groups"])
    return fitted, f"{groups} groups of {channels // groups}"


def _build(old: nn.Module, norm: ConfiguredNorm, channels: int, *, dims: int | None) -> tuple[nn.Module, str]:
    momentum = getattr(old, "momentum", 0.1)
    cumulative = momentum is None and norm.name not in ("bn", "sync_bn")
    eps = getattr(old, "eps", 1e-5)
    new = norm(channels, eps=eps, momentum=0.1 if cumulative else momentum)
    if isinstance(new, nn.BatchNorm3d) and dims is not None:
        new = _BATCH_NORMS[dims](channels, eps=new.eps, momentum=new.momentum)
    like = next((t for t in (*old.parameters(), *old.buffers()) if t.is_floating_point()), None)
    if like is not None:
        new.to(device=like.device, dtype=like.dtype)
    return new, "the cumulative average became one of momentum 0.1" if cumulative else ""


def _hand_over_affine(old: nn.Module, new: nn.Module) -> list[str]:
    notes = []
    for name in ("weight", "bias"):
        value, target = getattr(old, name, None), getattr(new, name, None)
        if isinstance(value, Tensor) and isinstance(target, nn.Parameter):
            setattr(new, name, value if isinstance(value, nn.Parameter) else nn.Parameter(value.clone()))
        elif isinstance(value, Tensor) and isinstance(target, Tensor):
            target.copy_(value.detach())
        elif isinstance(value, Tensor):
            notes.append(f"{name} dropped")
        elif isinstance(target, nn.Parameter):
            notes.append(f"{name} new")
    return notes


def _hand_over_statistics(old: nn.Module, new: nn.Module) -> list[str]:
    statistics = _statistics(old)
    if not isinstance(getattr(new, "running_mean", None), Tensor):
        return ["running statistics dropped"] if statistics is not None else []
    if statistics is None:
        return ["running statistics start from their initial values"]
    for name, value in zip(("running_mean", "running_var"), statistics, strict=True):
        new.get_buffer(name).copy_(value)  # (C,), or (S, C) of a sub_bn
    counters = [getattr(layer, "num_batches_tracked", None) for layer in (old, new)]
    if isinstance(counters[0], Tensor) and isinstance(counters[1], Tensor):
        counters[1].copy_(counters[0])
    return []


def _statistics(layer: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Give the mean and variance (C,) over many batches that a layer keeps."""
    if isinstance(layer, SubBatchNorm3d):
        return layer.aggregate()
    mean, var = getattr(layer, "running_mean", None), getattr(layer, "running_var", None)
    if isinstance(layer, _INSTANCE_NORMS) or not isinstance(mean, Tensor) or not isinstance(var, Tensor):
        return None
    return mean, var


def _fold(layer: FrozenBatchNorm3d) -> None:
    """Put mean and variance into weight and bias; source: video-nonlocal-net convert_to_finetune.py:44-53."""
    std = (layer.running_var.double() + layer.eps).sqrt()
    scale = layer.weight.double() / std
    layer.bias.copy_(layer.bias.double() - layer.running_mean.double() * scale)
    layer.weight.copy_(scale)
    layer.running_mean.zero_()
    layer.running_var.fill_(1 - layer.eps)  # so that sqrt(var + eps) = 1
