"""Checkpoints: whole or not at all when written, described by themselves, and data only when read.

write   last.ckpt.part -> fsync -> last.ckpt.sha256 (new and old sum) -> os.replace -> fsync of the folder
read    size and sum against last.ckpt.sha256, members stored and not inflated, tensors and plain values only
"""

import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from vidgn.description import KEY, Description

PART = ".part"  # of a file that is being written
SUM = ".sha256"  # of the file with the sum
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
            f"ckpt={path} cannot be read as tensors and plain values ({_first_line(err)}); it is damaged or not a "
            "checkpoint of vidgn"
        ) from err


def check_whole(path: Path) -> None:
    """Check a torch file against its sum, where there is one, or against the sums of its parts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or a part of it is compressed: 262 kB could become gigabytes.
    """
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"ckpt={path} {kind}; give a file such as runs/NAME/checkpoints/last.ckpt")
    if not zipfile.is_zipfile(path):
        size = path.stat().st_size
        raise ValueError(
            f"ckpt={path} ({size} bytes) is not a whole checkpoint: no zip directory at its end; it may be cut "
            "off, take another one"
        )
    sums = _read_sums(path)
    if sums and sum_of(path) not in sums:
        raise ValueError(f"ckpt={path} is damaged: its SHA-256 is not the one in {path.name}{SUM}; take another one")
    try:
        with zipfile.ZipFile(path) as file:
            packed = [part.filename for part in file.infolist() if part.compress_type != zipfile.ZIP_STORED]
            spoilt = None if sums or packed else file.testzip()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as err:
        raise ValueError(f"ckpt={path} is damaged ({_first_line(err)}); take another one") from err
    if packed:
        raise ValueError(
            f"ckpt={path} has compressed parts ({packed[0]}), which checkpoints never have and which may fill the "
            "memory; save it again with torch.save"
        )
    if spoilt is not None:
        raise ValueError(f"ckpt={path} is damaged: the sum of its part {spoilt} is wrong; take another one")


def write_whole(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file that is whole or not there, with its SHA-256 beside it.

    A process or machine that dies at any moment leaves the file before or the file after, each with a sum that
    fits, and at most `PATH.part` and `PATH.sha256.part`, which `clean_leftovers` removes.

    Args:
        path: the file; one of that name is replaced.
        write: gets a file to write to, in order.

    Raises:
        OSError: it could not be written (disk full, folder gone); the one before is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + PART)
    file: _Summing | None = None
    try:
        with part.open("wb") as raw:
            file = _Summing(raw)
            write(file)  # type: ignore[arg-type]  # what torch.save needs of a file
            raw.flush()
            os.fsync(raw.fileno())
        _publish(part, path, file.sum())
    except Exception as err:
        cause = err if isinstance(err, OSError) or file is None else file.error
        part.unlink(missing_ok=True)
        if not isinstance(cause, OSError):
            raise
        raise OSError(
            f"{path} could not be written ({cause.strerror or cause}); the file of that name before it, if any, is as "
            "it was. Free space or choose another folder, then run the same command again"
        ) from err


def copy_whole(source: Path, target: Path) -> None:
    """Give a whole file a second name, by a hard link where the file system has them."""
    part = target.with_name(target.name + PART)
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:  # no hard links here: exFAT, some network folders
        with source.open("rb") as file:
            write_whole(target, lambda copy: shutil.copyfileobj(file, copy))
        return
    _publish(part, target, (_read_sums(source) or (sum_of(source),))[0])


def rotate(folder: Path, *, keep: int) -> None:
    """Make room for a new `last.ckpt`: last.ckpt is last.1.ckpt too, that one last.2.ckpt, ... `keep` in all."""
    names = [last_name(age) for age in range(keep)]
    for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
        if (folder / newer).is_file():
            copy_whole(folder / newer, folder / older)


def last_name(age: int) -> str:
    """Return the name of the newest checkpoint but `age`: last.ckpt, last.1.ckpt, ..."""
    return f"last.{age}.ckpt" if age else "last.ckpt"


def newest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint of a run that is whole, and what is wrong with the newer ones."""
    wrong = []
    for path in _candidates(folder):
        try:
            check_whole(path)
        except ValueError as err:
            wrong.append(str(err))
        else:
            return path, wrong
    return None, wrong


def clean_leftovers(folder: Path) -> list[str]:
    """Remove what an interrupted writer left: parts, and sums without their file; return their names.

    Only names that a run gives its files count: a download `film.mp4.part` is the user's.
    """
    left = [path for path in folder.glob("*" + PART) if path.is_file() and _OWN_PART.fullmatch(path.name)]
    left += [
        path
        for path in folder.glob("*" + SUM)
        if _OWN_CHECKPOINT.fullmatch(path.with_suffix("").name) and not path.with_suffix("").exists()
    ]
    for path in left:
        path.unlink()
    return sorted(path.name for path in left)


def check_writable(folder: Path) -> None:
    """Write a file into the folder, so that a folder that cannot be written is found before training.

    Raises:
        OSError: it cannot be made or written.
    """
    probe = folder / f"probe{PART}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"vidgn")
        probe.unlink()
    except OSError as err:
        raise OSError(
            f"{folder} cannot be written ({err.strerror}), so no checkpoint could be saved; set hydra.run.dir=DIR"
        ) from err


_OWN_CHECKPOINT = re.compile(r"(best|last(\.\d+)?)\.ckpt|nonfinite-step\d+(-rank\d+)?\.pt")
_OWN_PART = re.compile(
    rf"(({_OWN_CHECKPOINT.pattern})(\.sha256)?|(metrics|predictions)\.(csv|json)|curves\.png|probe)\.part"
)


class _Summing:
    """A file that sums what passes, and remembers the system's error, which torch turns into its own."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._sum = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            written = self._raw.write(data)
        except OSError as err:
            self.error = err
            raise
        self._sum.update(data)
        return written

    def flush(self) -> None:
        self._raw.flush()

    def sum(self) -> str:
        return self._sum.hexdigest()


def _publish(part: Path, path: Path, new: str) -> None:
    """Put `part` in the place of `path`; at every moment the sum beside it fits."""
    old = _read_sums(path) if path.exists() else ()
    _write_sums(path, (new, *old))
    os.replace(part, path)
    part.unlink(missing_ok=True)  # rename does nothing where both are links to one file
    _sync(path.parent)
    _write_sums(path, (new,))


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


def _candidates(folder: Path) -> Iterator[Path]:
    age = 0
    while (path := folder / last_name(age)).exists() or age == 0:
        if path.exists():
            yield path
        age += 1
    yield from (path for path in [folder / "best.ckpt"] if path.exists())


def _sum_path(path: Path) -> Path:
    return path.with_name(path.name + SUM)


def _read_sums(path: Path) -> tuple[str, ...]:
    if not _sum_path(path).is_file():
        return ()
    return tuple(line.split()[0] for line in _sum_path(path).read_text("utf-8", "replace").splitlines() if line.split())


def _write_sums(path: Path, sums: Sequence[str]) -> None:
    part = _sum_path(path).with_name(_sum_path(path).name + PART)
    with part.open("w", encoding="utf-8") as file:
        file.writelines(f"{value}  {path.name}\n" for value in sums)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, _sum_path(path))
    _sync(path.parent)


def sum_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _first_line(err: Exception) -> str:
    first = str(err).strip().partition("\n")[0][:200]
    return f"{type(err).__name__}: {first or 'no message'}"
