"""Cut a net into modules that run one after the other, so that a layer is reached without the layers before it.

Each module of the chain takes one tensor, the very one that the module before it gave; between them, what the teacher's
and the student's modules give is kept in files, so that memory holds one batch.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn


class _Call(NamedTuple):
    """A module that turned one tensor into one; a tensor changed in place counts as another (its version)."""

    name: str
    before: tuple[int, int]
    after: tuple[int, int]


class _Path(NamedTuple):
    """The best way to a tensor: norms on it, modules on it."""

    norms: int
    names: tuple[str, ...]


def find_chain(net: nn.Module, norms: Sequence[str], run: Callable[[], Any]) -> tuple[str, ...]:
    """Return the names of modules that run one after the other and hold all `norms`, as many modules as there can be.

    Args:
        net: whose modules are watched.
        norms: names of the layers that the chain must hold.
        run: runs the net on one batch.

    Returns:
        The names; none if there is no such chain but the net itself.
    """
    calls, first = _watch(net, run)
    best = {first: _Path(0, ())}
    for call in calls:  # in the order in which they ended: what a module is given is there before
        way = best.get(call.before)
        if way is None or call.name == "":
            continue
        inside = sum(is_inside(norm, call.name) for norm in norms)
        longer = _Path(way.norms + inside, (*way.names, call.name))
        known = best.get(call.after)
        if known is None or (longer.norms, len(longer.names)) > (known.norms, len(known.names)):
            best[call.after] = longer
    whole = [way for way in best.values() if way.norms == len(norms)]
    return min(whole, key=lambda way: len(way.names)).names if whole else ()


def join_parts(chain: Sequence[str], pairs: Iterable[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Join the modules of a chain so that both layers of each pair are in one part.

    >>> join_parts(["conv", "norm", "act", "block"], [("conv", "norm")])
    [('conv', 'norm'), ('act',), ('block',)]
    """
    joined = [False] * len(chain)  # with the module before
    for names in pairs:
        first, last = sorted(next(i for i, part in enumerate(chain) if is_inside(name, part)) for name in names)
        joined[first + 1 : last + 1] = [True] * (last - first)
    parts: list[tuple[str, ...]] = []
    for name, with_last in zip(chain, joined, strict=True):
        parts = [*parts[:-1], (*parts[-1], name)] if with_last else [*parts, (name,)]
    return parts


def is_inside(name: str, part: str) -> bool:
    """Tell whether a layer is the module `part` or in it; the net itself is ``."""
    return part in ("", name) or name.startswith(f"{part}.")


def _watch(net: nn.Module, run: Callable[[], Any]) -> tuple[list[_Call], tuple[int, int]]:
    calls: list[_Call] = []
    begun: list[tuple[int, int] | None] = []
    held: list[Tensor] = []  # so that no id is used again
    first: list[tuple[int, int]] = []

    def start(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        single = len(args) == 1 and not kwargs and _is_tracked(args[0])
        begun.append(_key(args[0], held) if single else None)
        if module is net and begun[-1] is not None:
            first.append(begun[-1])

    def end(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            before = begun.pop()
            if before is not None and _is_tracked(output):
                calls.append(_Call(name, before, _key(output, held)))

        return hook

    hooks = [module.register_forward_pre_hook(start, with_kwargs=True) for module in net.modules()]
    hooks += [module.register_forward_hook(end(name)) for name, module in net.named_modules()]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return calls, first[0] if first else (0, 0)


def _is_tracked(value: Any) -> bool:
    """Tell a tensor that counts how often it is changed; one of torch.inference_mode does not."""
    return isinstance(value, Tensor) and not value.is_inference()


def _key(tensor: Tensor, held: list[Tensor]) -> tuple[int, int]:
    held.append(tensor)
    return id(tensor), tensor._version


class StoredBatches:
    """Batches in files of a folder that is deleted at the end; iterates over them, as often as asked."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vidgn-calibration-")
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Delete the folder."""
        self._folder.cleanup()

    def __iter__(self) -> Iterator[Tensor]:
        """Give the batches in the order in which they were written."""
        for index in range(self._count):
            yield torch.load(self._path(index), weights_only=True)

    def replace(self, batches: Iterable[Tensor]) -> None:
        """Write batches in the place of those before, one by one: they may be made of them."""
        count = 0
        for batch in batches:
            torch.save(batch, self._path(count))
            count += 1
        self._count = count

    def _path(self, index: int) -> Path:
        return Path(self._folder.name) / f"{index}.pt"
