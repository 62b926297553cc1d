"""Rows of a manifest while they are read: packing, safe names, repeated rows, and errors with row numbers."""

import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidgn.data.storage.remote import is_url

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg",
    ".wmv", ".flv", ".3gp", ".ts", ".mts", ".ogv",
)  # fmt: skip
_LITTER = frozenset(  # what operating systems and storage devices leave in folders, in lower case
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "thumbs.db",
     "desktop.ini", "icon\r"}
)  # fmt: skip
_ERRORS_SHOWN = 50  # enough to see the pattern of what is wrong; the count says the rest
_BLOCK_BYTES = 1 << 20  # files are read in blocks of whole lines: a long list never lies in memory twice
_PIECE_ROWS = 512  # of a block in which one row is not ordinary


def is_visible(name: str) -> bool:
    """Tell whether a file or folder counts: neither hidden (`._a.mp4`) nor what operating systems leave everywhere.

    >>> is_visible("run"), is_visible("__MACOSX"), is_visible("._a.mp4"), is_visible("@eaDir")
    (True, False, False, False)
    """
    return not name.startswith(".") and name.lower() not in _LITTER


def is_video_name(name: str) -> bool:
    """Tell whether a file of a folder is taken for a video, everywhere by the same rule: its suffix, and visible."""
    return is_visible(name) and name.lower().endswith(VIDEO_SUFFIXES)


class Rows(NamedTuple):
    """What a reader hands to `Manifest`: the names as one utf-8 buffer, (N+1,) offsets and (N,) labels."""

    names: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    drawn_seed: int | None = None


class BadRow(ValueError):
    """One row of a list is wrong; the reader collects these and reports all of them at once."""


class RowErrors:
    """The errors of one file, reported together."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.errors: list[tuple[int, str]] = []

    def add(self, row: int, text: str) -> None:
        """Remember what is wrong with a row (1 is the first line of the file)."""
        self.errors.append((row, text))

    def raise_if_any(self) -> None:
        """Raise one ValueError that lists every error in the order of the file (the first fifty in words)."""
        if not self.errors:
            return
        errors = sorted(self.errors, key=lambda error: error[0])
        lines = [f"  row {row}: {text}" for row, text in errors[:_ERRORS_SHOWN]]
        if len(errors) > _ERRORS_SHOWN:
            lines.append(f"  and {len(errors) - _ERRORS_SHOWN:,} more")
        count = "1 row is wrong" if len(errors) == 1 else f"{len(errors):,} rows are wrong"
        raise ValueError(f"{self.source}: {count}:\n" + "\n".join(lines))


class RowsBuilder:
    """Collects names, labels and errors block by block without keeping an object per row."""

    def __init__(self, source: str) -> None:
        self.errors = RowErrors(source)
        self._names = bytearray()
        self._lengths: list[NDArray[np.int64]] = []
        self._labels: list[NDArray[np.int64]] = []
        self._hashes: list[NDArray[np.int64]] = []
        self._rows: list[NDArray[np.int32]] = []

    def extend(self, names: Sequence[str], labels: Iterable[int], rows: Iterable[int]) -> None:
        """Add one block; `rows` are the line numbers in the file, for messages."""
        count = len(names)
        joined = "".join(names)
        block = joined.encode()
        lengths = map(len, names) if len(block) == len(joined) else (len(name.encode()) for name in names)
        self._names += block
        self._lengths.append(np.fromiter(lengths, np.int64, count))
        self._labels.append(np.fromiter(labels, np.int64, count))
        self._hashes.append(np.fromiter(map(hash, names), np.int64, count))
        self._rows.append(np.fromiter(rows, np.int32, count))

    def finish(self, classes: tuple[str, ...], notes: Iterable[str] = ()) -> Rows:
        """Join the blocks; rows that repeat become a note.

        Raises:
            ValueError: Some rows are wrong (all of them are listed), one name has two labels, or there is no
                row.
        """
        offsets = np.concatenate([np.zeros(1, np.int64), *self._lengths]).cumsum()
        labels = np.concatenate([np.zeros(0, np.int64), *self._labels])
        repeats = self._repeats(offsets, labels)
        self.errors.raise_if_any()
        if not labels.size:
            raise ValueError(f"0 videos in {self.errors.source}; a manifest needs at least one row")
        return Rows(np.frombuffer(self._names, np.uint8), offsets, labels, classes, (*notes, *repeats))

    def _repeats(self, offsets: NDArray[np.int64], labels: NDArray[np.int64]) -> list[str]:
        rows = np.concatenate([np.zeros(0, np.int32), *self._rows])
        hashes = np.concatenate([np.zeros(0, np.int64), *self._hashes])
        pairs = list(_equal_pairs(self._names, offsets, hashes))
        for first, again in pairs:
            if labels[first] != labels[again]:
                name = self._names[offsets[first] : offsets[first + 1]].decode()
                text = f"{name!r} has label {labels[again]} here and {labels[first]} in row {rows[first]}"
                self.errors.add(int(rows[again]), text)
        if not pairs:
            return []
        first, again = pairs[0]
        return [f"{len(pairs):,} rows repeat an earlier row (row {rows[again]} repeats row {rows[first]})"]


def clean_name(path: str, *, root: str, allow_outside: bool = False) -> str:
    """Return the name relative to `root`, without `.`, `..` and doubled slashes.

    Only the text is judged, no file is touched. An absolute path below `root` becomes relative to it.

    Raises:
        BadRow: The name is empty, holds a NUL or leaves `root` (unless `allow_outside`).
    """
    if "\0" in path:
        raise BadRow(f"the path {path!r} holds a NUL byte")
    if re.match(r"[A-Za-z]:[\\/]", path):
        raise BadRow(f"the path {path!r} is absolute on a Windows machine; write it relative to data.root")
    if is_url(root):
        path = path.removeprefix(f"{root}/")
    name = posixpath.normpath(path) if path else "."
    if name == ".":
        raise BadRow(f"the path {path!r} names no file")
    if name.startswith("/"):
        base = root.rstrip("/") + "/"
        if name.startswith(base):
            return name[len(base) :]
    if allow_outside or not (name.startswith(("/", "../")) or name == ".."):
        return name
    raise BadRow(f"the path {path!r} leaves the root {root}; set root to a folder above it, or allow_outside=True")


def pieces(first: int, block: bytes) -> Iterator[tuple[int, bytes]]:
    """Cut a block of whole lines, of which `first` is the number of the first, and yield the same of each piece.

    Where one row of a block is not ordinary, only those of its piece are read one by one.
    """
    lines = block.split(b"\n")
    for start in range(0, len(lines), _PIECE_ROWS):
        yield first + start, b"\n".join(lines[start : start + _PIECE_ROWS])


def read_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    r"""Yield (row of the first line, block of whole lines); lines end in `\n` alone, a UTF-8 BOM is dropped.

    Raises:
        FileNotFoundError, ValueError: There is no such regular file; it is UTF-16.
    """
    check_file(file)
    with file.open("rb") as stream:
        row, rest = 1, stream.read(3).removeprefix(b"\xef\xbb\xbf")
        while data := stream.read(_BLOCK_BYTES):
            if row == 1 and rest[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise ValueError(f"{file} is UTF-16; a list must be UTF-8: save it as UTF-8 text")
            block, newline, rest = (rest + data).rpartition(b"\n")
            if newline:
                yield row, block
                row += block.count(b"\n") + 1
        if rest:
            yield row, rest


def decode_lines(first: int, block: bytes, *, errors: RowErrors) -> Iterator[tuple[int, str]]:
    r"""Yield (row, line) without `\r` at the end and without blank lines; bad UTF-8 goes to `errors`."""
    for row, raw in enumerate(block.split(b"\n"), first):
        try:
            line = raw.removesuffix(b"\r").decode()
        except UnicodeDecodeError as err:
            errors.add(row, f"not UTF-8 (byte 0x{raw[err.start]:02x} at column {err.start + 1}): {raw!r}")
            continue
        if line.strip(" \t"):
            yield row, line


def check_file(file: Path) -> None:
    """Raise FileNotFoundError or ValueError unless `file` is a regular file."""
    if not file.exists():
        raise FileNotFoundError(f"there is no file {file}")
    if not file.is_file():
        raise ValueError(f"{file} is not a regular file; give a text file")


def check_root(root: str | Path) -> str:
    """Return the folder as an absolute path, so that a change of working directory cannot move the data.

    An address is returned as it is; whether anything is there is seen when it is listed.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is not an existing folder.
    """
    if is_url(str(root)):
        return str(root).rstrip("/")
    folder = os.path.abspath(os.path.expanduser(root))
    if not os.path.exists(folder):
        raise FileNotFoundError(f"the data root {folder} does not exist; set data.root to the folder with the videos")
    if not os.path.isdir(folder):
        raise NotADirectoryError(f"the data root {folder} is not a folder; set data.root to the folder with the videos")
    return folder


def _equal_pairs(names: bytearray, offsets: NDArray[np.int64], hashes: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield (first, again) for each row whose name stood earlier; equal hashes are compared in full."""
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(np.diff(hashes[order]) == 0)
    first: dict[bytes, int] = {}
    for row in np.union1d(order[same], order[same + 1]).tolist():
        name = bytes(names[offsets[row] : offsets[row + 1]])
        if first.setdefault(name, row) != row:
            yield first[name], row
