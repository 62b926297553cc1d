"""Files that are whole or not there, each with its SHA-256 beside it.

write   last.ckpt.part -> fsync -> last.ckpt.sha256 (new and old sum) -> os.replace -> fsync of the folder
check   size and sum against last.ckpt.sha256; without one, the sums of the parts
"""

import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

PART = ".part"  # of a file that is being written
SUM = ".sha256"  # of the file with the sum


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
        raise ValueError(f"ckpt={path} is damaged ({short_reason(err)}); take another one") from err
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


def short_reason(err: Exception) -> str:
    """Return the first line of an error, which may have many."""
    first = str(err).strip().partition("\n")[0][:200]
    return f"{type(err).__name__}: {first or 'no message'}"
