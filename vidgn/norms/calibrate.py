"""Calibrate a net whose batch norms became group norms: layer by layer, on clips, without training.

Layer by layer in the order of the forward pass, the output of the teacher's batch norm is regressed on the normalized
input of the student's group norm, with all earlier layers fitted already. The kernel of the convolution before may be
fitted first, to what the teacher's convolution gives. Where the net is a chain of modules, what each gives is
kept in files and only the module of the layer runs again: some ten forward passes of all clips. Where it is none, both
nets run up to the layer: one forward pass for each of L norms, two with kernels.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from vidgn.norms.calibration.chain import StoredBatches, find_chain, is_inside, join_parts
from vidgn.norms.calibration.kernels import can_be_fitted, fit_kernel
from vidgn.norms.calibration.lines import FitMoments, Line, Sums, clip_moments, fit_scale, normalize_moments
from vidgn.norms.calibration.passes import (
    Nets,
    check_batches,
    evaluating,
    find_feeders,
    find_order,
    find_private,
    read_first,
    run_net,
)

SCALE_CLIPS = 1024  # clips whose moments are kept to fit the scales of a layer: 40 bytes per clip and channel


class LayerFit(NamedTuple):
    """How well one layer was fitted.

    Attributes:
        name: of the layer.
        num_groups: of its group norm.
        r2: share of the variance of the batch norm's output, over all channels, that the group norm explains.
        scaled: the output channels of the convolution before it were scaled.
        kernel: the kernel of that convolution was fitted to the changed input.
    """

    name: str
    num_groups: int
    r2: float
    scaled: bool
    kernel: bool = False


class Calibration(NamedTuple):
    """The layers in the order of the forward pass, and the names of those that no clip reached."""

    layers: tuple[LayerFit, ...]
    unreached: tuple[str, ...]


@torch.no_grad()
def calibrate_net(
    teacher: nn.Module,
    student: nn.Module,
    names: Sequence[str],
    batches: Iterable[Any],
    *,
    scales: Literal["keep", "fit"] = "keep",
    kernels: Literal["keep", "scale", "fit"] = "keep",
    groups: Sequence[int] = (),
) -> Calibration:
    """Fit the group norms of `student`, in place, to the norms of the same names in `teacher`.

    A layer that runs several times in a forward pass is fitted on its first time.

    Args:
        teacher: with the norms to imitate; runs in evaluation mode.
        student: the same net with group norms there; runs in evaluation mode.
        names: of these norms.
        batches: read several times, the more often the less the net is a chain of modules; a batch is the input of the
            net, or a tuple or list that begins with it.
        scales: `fit` also scales the output channels of the convolution before each norm, which changes what
            dominates a group's statistics.
        kernels: `scale` fits one factor per input channel of the convolution before each norm to the input that it
            has in `student`, `fit` the whole kernel where that generalizes better from one half of the clips to the
            other; the first convolution is left.
        groups: numbers of groups to choose from in each layer, by how much they explain; none: those of `student`.

    Raises:
        ValueError: no batches, an iterator that can be read only once, or values that are not finite.
    """
    check_batches(batches)
    with evaluating(teacher), evaluating(student):
        order = find_order(teacher, names, batches)
        batch = read_first(batches)
        private = find_private(student, order, batches) if scales == "fit" else {}
        feeders = find_feeders(student, order, batch) if kernels != "keep" else {}
        feeders = {name: feeder for name, feeder in feeders.items() if name != order[0]}  # that has the teacher's input
        fit = partial(_fit_layers, private=private, feeders=feeders, groups=groups, whole=kernels == "fit")
        chain = find_chain(student, order, lambda: run_net(student, batch))
        parts = join_parts(chain, _name_feeders(student, {**private, **feeders})) if chain else [("",)]
        fits = tuple(_fit_chain(Nets(teacher, student, batches, batches), parts, order, fit))
    return Calibration(fits, tuple(name for name in names if name not in order))


def _name_feeders(student: nn.Module, feeders: Mapping[str, nn.Module]) -> list[tuple[str, str]]:
    names = {id(module): name for name, module in student.named_modules()}
    return [(names[id(feeder)], norm) for norm, feeder in feeders.items()]


def _fit_chain(
    nets: Nets, parts: Sequence[tuple[str, ...]], order: Sequence[str], fit: Callable[..., Iterator[LayerFit]]
) -> Iterator[LayerFit]:
    """Fit part by part; what the parts give is kept, so that no layer before them runs again."""
    with StoredBatches() as of_teacher, StoredBatches() as of_student:
        batches = nets.teacher_batches, nets.student_batches
        for part in parts:
            one, other = (_join(net, part) for net in (nets.teacher, nets.student))
            layers = {name: nets.student.get_submodule(name) for name in order if any(is_inside(name, p) for p in part)}
            yield from fit(Nets(one, other, *batches), layers)
            if part is not parts[-1]:
                of_teacher.replace(run_net(one, batch) for batch in batches[0])
                of_student.replace(run_net(other, batch) for batch in batches[1])
                batches = of_teacher, of_student


def _join(net: nn.Module, part: Sequence[str]) -> nn.Module:
    modules = [net.get_submodule(name) if name else net for name in part]
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules).eval()


def _fit_layers(
    nets: Nets,
    layers: Mapping[str, nn.Module],
    *,
    private: Mapping[str, nn.Module],
    feeders: Mapping[str, nn.Module],
    groups: Sequence[int],
    whole: bool,
) -> Iterator[LayerFit]:
    """Fit the norms of a part of the nets, in the order given."""
    names = {id(module): name for name, module in nets.student.named_modules()}  # in the part
    for name, norm in layers.items():
        assert isinstance(norm, nn.GroupNorm)
        changed = _fit_feeder(nets, feeders.get(name), names=names, whole=whole)
        fit = _fit_layer(name, norm, nets.pairs(names[id(norm)]), private.get(name), groups)
        yield fit._replace(kernel=changed)


def _fit_feeder(nets: Nets, feeder: nn.Module | None, *, names: Mapping[int, str], whole: bool) -> bool:
    """Fit the kernel before a norm, in place; return whether it changed."""
    if not can_be_fitted(feeder):
        return False
    fitted = fit_kernel(feeder, nets.pairs(names[id(feeder)]), whole=whole)
    if fitted is not None:
        feeder.weight.copy_(fitted)
    return fitted is not None


def _fit_layer(
    name: str,
    norm: nn.GroupNorm,
    pairs: Iterator[tuple[Tensor, Tensor]],
    kernel: nn.Module | None,
    groups: Sequence[int],
) -> LayerFit:
    choices = [number for number in groups if norm.num_channels % number == 0] or [norm.num_groups]
    batches = (clip_moments(x, t) for x, t in pairs)
    if kernel is None:
        lines, scale = _fit_lines(batches, choices, eps=norm.eps), None
    else:
        kept = _first_clips(batches, SCALE_CLIPS)
        lines, scale = _fit_scaled(kept, choices, eps=norm.eps)
    best = max(choices, key=lambda number: lines[number].r2)  # the first of equals
    norm.num_groups = best
    _write_line(norm, lines[best])
    scaled = scale is not None and kernel is not None and bool((scale[best] != 1).any())
    if scaled and scale is not None and kernel is not None:
        scale_outputs(kernel, scale[best])
    return LayerFit(name, best, lines[best].r2, scaled)


def _fit_lines(batches: Iterable[FitMoments], choices: Sequence[int], *, eps: float) -> dict[int, Line]:
    sums = {number: Sums() for number in choices}
    for moments in batches:
        for number, total in sums.items():
            total.add(normalize_moments(moments, num_groups=number, eps=eps))
    return {number: total.fit() for number, total in sums.items()}


def _fit_scaled(kept: FitMoments, choices: Sequence[int], *, eps: float) -> tuple[dict[int, Line], dict[int, Tensor]]:
    """Try no scale, equal standard deviations, and what the search makes of the better of them."""
    lines, scales = {}, {}
    std = (kept.xx.mean(0) - kept.x.mean(0).square()).clamp(min=0).sqrt()
    equal = torch.where(std > 0, std.clamp(min=1e-30).reciprocal(), torch.ones_like(std))
    for number in choices:
        starts = [torch.ones_like(std), equal]
        tried = [(_fit_lines([_scaled(kept, one)], [number], eps=eps)[number], one) for one in starts]
        first = max(tried, key=lambda pair: pair[0].r2)[1]
        scale = fit_scale(kept, num_groups=number, eps=eps, start=first)
        tried.append((_fit_lines([_scaled(kept, scale)], [number], eps=eps)[number], scale))
        lines[number], scales[number] = max(tried, key=lambda pair: pair[0].r2)
    return lines, scales


def _scaled(moments: FitMoments, scale: Tensor) -> FitMoments:
    return moments._replace(x=moments.x * scale, xx=moments.xx * scale.square(), xt=moments.xt * scale)


def _first_clips(batches: Iterable[FitMoments], limit: int) -> FitMoments:
    kept: list[FitMoments] = []
    count = 0
    for moments in batches:
        kept.append(moments)
        count += len(moments.x)
        if count >= limit:
            break
    if not kept:
        raise ValueError("calibrate gave no batch; give at least one clip.")
    return FitMoments(*(torch.cat(values)[:limit] for values in zip(*kept, strict=True)))


def _write_line(norm: nn.GroupNorm, line: Line) -> None:
    for parameter, value in ((norm.weight, line.weight), (norm.bias, line.bias)):
        parameter.copy_(value)


def scale_outputs(kernel: nn.Module, scale: Tensor) -> None:
    """Scale the output channels of a convolution or linear layer."""
    weight, bias = kernel.get_parameter("weight"), getattr(kernel, "bias", None)
    scale = scale.to(weight.device)
    weight.copy_(weight.double() * scale.view(-1, *[1] * (weight.dim() - 1)))
    if isinstance(bias, Tensor):
        bias.copy_(bias.double() * scale)
