"""Calibrate a net whose batch norms became group norms: layer by layer, on clips, without training.

Layer by layer in the order of the forward pass, the output of the teacher's batch norm is regressed on the normalized
input of the student's group norm, with all earlier layers fitted already. Both nets run up to that layer only, so that
a net of L norms costs about L forward passes of all clips.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from vidgn.norms.fit import FitMoments, Line, Sums, clip_moments, fit_scale, normalize_moments

SCALE_CLIPS = 1024  # clips whose moments are kept to fit the scales of a layer: 40 bytes per clip and channel


class LayerFit(NamedTuple):
    """How well one layer was fitted.

    Attributes:
        name: of the layer.
        num_groups: of its group norm.
        r2: share of the variance of the batch norm's output, over all channels, that the group norm explains.
        scaled: the kernels of the convolution before it were scaled.
    """

    name: str
    num_groups: int
    r2: float
    scaled: bool


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
    groups: Sequence[int] = (),
) -> Calibration:
    """Fit the group norms of `student`, in place, to the norms of the same names in `teacher`.

    A layer that runs several times in a forward pass is fitted on its first time.

    Args:
        teacher: with the norms to imitate; runs in evaluation mode.
        student: the same net with group norms there; runs in evaluation mode.
        names: of these norms.
        batches: read once for each layer and once more; a batch is the input of the net, or a tuple or list that
            begins with it.
        scales: `fit` also scales the output channels of the convolution before each norm, which changes what
            dominates a group's statistics.
        groups: numbers of groups to choose from in each layer, by how much they explain; none: those of `student`.

    Raises:
        ValueError: no batches, an iterator that can be read only once, or values that are not finite.
    """
    _check_batches(batches)
    with _evaluating(teacher), _evaluating(student):
        order = _find_order(teacher, names, batches)
        kernels = _find_kernels(student, order, batches) if scales == "fit" else {}
        fits = tuple(
            _fit_layer(name, _pairs(teacher, student, name, batches), student, kernels.get(name), groups)
            for name in order
        )
    return Calibration(fits, tuple(name for name in names if name not in order))


class _Reached(Exception):
    """The layer that is looked at has run; the rest of the forward pass is not needed."""


def _fit_layer(
    name: str,
    pairs: Iterator[tuple[Tensor, Tensor]],
    student: nn.Module,
    kernel: nn.Module | None,
    groups: Sequence[int],
) -> LayerFit:
    norm = student.get_submodule(name)
    assert isinstance(norm, nn.GroupNorm)
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
        found = fit_scale(kept, num_groups=number, eps=eps, start=first)
        tried.append((_fit_lines([_scaled(kept, found)], [number], eps=eps)[number], found))
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


def _pairs(
    teacher: nn.Module, student: nn.Module, name: str, batches: Iterable[Any]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give, batch by batch, the input of the student's norm and the output of the teacher's."""
    for batch in batches:
        yield _input_of(student, name, batch), _output_of(teacher, name, batch)


def _input_of(net: nn.Module, name: str, batch: Any) -> Tensor:
    caught: list[Tensor] = []

    def stop(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        caught.append(args[0])
        raise _Reached

    return _run_until(net, batch, caught, net.get_submodule(name).register_forward_pre_hook(stop))


def _output_of(net: nn.Module, name: str, batch: Any) -> Tensor:
    caught: list[Tensor] = []

    def stop(module: nn.Module, args: Any, output: Tensor) -> None:
        caught.append(output)
        raise _Reached

    return _run_until(net, batch, caught, net.get_submodule(name).register_forward_hook(stop))


def _run_until(net: nn.Module, batch: Any, caught: list[Tensor], hook: Any) -> Tensor:
    try:
        with suppress(_Reached):  # raised by the hook, so that the rest of the net is not computed
            _run(net, batch)
    finally:
        hook.remove()
    if not caught:
        raise ValueError("a layer that the first calibration batch reached is not reached by another; give equal ones.")
    return caught[0]


def _run(net: nn.Module, batch: Any) -> Any:
    first = batch[0] if isinstance(batch, tuple | list) else batch
    like = next(net.parameters(), None)
    return net(_to(first, like.device) if like is not None else first)


def _to(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, tuple | list):
        return type(batch)(_to(part, device) for part in batch)
    return batch.to(device) if isinstance(batch, Tensor) else batch


def _find_order(teacher: nn.Module, names: Sequence[str], batches: Iterable[Any]) -> list[str]:
    """List the layers as they run; those that the first batch does not reach are left out."""
    order: dict[str, None] = {}
    hooks = [
        teacher.get_submodule(name).register_forward_hook(lambda *args, name=name: order.setdefault(name))
        for name in names
    ]
    try:
        _run(teacher, _first(batches))
    finally:
        for hook in hooks:
            hook.remove()
    return list(order)


def _find_kernels(student: nn.Module, order: Sequence[str], batches: Iterable[Any]) -> dict[str, nn.Module]:
    """Find, by norm, the convolution or linear layer whose output goes to that norm and nowhere else.

    A layer may be scaled if doubling its output and halving the norm's input changes no bit of what the net gives.
    """
    batch = _first(batches)
    candidates = _feeders(student, order, batch)
    plain = _run(student, batch)
    if _are_private(student, candidates, batch, plain):
        return candidates
    return {name: kernel for name, kernel in candidates.items() if _are_private(student, {name: kernel}, batch, plain)}


def _feeders(student: nn.Module, order: Sequence[str], batch: Any) -> dict[str, nn.Module]:
    outputs: dict[int, tuple[nn.Module, Tensor]] = {}  # the tensor is held, so that its id is not used again
    feeders: dict[str, nn.Module] = {}
    uses: dict[int, int] = {}

    def remember(module: nn.Module, args: Any, output: Tensor) -> None:
        outputs[id(output)] = (module, output)
        uses[id(module)] = uses.get(id(module), 0) + 1

    def look_up(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            if id(args[0]) in outputs:
                feeders[name] = outputs[id(args[0])][0]

        return hook

    kernels = [m for m in student.modules() if isinstance(m, _KERNELS) and not is_parametrized(m)]
    hooks = [kernel.register_forward_hook(remember) for kernel in kernels]
    hooks += [student.get_submodule(name).register_forward_pre_hook(look_up(name)) for name in order]
    try:
        _run(student, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: kernel for name, kernel in feeders.items() if uses[id(kernel)] == 1}


def _are_private(student: nn.Module, feeders: Mapping[str, nn.Module], batch: Any, plain: Any) -> bool:
    hooks = [kernel.register_forward_hook(lambda module, args, output: output * 2) for kernel in feeders.values()]
    hooks += [
        student.get_submodule(name).register_forward_pre_hook(lambda module, args: (args[0] / 2,)) for name in feeders
    ]
    try:
        return _equal(_run(student, batch), plain)
    finally:
        for hook in hooks:
            hook.remove()


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def _check_batches(batches: Iterable[Any]) -> None:
    if isinstance(batches, Iterator):
        raise ValueError(
            f"calibrate is a {type(batches).__name__}, which can be read only once, and every layer reads it; give a"
            " list or a DataLoader."
        )


def _first(batches: Iterable[Any]) -> Any:
    for batch in batches:
        return batch
    raise ValueError("calibrate gave no batch; give at least one clip.")


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


_KERNELS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
