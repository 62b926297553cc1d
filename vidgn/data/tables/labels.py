"""The labels of a table: one class per row, several in one cell, or one of each of several columns (heads).

label        label (separator ;)        verb   noun
run          run;jump                   open   door
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidgn.data.manifests.classes import INTEGER, check_classes
from vidgn.data.tables.table import HEAD, Column, Table
from vidgn.objective.targets import ONE, Targets


class Labels(NamedTuple):
    """The labels of some rows.

    Attributes:
        first: One class of each row, int64 (N,): of several its rarest one, by which drawn splits are stratified.
        sets: All classes of each row, filled up with -1, int64 (N,M); None where a row has one.
        classes: Class names; those of a head begin with its name and a colon.
        targets: What they stand for.
    """

    first: NDArray[np.int64]
    sets: NDArray[np.int64] | None
    classes: tuple[str, ...]
    targets: Targets


class Known(NamedTuple):
    """Classes that are known before a table is read.

    Attributes:
        classes: Their names; None: the labels are the classes.
        are_names: Labels are class names even if all are numbers.
        targets: Of heads, how many classes each has.
    """

    classes: tuple[str, ...] | None
    are_names: bool = False
    targets: Targets = ONE


def read_labels(table: Table, used: Sequence[int], known: Known, *, separator: str | None) -> Labels:
    """Return the labels of the rows `used`; what is wrong goes to `table.errors`.

    Without class names the labels are the classes, numbers in their order and names in that of the alphabet. With class
    names, a label is one of them, or where all labels are numbers, the index of one.

    Raises:
        ValueError: Several columns of labels are given beside a separator or a file of classes.
    """
    heads = [field for field in table.columns if field == "label" or field.startswith(HEAD)]
    if len(heads) > 1:
        return _of_heads(table, used, known, heads, separator=separator)
    cells = [table.columns["label"][index] for index in used]
    if separator is None:
        index_of, classes = _classes(cells, known.classes, are_names=known.are_names)
        labels = [
            _label(table, index, "label", cell, index_of, len(classes)) for index, cell in zip(used, cells, strict=True)
        ]
        return Labels(np.array(labels, np.int64), None, classes, ONE)
    parts = [list(dict.fromkeys(filter(None, map(str.strip, cell.split(separator))))) for cell in cells]
    index_of, classes = _classes([part for row in parts for part in row], known.classes, are_names=known.are_names)
    sets = np.full((len(parts), max(1, *map(len, parts)) if parts else 1), -1, np.int64)
    for number, (index, row) in enumerate(zip(used, parts, strict=True)):
        sets[number, : len(row)] = [_label(table, index, "label", part, index_of, len(classes)) for part in row]
    return Labels(_rarest(sets, len(classes)), sets, classes, Targets("many", separator=separator))


def label_columns(columns: Mapping[str, object]) -> dict[str, Column]:
    """Return the columns of a table, those of a list under `label` as fields of their own.

    >>> label_columns({"path": "id", "label": ["verb", "noun"]})
    {'path': 'id', 'label': 'verb', 'label:1': 'noun'}

    Raises:
        ValueError: The list has fewer than two columns, or one twice.
    """
    label = columns.get("label")
    plain = {field: column for field, column in columns.items() if field != "label" or not isinstance(label, list)}
    if isinstance(label, list):
        if len(label) < 2 or len(set(label)) < len(label):
            raise ValueError(
                f"data.columns.label ({label}) must be one column, or two or more different ones, one for each head; "
                "set data.columns.label=[verb,noun]"
            )
        plain |= {"label" if not position else f"{HEAD}{position}": name for position, name in enumerate(label)}
    return plain  # type: ignore[return-value]


def _of_heads(
    table: Table, used: Sequence[int], known: Known, heads: Sequence[str], *, separator: str | None
) -> Labels:
    if separator is not None or (known.classes is not None and not known.targets.heads):
        option = "data.classes" if separator is None else f"data.label_separator ({separator!r})"
        raise ValueError(
            f"{option} is for one column of labels, and data.columns.label has {len(heads)}; leave it out."
        )
    columns: list[NDArray[np.int64]] = []
    classes: list[str] = []
    sizes: list[tuple[str, int]] = []
    for number, field in enumerate(heads):
        name = table.names[field]
        prefix = f"{name}:"
        part = None
        if known.classes is not None:
            part = tuple(text.removeprefix(prefix) for text in known.classes[known.targets.slices[number]])
        cells = [table.columns[field][index] for index in used]
        index_of, names = _classes(cells, part, are_names=known.are_names)
        labels = [
            _label(table, index, field, cell, index_of, len(names)) for index, cell in zip(used, cells, strict=True)
        ]
        columns.append(np.array(labels, np.int64) + len(classes))
        classes += [prefix + text for text in names]
        sizes.append((name, len(names)))
    sets = np.stack(columns, 1)
    return Labels(_rarest(sets, len(classes)), sets, tuple(classes), Targets("heads", tuple(sizes)))


def _classes(
    cells: Sequence[str], known: tuple[str, ...] | None, *, are_names: bool
) -> tuple[Mapping[str, int], tuple[str, ...]]:
    """Return the index of each label, and the class names."""
    distinct = set(cells)
    numeric = all(INTEGER.fullmatch(label) for label in distinct)
    if known is None:
        order = sorted(distinct, key=int) if numeric else sorted(distinct)
        classes = tuple(label for label in order if label)
        return {label: number for number, label in enumerate(classes)}, classes
    classes = check_classes(known, source="data.classes")
    index_of = {label: number for number, label in enumerate(classes)}
    if numeric and not are_names and not distinct <= index_of.keys():
        index_of = {label: int(label) for label in distinct if 0 <= int(label) < len(classes)}
    return index_of, classes


def _label(table: Table, index: int, field: str, cell: str, index_of: Mapping[str, int], num_classes: int) -> int:
    """Return the class index of a cell, or note that it has none."""
    if cell not in index_of:
        table.say(index, field, f"{cell!r} is not one of the {num_classes} classes" if cell else "the label is empty")
    return index_of.get(cell, -1)


def _rarest(sets: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Return the class of each row that the fewest rows have; 0 where it has none."""
    counts = np.bincount(sets[sets >= 0], minlength=num_classes + 1).astype(np.float64)
    counts = np.append(counts[:num_classes], np.inf)  # of -1, the last one
    rarest = np.take_along_axis(sets, counts[sets].argmin(1)[:, None], axis=1)[:, 0]
    return np.maximum(rarest, 0)
