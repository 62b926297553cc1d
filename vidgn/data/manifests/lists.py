"""Read path-label lists as PySlowFast, mmaction2 and pytorchvideo write them."""

import csv
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from vidgn.data.manifests.classes import INTEGER, LabelIndex
from vidgn.data.manifests.fast_rows import OrdinaryRows
from vidgn.data.manifests.rows import (
    VIDEO_SUFFIXES,
    BadRow,
    RowErrors,
    Rows,
    RowsBuilder,
    clean_name,
    decode_lines,
    read_lines,
)

_SEPARATORS = ("\t", ",", " ")  # a tie goes to the first
_PATH_WORDS = {"path", "file", "filename", "file_name", "video", "video_path", "name"}
_LABEL_WORDS = {"label", "labels", "label_id", "class", "class_id", "target", "category"}
_SNIFFED_LINES = 100


def read_list(
    file: Path, *, root: str, classes: Sequence[str] | None, num_classes: int | None, allow_outside: bool,
    first_label: int = 0,
) -> Rows:  # fmt: skip
    """Read rows of `path<separator>label`; see `Manifest.from_list` for the dialects and the errors."""
    head = _first_lines(file)
    labels = LabelIndex(classes, num_classes, first=first_label)
    separator = _sniff(head, labels)
    header = bool(head) and _is_header(head[0], separator=separator, file=file)
    builder = RowsBuilder(str(file))
    ordinary = OrdinaryRows(separator, root=root, labels=labels)
    for first, block in read_lines(file):
        pieces = [(first, block)] if header else ordinary.read(first, block, builder=builder)
        for start, piece in pieces:
            rows = islice(decode_lines(start, piece, errors=builder.errors), int(header), None)
            _read_rows(rows, separator, labels, root=root, allow_outside=allow_outside, builder=builder)
            header = False
    table = builder.finish(())
    try:
        return table._replace(classes=labels.classes_for(set(table.labels.tolist())))
    except ValueError as err:
        raise ValueError(f"{file}: {err}") from err


def is_kinetics_annotation(file: Path) -> bool:
    """Whether the first line is the header of an official Kinetics annotation file."""
    return any(map(_is_kinetics_header, _first_lines(file)[:1]))


def split_row(line: str, *, separator: str, labels: LabelIndex) -> tuple[str, str]:
    """Return the path and the text of the label.

    A comma or tab list is csv, so a path that holds the separator is quoted. In a list separated by spaces
    the path may hold spaces: the last word is the label, or the longest ending that is a class name.

    Raises:
        BadRow: The row has not two columns, or its quotes do not match.
    """
    if "\0" in line:
        raise BadRow(f"{line!r} holds a NUL byte")
    if "\r" in line:
        raise BadRow(rf"{line!r} holds a carriage return; lines must end in \n or \r\n")
    if separator == " ":
        fields = _split_at_space(line.strip(), labels)
    else:
        fields = [field.strip() for field in _csv_fields(line, separator)]
    if len(fields) > 2:
        raise BadRow(f"{len(fields)} columns in {line!r}; a row is path and label; quote paths that hold {separator!r}")
    if len(fields) < 2 or not fields[1]:
        raise BadRow(f"no label in {line!r}; a row is path and label")
    return fields[0], fields[1]


def _first_lines(file: Path) -> list[str]:
    """Return the first lines that are not blank; wrong bytes are reported later, with their rows."""
    for first, block in read_lines(file):
        lines = decode_lines(first, block, errors=RowErrors(str(file)))
        return [line for _, line in islice(lines, _SNIFFED_LINES)]
    return []


def _sniff(lines: Sequence[str], labels: LabelIndex) -> str:
    """Return the separator that splits most lines into path and label; if none does, the most frequent."""

    def fitting(separator: str) -> int:
        count = 0
        for line in lines:
            try:
                label = split_row(line, separator=separator, labels=labels)[1]
            except BadRow:
                continue
            count += bool(INTEGER.fullmatch(label)) or label in labels
        return count

    best = max(_SEPARATORS, key=fitting)
    return best if fitting(best) else max(_SEPARATORS, key=lambda separator: sum(separator in line for line in lines))


def _is_header(line: str, *, separator: str, file: Path) -> bool:
    """Whether the line names the columns path and label.

    Raises:
        ValueError: It names them in the other order, or it is the header of a Kinetics annotation file.
    """
    if _is_kinetics_header(line):
        raise ValueError(
            f"{file} is a Kinetics annotation file (its header is {line!r}), not a list of path and label; "
            "read it with from_kinetics_csv"
        )
    names = [word.strip(' "').lower() for word in line.split(separator)]
    if len(names) != 2:
        return False
    if names[0] in _LABEL_WORDS and names[1] in _PATH_WORDS:
        raise ValueError(f"{file}: the columns are {line!r}; the path must come first, then the label")
    return names[0] in _PATH_WORDS and names[1] in _LABEL_WORDS


def _is_kinetics_header(line: str) -> bool:
    return "youtube_id" in line.lower().replace('"', "").split(",")


def _read_rows(
    rows: Iterable[tuple[int, str]],
    separator: str,
    labels: LabelIndex,
    *,
    root: str,
    allow_outside: bool,
    builder: RowsBuilder,
) -> None:
    """Read rows one by one; what is wrong with a row goes to the builder's errors."""
    names, indices, numbers = [], [], []
    for row, line in rows:
        try:
            path, label = split_row(line, separator=separator, labels=labels)
            name, index = clean_name(path, root=root, allow_outside=allow_outside), labels(label)
        except BadRow as err:
            builder.errors.add(row, str(err))
            continue
        names.append(name)
        indices.append(index)
        numbers.append(row)
    builder.extend(names, indices, numbers)


def _csv_fields(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error as err:
        raise BadRow(f"the quotes in {line!r} do not match ({err})") from err


def _split_at_space(line: str, labels: LabelIndex) -> list[str]:
    if line.startswith('"'):
        fields = [field for field in _csv_fields(line, " ") if field]
        return [fields[0], " ".join(fields[1:])] if fields else []
    if labels.has_names:
        for space in re.finditer(" +", line):
            if line[space.end() :] in labels:
                return [line[: space.start()], line[space.end() :]]
    path, _, label = line.rpartition(" ")
    if label.lower().endswith(VIDEO_SUFFIXES):
        return [line]  # a path with a space in it, and no label
    parts = path.split()
    if len(parts) > 1 and INTEGER.fullmatch(parts[-1]) and parts[-2].lower().endswith(VIDEO_SUFFIXES):
        return [*path.rsplit(maxsplit=1), label]  # mmaction2's frame lists: path, number of frames, label
    return [path.rstrip(), label] if path else [label]
