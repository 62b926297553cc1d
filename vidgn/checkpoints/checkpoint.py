"""Checkpoints: described by themselves, and read as data only.

Members are stored and not inflated, and hold tensors and plain values only. `vidgn.files.whole_files` writes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidgn.checkpoints.description import KEY, Description
from vidgn.files.whole_files import check_whole, short_reason

AVERAGED = "averaged"  # of a checkpoint: the average of the weights


@dataclass(frozen=True)
class Checkpoint:
    """A vidgn checkpoint.

    Attributes:
        path: the file.
        net: the network's tensors, without the prefix `net.`; the average of the weights where the run kept one.
        description: of the net, its clips and the run.
        step: optimizer steps done.
        epoch: epochs done.
        trained: the tensors that training resumes with, where `net` is their average.
    """

    path: Path
    net: Mapping[str, Tensor]
    description: Description
    step: int
    epoch: int
    trained: Mapping[str, Tensor] | None = None

    def weights(self, which: str) -> Mapping[str, Tensor]:
        """Return the tensors that the option `weights` names: averaged (if there is an average) or trained.

        Raises:
            ValueError: another name.
        """
        if which not in ("averaged", "trained"):
            raise ValueError(f"weights ({which}) must be averaged or trained.")
        return self.net if which == "averaged" or self.trained is None else self.trained


def read_checkpoint(path: str | Path, *, must_be_finite: bool = True) -> Checkpoint:
    """Read a checkpoint that `train.py` wrote.

    Everything is checked before anything is built: the description against its bounds, the tensors for holding
    finite numbers and no more of them than the file has.

    Args:
        path: the file.
        must_be_finite: refuse weights that are not finite; false for the dump of a step that went wrong.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds more than tensors and plain values, is not a vidgn checkpoint, has values
            out of their bounds or weights that are not finite.
    """
    path = Path(path)
    state = read_state(path)
    if not isinstance(state, dict) or not isinstance(state.get(KEY), dict):
        raise ValueError(
            f"ckpt={path} does not describe itself (no key 'vidgn'), so it is not a checkpoint of train.py; "
            "use such weights with train.py init=PATH"
        )
    try:
        description = Description.from_plain(state[KEY])
    except ValueError as err:
        raise ValueError(f"ckpt={path} {err}; take another checkpoint") from err
    net = check_weights(_net_tensors(state.get("state_dict"), path), path, must_be_finite=must_be_finite)
    counts = (_count(state, "global_step", path), _count(state, "epoch", path))
    averaged = state.get(AVERAGED, {}).get("tensors") if isinstance(state.get(AVERAGED, {}), dict) else None
    if not averaged:
        return Checkpoint(path, net, description, *counts)
    if not isinstance(averaged, dict) or {name: _shape(value) for name, value in averaged.items()} != {
        name: _shape(value) for name, value in net.items()
    }:
        raise ValueError(f"ckpt={path} has an average that is not one of its weights; take another checkpoint")
    return Checkpoint(
        path, check_weights(averaged, path, must_be_finite=must_be_finite), description, *counts, trained=net
    )


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def check_weights(tensors: Mapping[str, Tensor], path: Path, *, must_be_finite: bool = True) -> Mapping[str, Tensor]:
    """Return the tensors of a net if the file stores all their numbers and these are finite.

    Raises:
        ValueError: a tensor claims more numbers than it stores, or one is NaN or infinite.
    """
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}
    inflated = [name for name, size in sizes.items() if size > tensors[name].untyped_storage().nbytes()]
    if inflated or sum(sizes.values()) > 2 * path.stat().st_size:
        which = inflated[0] if inflated else "the tensors together"
        raise ValueError(
            f"ckpt={path}: {which} would have {sum(sizes.values()):,} bytes and the file has "
            f"{path.stat().st_size:,}; take another checkpoint"
        )
    return check_finite(tensors, path) if must_be_finite else tensors


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> Mapping[str, Tensor]:
    """Return the tensors of a net if all their numbers are finite.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    bad = [name for name, tensor in tensors.items() if not _is_finite(tensor)]
    if bad:
        raise ValueError(
            f"ckpt={path} has weights that are not finite ({len(bad)} of {len(tensors)} tensors, such as {bad[0]}); "
            "take an earlier checkpoint, such as last.1.ckpt or best.ckpt"
        )
    return tensors


def read_state(path: str | Path, *, map_location: Any = "cpu") -> Any:
    """Read a torch file as tensors and plain values; nothing in it runs.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, inflates to more than its size, or holds more than tensors and plain values.
    """
    path = Path(path)
    check_whole(path)
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as err:  # torch raises many kinds on damaged and on refused files
        raise ValueError(
            f"ckpt={path} cannot be read as tensors and plain values ({short_reason(err)}); it is damaged or not a "
            "checkpoint of vidgn"
        ) from err


def _net_tensors(state: object, path: Path) -> dict[str, Tensor]:
    prefix = "net."
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise ValueError(f"ckpt={path} has no weights (state_dict is not a mapping of names); take another checkpoint")
    net = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    wrong = [key for key, value in net.items() if not isinstance(value, Tensor) or value.layout != torch.strided]
    if wrong or not net:
        kind = f"{wrong[0][:80]} is not a dense tensor" if wrong else "state_dict has no net.*"
        raise ValueError(f"ckpt={path} has no usable weights ({kind}); take another checkpoint")
    return net


def _is_finite(tensor: Tensor) -> bool:
    if tensor.is_quantized or not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    values = tensor if tensor.element_size() > 1 else tensor.float()  # float8 has no isfinite
    return bool(torch.isfinite(values).all())


def _count(state: Mapping[str, Any], name: str, path: Path) -> int:
    value = state.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise ValueError(f"ckpt={path} has {name} that is not a number of steps; take another checkpoint")
    return value
