"""Read the rows of Kinetics annotation files: ordinary ones many at a time, the others one by one."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidgn.data.manifests.rows import BadRow, RowErrors, decode_lines, pieces, read_lines

COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_LAST_SECOND = 999_999  # file names have six digits


class Block(NamedTuple):
    """Some rows: file names without suffix, joined by newlines; numbers of labels and of lines, (n,)."""

    joined: str
    labels: NDArray[np.int32]
    rows: NDArray[np.int32]

    @property
    def stems(self) -> list[str]:
        """The file names without suffix."""
        return self.joined.split("\n")


class Annotations:
    """What an annotation file says, without an object per row.

    Args:
        file: Text, whose first row names the columns.
        words: Of the column `split`: other rows are counted and left out; None keeps all.

    Attributes:
        blocks: The rows that are kept.
        labels: Class name -> number in the blocks; of all rows.
        splits: How many rows have which word in the column `split` ("" where there is none).
        errors: What is wrong with rows; more may be added.

    Raises:
        FileNotFoundError, ValueError: There is no such file, or its header is another one.
    """

    def __init__(self, file: Path, *, words: Sequence[str] | None = None) -> None:
        self.blocks: list[Block] = []
        self.labels: dict[str, int] = {}
        self.splits: Counter[str] = Counter()
        self.errors = RowErrors(str(file))
        self._kept = None if words is None else {"", *words}
        self._seconds: dict[str, int] = {}  # text -> number, of times that need no cleaning
        column: dict[str, int] = {}
        for start, block in read_lines(file):
            first, rest = start, block
            while not column and rest:
                head, _, rest = rest.partition(b"\n")
                column = self._header(first, head, file)
                first += 1
            if column and rest:
                self._read(first, rest, column)

    def _header(self, row: int, head: bytes, file: Path) -> dict[str, int]:
        for number, line in decode_lines(row, head, errors=self.errors):
            try:
                return _columns(next(csv.reader([line], strict=True)), file)
            except csv.Error as err:
                self.errors.add(number, str(err))
        return {}

    def _read(self, first: int, block: bytes, column: dict[str, int]) -> None:
        """Read a block of whole lines, and in pieces where it is not ordinary."""
        if self._read_ordinary(first, block, column):
            return
        for number, piece in pieces(first, block):
            if not self._read_ordinary(number, piece, column):
                self._read_singly(number, piece, column)

    def _read_ordinary(self, first: int, block: bytes, column: dict[str, int]) -> bool:
        """Add a block in which no field is quoted or needs cleaning and nothing is wrong; False for any other."""
        try:
            fields = _split(block, width=len(column))
            names, ids, starts, ends = (fields[column[name] :: len(column)] for name in COLUMNS)
            if not all(ids) or list(map(str.strip, ids)) != ids:
                return False
            labels = self._numbers(names)
            begin, end = (self._times(texts) for texts in (starts, ends))
        except (UnicodeDecodeError, BadRow):
            return False  # reading row by row finds it again, and says where it is
        if not (begin < end).all():
            return False
        stems = [f"{name}_{a:0>6}_{b:0>6}" for name, a, b in zip(ids, starts, ends, strict=True)]
        splits = fields[column["split"] :: len(column)] if "split" in column else [""] * len(ids)
        self._add(stems, labels, np.arange(first, first + len(ids), dtype=np.int32), splits)
        return True

    def _read_singly(self, first: int, block: bytes, column: dict[str, int]) -> None:
        stems, labels, rows, splits = [], [], [], []
        for row, line in decode_lines(first, block, errors=self.errors):
            try:
                fields = next(csv.reader([line], strict=True))
                label, stem = _annotation(fields, column)
            except (csv.Error, BadRow) as err:
                self.errors.add(row, str(err))
                continue
            stems.append(stem)
            labels.append(self.labels.setdefault(label, len(self.labels)))
            rows.append(row)
            splits.append(fields[column["split"]] if "split" in column else "")
        if stems:
            self._add(stems, np.array(labels, np.int32), np.array(rows, np.int32), splits)

    def _add(self, stems: list[str], labels: NDArray[np.int32], rows: NDArray[np.int32], splits: list[str]) -> None:
        counts = Counter(splits)
        self.splits.update(counts)
        if self._kept is not None and not counts.keys() <= self._kept:
            keep = np.array([word in self._kept for word in splits])
            stems = [stem for stem, kept in zip(stems, keep.tolist(), strict=True) if kept]
            labels, rows = labels[keep], rows[keep]
        if stems:
            self.blocks.append(Block("\n".join(stems), labels, rows))

    def _numbers(self, names: list[str]) -> NDArray[np.int32]:
        for name in dict.fromkeys(names):
            if name not in self.labels:
                if not name or name != name.strip():
                    raise BadRow("a label to clean")
                self.labels[name] = len(self.labels)
        return np.fromiter(map(self.labels.__getitem__, names), np.int32, len(names))

    def _times(self, texts: list[str]) -> NDArray[np.int32]:
        for text in set(texts) - self._seconds.keys():
            if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_LAST_SECOND))):
                raise BadRow("a time to clean")
            self._seconds[text] = int(text)
        return np.fromiter(map(self._seconds.__getitem__, texts), np.int32, len(texts))


def _split(block: bytes, *, width: int) -> list[str]:
    """Return the fields of all lines; BadRow where a line has not `width` of them or holds what is not ordinary."""
    block = block.replace(b"\r\n", b"\n").removesuffix(b"\r")
    if any(mark in block for mark in (b'"', b"/", b"\0", b"\r", b",.", b"\n.")) or block.startswith(b"."):
        raise BadRow("quotes, or characters that no file name can have")
    codes = np.frombuffer(block, np.uint8)
    ends = np.append(np.flatnonzero(codes == ord("\n")), len(codes))
    commas = np.flatnonzero(codes == ord(","))
    if len(commas) != len(ends) * (width - 1):
        raise BadRow("other numbers of columns")
    by_line = commas.reshape(len(ends), width - 1)
    if not (by_line[:, -1] < ends).all() or not (by_line[1:, 0] > ends[:-1]).all():
        raise BadRow("other numbers of columns")
    return block.decode().replace("\n", ",").split(",")


def _columns(header: list[str], file: Path) -> dict[str, int]:
    column = {name.strip().lower(): index for index, name in enumerate(header)}
    missing = [name for name in COLUMNS if name not in column]
    if missing == ["label"]:
        raise ValueError(
            f"{file} has no column label: some copies of the Kinetics test split are unlabelled and cannot "
            "be scored; use the val split"
        )
    if missing:
        raise ValueError(f"{file} must begin with the header {','.join(COLUMNS)},split; it begins with {header}")
    return column


def _annotation(fields: list[str], column: dict[str, int]) -> tuple[str, str]:
    """Return label and file name without suffix of one row."""
    if len(fields) != len(column):
        raise BadRow(f"{len(fields)} columns, the header has {len(column)}")
    label, video, start, end = (fields[column[name]].strip() for name in COLUMNS)
    if not label or not video:
        raise BadRow("no label" if not label else "no youtube_id")
    if {"/", "\0"} & set(label + video) or video.startswith("."):
        raise BadRow(f"label {label!r} or youtube_id {video!r} holds a character that no file name can have")
    try:
        first, last = int(float(start)), int(float(end))
    except (ValueError, OverflowError):
        raise BadRow(f"time_start {start!r} and time_end {end!r} must be seconds") from None
    if not 0 <= first < last <= _LAST_SECOND:
        raise BadRow(f"time_start {start} must be 0 or more and less than time_end {end}")
    return label, f"{video}_{first:06d}_{last:06d}"
