"""Run two nets up to a layer and hand out what goes in there or comes out; find the kernel before each norm."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized


class Nets(NamedTuple):
    """The two nets, or the same part of both, and the batches that each is given."""

    teacher: nn.Module
    student: nn.Module
    teacher_batches: Iterable[Any]
    student_batches: Iterable[Any]

    def pairs(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Give, batch by batch, the input of the student's layer and the output of the teacher's."""
        for mine, yours in zip(self.student_batches, self.teacher_batches, strict=True):
            yield _input_of(self.student, name, mine), _output_of(self.teacher, name, yours)


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
            run_net(net, batch)
    finally:
        hook.remove()
    if not caught:
        raise ValueError("a layer that the first calibration batch reached is not reached by another; give equal ones.")
    return caught[0]


def run_net(net: nn.Module, batch: Any) -> Any:
    """Run a net on a batch, of which the first part is its input, on the device of its parameters."""
    first = batch[0] if isinstance(batch, tuple | list) else batch
    like = next(net.parameters(), None)
    return net(_to(first, like.device) if like is not None else first)


def _to(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, tuple | list):
        return type(batch)(_to(part, device) for part in batch)
    return batch.to(device) if isinstance(batch, Tensor) else batch


def find_order(teacher: nn.Module, names: Sequence[str], batches: Iterable[Any]) -> list[str]:
    """List the layers as they run; those that the first batch does not reach are left out."""
    order: dict[str, None] = {}
    hooks = [
        teacher.get_submodule(name).register_forward_hook(lambda *args, name=name: order.setdefault(name))
        for name in names
    ]
    try:
        run_net(teacher, read_first(batches))
    finally:
        for hook in hooks:
            hook.remove()
    return list(order)


def find_private(student: nn.Module, order: Sequence[str], batches: Iterable[Any]) -> dict[str, nn.Module]:
    """Find, by norm, the convolution or linear layer whose output goes to that norm and nowhere else.

    A layer may be scaled if doubling its output and halving the norm's input changes no bit of what the net gives.
    """
    batch = read_first(batches)
    candidates = find_feeders(student, order, batch)
    plain = run_net(student, batch)
    if _are_private(student, candidates, batch, plain):
        return candidates
    return {name: kernel for name, kernel in candidates.items() if _are_private(student, {name: kernel}, batch, plain)}


def find_feeders(student: nn.Module, order: Sequence[str], batch: Any) -> dict[str, nn.Module]:
    """Find, by norm, the convolution or linear layer that runs once and whose output the norm is given."""
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
        run_net(student, batch)
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
        return _equal(run_net(student, batch), plain)
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


def check_batches(batches: Iterable[Any]) -> None:
    """Refuse what can be read only once.

    Raises:
        ValueError: it is an iterator.
    """
    if isinstance(batches, Iterator):
        raise ValueError(
            f"calibrate is a {type(batches).__name__}, which can be read only once, and every layer reads it; give a"
            " list or a DataLoader."
        )


def read_first(batches: Iterable[Any]) -> Any:
    """Return the first batch.

    Raises:
        ValueError: there is none.
    """
    for batch in batches:
        return batch
    raise ValueError("calibrate gave no batch; give at least one clip.")


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put a net into evaluation mode, and each module back into its own afterwards."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


class _Reached(Exception):
    """The layer that is looked at has run; the rest of the forward pass is not needed."""


_KERNELS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
