"""`data=csv`: one table with the path and the label of every video, and perhaps its split, group, start and end."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidgn.data.manifests.excerpts import ExcerptManifest, segment_of
from vidgn.data.manifests.manifest import Split
from vidgn.data.manifests.rows import BadRow, RowsBuilder, check_root, clean_name
from vidgn.data.storage.excerpt import ImageFolder, Unit
from vidgn.data.tables.labels import Known, read_labels
from vidgn.data.tables.table import Column, Table, read_table
from vidgn.objective.targets import ONE, Targets

_SPLIT_NAMES: dict[str, Split | Literal[""]] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
    **dict.fromkeys(("", "-", "none", "unused"), ""),
}
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d*)?)")  # 00:01:02.5, as in EPIC-Kitchens


@dataclass(frozen=True)
class ListFormat:
    """How the rows of a table are read.

    Attributes:
        root: Folder or address that the paths are relative to; None: the folder of the table.
        columns: Names or numbers of the columns; see `read_table`.
        unit: Of the columns start and end.
        suffix: Added to each path, such as `.webm` where a column has names without it.
        classes: Class names, for labels that are their indices; None: the labels are the classes.
        labels_are_names: Labels are class names even if all are numbers.
        targets: Of several columns of labels, how many of the classes each has.
        separator: What stands between the labels of a cell; None: a cell is one label.
        images: The paths are folders of images.
    """

    root: str | None = None
    columns: Mapping[str, Column] = field(default_factory=dict)
    unit: Unit = "seconds"
    suffix: str = ""
    classes: tuple[str, ...] | None = None
    labels_are_names: bool = False
    targets: Targets = ONE
    separator: str | None = None
    images: ImageFolder | None = None


@dataclass(frozen=True)
class Listed:
    """The rows of a table.

    Attributes:
        manifest: All of them that have a split, or all where the table has no splits.
        splits: The split of each, None where the table has no such column.
        groups: The group of each, None where the table has no such column.
    """

    manifest: ExcerptManifest
    splits: tuple[Split, ...] | None
    groups: tuple[str, ...] | None


def read_csv(file: Path, form: ListFormat) -> Listed:
    """Read every row of a table.

    Raises:
        FileNotFoundError, NotADirectoryError: There is no such file or root.
        ValueError: A column is missing, or some rows are wrong: all are listed with their row and column.
    """
    if form.unit not in ("seconds", "frames"):
        raise ValueError(f"data.unit ({form.unit}) must be seconds or frames.")
    root = check_root(form.root if form.root is not None else file.expanduser().absolute().parent)
    table = read_table(file, columns=form.columns, separator=form.separator)
    splits = _splits(table)
    used = [index for index in range(len(table.rows)) if splits is None or splits[index]]
    unused = len(table.rows) - len(used)
    starts, ends = (_bounds(table, name, form.unit) for name in ("start", "end"))
    names = _names(table, used, root=root, form=form, bounds=(starts, ends))
    known = Known(form.classes, form.labels_are_names, form.targets)
    labels = read_labels(table, used, known, separator=form.separator)
    table.errors.raise_if_any()
    builder = RowsBuilder(str(file))
    builder.extend(names, labels.first.tolist(), [table.rows[index] for index in used])
    notes = [f"{unused:,} rows of {file.name} have no split and are left out"] if unused else []
    rows = builder.finish(labels.classes, notes)
    manifest = ExcerptManifest(
        root, rows.names, rows.offsets, rows.labels, rows.classes, rows.notes, images=form.images,
        starts=starts[used], ends=ends[used], unit=form.unit, targets=labels.targets, sets=labels.sets,
    )  # fmt: skip
    groups = table.columns.get("group")
    return Listed(
        manifest,
        None if splits is None else tuple(split for split in splits if split),
        None if groups is None else tuple(groups[index] for index in used),
    )


def seconds_of(text: str) -> float:
    """Return a time in seconds, written as a number or as `HH:MM:SS.ss`; NaN for an empty text.

    >>> seconds_of("1.5"), seconds_of("00:01:02.25"), seconds_of("")
    (1.5, 62.25, nan)

    Raises:
        ValueError: It is neither.
    """
    if not text:
        return math.nan
    clock = _CLOCK.fullmatch(text)
    value = int(clock[1] or 0) * 3600 + int(clock[2]) * 60 + float(clock[3]) if clock else float(text)
    if not 0 <= value < math.inf:
        raise ValueError(f"{text!r} must be 0 or more")
    return value


def _splits(table: Table) -> list[Split | Literal[""]] | None:
    if "split" not in table.columns:
        return None
    cells = [cell.lower() for cell in table.columns["split"]]
    for index, cell in enumerate(cells):
        if cell not in _SPLIT_NAMES:
            table.say(index, "split", f"{cell!r} must be one of train, val, test, or empty for a row that is not used")
    return [_SPLIT_NAMES.get(cell, "") for cell in cells]


def _bounds(table: Table, name: str, unit: Unit) -> NDArray[np.float64]:
    """Return the starts or the ends of all rows, NaN where there is none."""
    values = np.full(len(table.rows), np.nan)
    for index, cell in enumerate(table.columns.get(name, ())):
        try:
            value = seconds_of(cell)
            if unit == "frames" and value != int(value if value == value else 0) and value == value:
                raise ValueError("not whole")
        except ValueError:
            kind = "a time in seconds, or HH:MM:SS" if unit == "seconds" else "the number of a frame, from 0"
            table.say(index, name, f"{cell!r} must be {kind} (data.unit={unit})")
            continue
        values[index] = value
    return values


def _names(
    table: Table,
    used: Sequence[int],
    *,
    root: str,
    form: ListFormat,
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> list[str]:
    """Return the name of each row, that of a segment with its bounds."""
    names, paths = [], table.columns["path"]
    has_bounds = "start" in table.columns or "end" in table.columns
    for index in used:
        try:
            name = clean_name(paths[index] + form.suffix if paths[index] else "", root=root)
        except BadRow as err:
            table.say(index, "path", str(err))
            continue
        if has_bounds:
            start, end = float(bounds[0][index]), float(bounds[1][index])
            if end <= (0.0 if math.isnan(start) else start):
                column = "end" if "end" in table.columns else "start"
                table.say(index, column, f"the segment {start:g} to {end:g} is empty")
            segment = segment_of(start, end, form.unit)
            name = name if segment is None else f"{name}#{segment}"
        names.append(name)
    return names
