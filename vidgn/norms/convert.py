"""Swap the normalization layers of any torch model for another norm, in place."""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from vidgn.norms.calibrate import Calibration, LayerFit, calibrate_net
from vidgn.norms.layers import NORMS, ConfiguredNorm, finish_net, is_norm, make_norm
from vidgn.norms.relatives.activation import find_slots, take_activations
from vidgn.norms.swap import Misfit, Stay, replace_layer
from vidgn.norms.weight_norm import check_normalizable
from vidgn.norms.weight_standardization import (
    check_kernels,
    find_standardization,
    own_standardization,
    standardize_weights,
)


class Change(NamedTuple):
    """A layer that was swapped: its name in the model, the classes before and after, what else changed."""

    name: str
    before: str
    after: str
    note: str


class Left(NamedTuple):
    """A norm that stayed as it was, and why."""

    name: str
    kind: str
    reason: str


@dataclass(frozen=True)
class ConversionReport:
    """What `convert_norm` changed and what it could not; prints as a summary.

    `fits` says how well each calibrated layer was fitted, in the order of the forward pass, and `unreached` names the
    converted layers that no calibration batch reached; both are empty without `calibrate`.
    """

    changed: tuple[Change, ...]
    left: tuple[Left, ...]
    fits: tuple[LayerFit, ...] = ()
    unreached: tuple[str, ...] = ()
    standardized: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Count the changes by kind and list the layers left."""
        kinds = Counter(change[1:] for change in self.changed)
        lines = [f"{len(self.changed)} norms changed, {len(self.left)} left as is"]
        for (before, after, note), count in kinds.items():
            lines.append(f"  {count} {before} -> {after}" + (f" ({note})" if note else ""))
        lines += [f"  {len(self.standardized)} kernels standardized"] if self.standardized else []
        lines += [f"  left: {name} ({kind}): {why}" for name, kind, why in self.left]
        lines += [f"  R^2 {fit.r2:.3f}, {fit.num_groups} groups: {fit.name}" for fit in self.fits]
        return "\n".join([*lines, *(f"  not reached by the calibration: {name}" for name in self.unreached)])


def convert_norm(
    model: nn.Module,
    norm: str | ConfiguredNorm,
    *,
    keep_statistics: Literal["copy", "fold"] = "copy",
    uneven: Literal["refuse", "nearest"] = "refuse",
    calibrate: Iterable[Any] | None = None,
    scales: Literal["keep", "fit"] = "keep",
    kernels: Literal["keep", "scale", "fit"] = "keep",
    groups: Sequence[int] = (),
    weight_standardization: bool | str = False,
) -> ConversionReport:
    """Replace every norm over channels in a model, 1-D to 3-D, by another; all or nothing.

    Weight and bias stay the very same parameters where the new norm has them, so an optimizer made before
    still holds them; eps, momentum, device, dtype and training mode carry over too. Batch, synchronized,
    frozen, instance and group norms are swapped. Norms over other axes (`LayerNorm`), subclasses with a
    forward of their own and layers with hooks stay, and the report says so. With `wn` the kernels of the
    whole model are normalized, with `mabn` those before a norm are centred. `frn` and `evonorm_s0` contain their
    activation: they are for models where it is known which activation follows each norm (vidgn's networks, and
    `nn.Sequential`).

    Args:
        model: changed in place.
        norm: a name of `NORMS`, or what `make_norm` gives.
        keep_statistics: `copy` hands running statistics to a new norm that has them. `fold`, for `frozen_bn`,
            puts them into weight and bias, so that the layer is y = weight * x + bias: batch norm as it is in
            evaluation.
        uneven: where the groups of `gn` do not divide a layer's channels, `refuse`, or take the nearest
            number of groups that does and leaves two channels or more in each.
        calibrate: for `gn`, `ln` and `in`, batches of inputs (tensors, or tuples that begin with the input), a list
            or a DataLoader: weight and bias of the new norms are fitted so that they give what the old ones gave in
            evaluation, layer by layer, by least squares.
        scales: with `calibrate`, `fit` also scales the kernels before each norm. The net imitates the old one far
            better and is harder to train further: see docs/convert.md.
        kernels: with `calibrate`, `scale` and `fit` fit the kernel before each norm to the input that the calibrated
            layers before give: one factor per input channel, or the whole kernel where that generalizes better.
        groups: with `calibrate` and `gn`, numbers of groups to choose from in each layer.
        weight_standardization: standardize the kernel of every convolution that a norm follows each time it is
            used; keys stay. True, or a name of `STANDARDIZATIONS`. Trained weights give other outputs then.

    Raises:
        ValueError: layers whose channels the groups do not divide, all listed; a model that is a norm itself;
            `fold` for another norm than `frozen_bn`; an unknown choice; a calibration that is empty, can be read only
            once or meets values that are not finite; standardized kernels with `wn` or `calibrate`, or where a kernel
            is computed from other parameters. The model is as it was.

    >>> net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU())
    >>> print(convert_norm(net, "gn"))
    1 norms changed, 0 left as is
      1 BatchNorm2d -> GroupNorm3d (running statistics dropped)
    """
    norm = make_norm(norm) if isinstance(norm, str) else norm
    _check_arguments(model, norm, keep_statistics=keep_statistics, uneven=uneven)
    if calibrate is None:
        _check_uncalibrated(scales=scales, kernels=kernels, groups=groups)
    _check_layers(model, norm)
    standardization = find_standardization(own_standardization(norm.name, weight_standardization))
    if standardization is not None:
        _check_standardized(model, norm, calibrated=calibrate is not None)
    if calibrate is None:
        report = _swap(model, norm, fold=keep_statistics == "fold", nearest=uneven == "nearest")
        kernel_names = () if standardization is None else standardize_weights(model, standardization)
        return replace(report, standardized=kernel_names)
    _check_calibrated(norm, scales=scales, kernels=kernels, groups=groups)
    fit = partial(calibrate_net, batches=calibrate, scales=scales, kernels=kernels, groups=groups)
    return _swap_calibrated(model, norm, fit, nearest=uneven == "nearest")


def _swap(model: nn.Module, norm: ConfiguredNorm, *, fold: bool, nearest: bool) -> ConversionReport:
    dims = _convolution_dims(model)
    results: dict[int, Stay | Misfit | tuple[nn.Module, str]] = {}  # by layer: one under two names stays one
    names = [(name, layer) for name, layer in model.named_modules(remove_duplicate=False) if is_norm(layer)]
    for _, layer in names:
        if id(layer) not in results:
            results[id(layer)] = replace_layer(layer, norm, dims=dims, fold=fold, nearest=nearest)
    _refuse_misfits([(name, result) for name, layer in names if isinstance(result := results[id(layer)], Misfit)])
    changed, left = [], []
    for name, layer in names:
        kind, result = type(layer).__name__, results[id(layer)]
        if isinstance(result, Stay):
            left.append(Left(name, kind, result.reason))
        elif not isinstance(result, Misfit):
            model.set_submodule(name, result[0])
            changed.append(Change(name, kind, type(result[0]).__name__, result[1]))
    finish_net(model, norm)
    return ConversionReport(tuple(changed), tuple(left))


def _swap_calibrated(
    model: nn.Module, norm: ConfiguredNorm, fit: Callable[..., Calibration], *, nearest: bool
) -> ConversionReport:
    """Calibrate a copy; only what succeeded is written into the model."""
    student = copy.deepcopy(model)
    trial = _swap(student, norm, fold=False, nearest=nearest)
    names = list({id(student.get_submodule(change.name)): change.name for change in trial.changed}.values())
    calibration = fit(model, student, names)
    report = _swap(model, norm, fold=False, nearest=nearest)
    _copy_fit(student, model, calibration)
    return ConversionReport(report.changed, report.left, calibration.layers, calibration.unreached)


@torch.no_grad()
def _copy_fit(student: nn.Module, model: nn.Module, calibration: Calibration) -> None:
    for parameter, fitted in zip(model.parameters(), student.parameters(), strict=True):
        parameter.copy_(fitted)
    for fit in calibration.layers:
        model.get_submodule(fit.name).num_groups = fit.num_groups  # type: ignore[assignment]


def _check_uncalibrated(*, scales: str, kernels: str, groups: Sequence[int]) -> None:
    if scales != "keep" or kernels != "keep" or groups:
        raise ValueError(
            f"scales={scales}, kernels={kernels} and groups={list(groups)} need clips to fit to; give calibrate=LOADER."
        )


def _check_layers(model: nn.Module, norm: ConfiguredNorm) -> None:
    """Refuse a model whose layers the norm cannot replace; the groups are checked layer by layer."""
    if norm.name == "wn":
        check_normalizable(model)
    if NORMS[norm.name].finish is take_activations:
        _check_activations(model, norm.name)


def _check_calibrated(norm: ConfiguredNorm, *, scales: str, kernels: str, groups: Sequence[int]) -> None:
    if norm.name not in _CALIBRATED:
        raise ValueError(
            f"calibrate= fits norms whose statistics are those of a clip, which norm={norm.name} is not; use"
            f" {', '.join(_CALIBRATED)}, or leave calibrate out."
        )
    if scales not in ("keep", "fit"):
        raise ValueError(f"scales={scales} is unknown; use keep or fit.")
    if kernels not in ("keep", "scale", "fit"):
        raise ValueError(f"kernels={kernels} is unknown; use keep, scale or fit.")
    if groups and (norm.name != "gn" or min(groups) < 1):
        raise ValueError(f"groups={list(groups)} must be positive numbers of groups, for norm=gn; see num_groups.")


_CALIBRATED = ("gn", "ln", "in")


def _check_standardized(model: nn.Module, norm: ConfiguredNorm, *, calibrated: bool) -> None:
    check_kernels(model, norm.name)
    if calibrated:
        raise ValueError(
            "weight_standardization changes what the kernels give, which calibrate= fits the norms to; leave one of the"
            " two out."
        )


def _check_arguments(model: nn.Module, norm: ConfiguredNorm, *, keep_statistics: str, uneven: str) -> None:
    choices = {
        "keep_statistics": (keep_statistics, ("copy", "fold")),
        "uneven": (uneven, ("refuse", "nearest")),
    }
    for name, (given, allowed) in choices.items():
        if given not in allowed:
            raise ValueError(f"{name}={given} is unknown; use {' or '.join(allowed)}.")
    if keep_statistics == "fold" and norm.name != "frozen_bn":
        raise ValueError(
            f"keep_statistics=fold makes a fixed line per channel, which norm={norm.name} is not; use"
            " norm=frozen_bn, or keep_statistics=copy."
        )
    if is_norm(model):
        raise ValueError(
            f"model is a norm itself ({type(model).__name__}); give the model around it, or use make_norm."
        )


def _check_activations(model: nn.Module, norm: str) -> None:
    """Refuse a model where it is not known which activation follows a norm."""
    known = {id(slot.norm) for slot in find_slots(model)}
    unknown = [name for name, layer in model.named_modules() if is_norm(layer) and id(layer) not in known]
    if unknown:
        shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        raise ValueError(
            f"norm={norm} contains the activation, and which one follows {shown} cannot be told from the model; use a"
            " network of vidgn, nn.Sequential(convolution, norm, ReLU), or another norm."
        )


def _convolution_dims(model: nn.Module) -> int | None:
    kinds = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
    dims = [count for count, kind in kinds.items() if any(isinstance(m, kind) for m in model.modules())]
    return dims[0] if len(dims) == 1 else None


def _refuse_misfits(misfits: list[tuple[str, Misfit]]) -> None:
    if misfits:
        layers = ", ".join(f"{name} ({misfit.channels})" for name, misfit in misfits)
        raise ValueError(
            f"{misfits[0][1].option} does not divide the channels of {len(misfits)} layers: {layers}; use"
            " uneven=nearest, or other groups."
        )
