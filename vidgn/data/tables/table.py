"""Read a table of videos: text with any common separator, JSON, JSON lines or Parquet, with any names of columns.

path,label,start,end            path|label            {"file": "a.mp4", "label": "run"}
long.mp4,run,1.5,4.0            a.mp4|run             {"file": "b.mp4", "label": "walk"}
"""

import csv
import difflib
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from vidgn.data.manifests.rows import RowErrors, check_file

Column = str | int | None  # a name, a number from 1 in a file without header, or None: the usual names

# What people call the columns; the first one that the file has is taken.
USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename", "file_name", "filepath", "video", "video_path", "video_name", "name"),
    "label": ("label", "class", "category", "target", "action", "label_name", "class_name", "label_id"),
    "split": ("split", "subset", "set"),
    "group": ("group",),
    "start": ("start", "start_time", "time_start", "t_start", "start_seconds"),
    "end": ("end", "end_time", "time_end", "t_end", "end_seconds", "stop"),
}
NEEDED = ("path", "label")
HEAD = "label:"  # and a number: fields of the second and later columns of labels
_SEPARATORS = ("\t", ",", ";", "|", " ")  # a tie goes to the first
_SNIFFED_LINES = 50


class Table(NamedTuple):
    """The columns of a file that are used, as text: "" where a cell is empty.

    Attributes:
        columns: The cells of each field, all of one length; fields that the file lacks are left out.
        rows: The number of each row in the file, from 1; of Parquet and JSON those of the records.
        names: What the file calls each field, for messages.
        errors: What is wrong so far; the reader adds to it and raises.
    """

    columns: dict[str, list[str]]
    rows: list[int]
    names: dict[str, str]
    errors: RowErrors

    def say(self, index: int, field: str, text: str) -> None:
        """Note what is wrong with a cell."""
        self.errors.add(self.rows[index], f"column {self.names[field]}: {text}")


def read_table(file: Path, *, columns: Mapping[str, Column], separator: str | None = None) -> Table:
    """Read the fields path, label, split, group, start and end of a file.

    Args:
        file: `.parquet`, `.json` (a list of objects), `.jsonl` or `.ndjson`; anything else is text in UTF-8 with a
            header, whose separator (tab, comma, semicolon, bar or space) is found.
        columns: Names or numbers of the columns; a field that is None or not given has one of `USUAL_NAMES`.
        separator: What joins labels that JSON or Parquet has as a list.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: Parquet is read without pyarrow.
        ValueError: A column is missing, or the file is not what its name says.
    """
    check_file(file)
    given = {field: column for field, column in columns.items() if column is not None}
    unknown = sorted(field for field in given.keys() - USUAL_NAMES.keys() if not field.startswith(HEAD))
    if unknown:
        raise ValueError(f"unknown option data.columns.{unknown[0]}; it must be one of {', '.join(USUAL_NAMES)}")
    numbers = {field: column for field, column in given.items() if isinstance(column, int)}
    suffix = file.suffix.lower()
    if numbers and (len(numbers) < len(given) or suffix in (".parquet", ".json", ".jsonl", ".ndjson")):
        raise ValueError(
            f"data.columns mixes names and numbers, or has numbers for {file.name}; numbers are for text without header"
        )
    if numbers:
        return _numbered(file, numbers)
    names = {field: str(column) for field, column in given.items()}
    if suffix == ".parquet":
        return _of_parquet(file, names, separator)
    if suffix in (".json", ".jsonl", ".ndjson"):
        return _of_json(file, names, separator)
    return _of_text(file, names)


def find_columns(header: Sequence[str], given: Mapping[str, str], *, source: str) -> dict[str, str]:
    """Return which column holds each field.

    Raises:
        ValueError: A column that was named is missing, or path or label are not found.
    """
    by_name = {name.strip().lower(): name for name in reversed(header)}
    chosen: dict[str, str] = {}
    heads = {field: () for field in given if field.startswith(HEAD)}
    for field, usual in {**USUAL_NAMES, **heads}.items():
        if field in given:
            name = given[field] if given[field] in header else by_name.get(given[field].lower())
            if name is None:
                near = difflib.get_close_matches(given[field], header, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                has = ", ".join(header)
                option = f"data.columns.{field.partition(':')[0]}"
                raise ValueError(f"{source} has no column {given[field]!r} ({option}){hint}; it has {has}")
            chosen[field] = name
            continue
        name = next((by_name[name] for name in usual if name in by_name), None)
        if name is not None and name not in given.values():
            chosen[field] = name
    missing = [field for field in NEEDED if field not in chosen]
    if missing:
        raise ValueError(
            f"{source} has the columns {', '.join(header)}: none of them is known to be the {missing[0]}; "
            f"set data.columns.{missing[0]}=NAME (or =1, =2 for a file without header)"
        )
    return chosen


def _of_text(file: Path, given: Mapping[str, str]) -> Table:
    first = _first_lines(file)
    if not first:
        raise ValueError(f"{file} is empty; it must have a header and a row for each video")
    header_of = {separator: _split(first[0], separator) for separator in _SEPARATORS}
    known = {separator: _num_found(header, given) for separator, header in header_of.items()}
    separator = max(_SEPARATORS, key=lambda candidate: known[candidate])
    if not known[separator]:
        separator = max(_SEPARATORS[:4], key=first[0].count)
    header = header_of[separator]
    chosen = find_columns(header, given, source=str(file))
    at = {field: header.index(name) for field, name in chosen.items()}
    return _cells(file, separator, at, chosen, count=len(header), skip=1)


def _split(line: str, separator: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]


def _num_found(header: Sequence[str], given: Mapping[str, str]) -> int:
    try:
        return len(find_columns(header, given, source=""))
    except ValueError:
        return 0


def _numbered(file: Path, numbers: Mapping[str, int]) -> Table:
    """Read text without a header."""
    missing = [field for field in NEEDED if field not in numbers]
    if missing or min(numbers.values()) < 1:
        raise ValueError(f"data.columns.{(missing or list(numbers))[0]} must be the number of a column, from 1")
    first = _first_lines(file)
    most = max(numbers.values())

    def fitting(separator: str) -> int:
        return sum(len(row) >= most for row in csv.reader(first, delimiter=separator, skipinitialspace=True))

    separator = max(_SEPARATORS, key=fitting)
    at = {field: number - 1 for field, number in numbers.items()}
    return _cells(file, separator, at, {field: str(number) for field, number in numbers.items()}, count=most, skip=0)


def _cells(file: Path, separator: str, at: Mapping[str, int], names: dict[str, str], *, count: int, skip: int) -> Table:
    table = Table({field: [] for field in at}, [], names, RowErrors(str(file)))
    columns = [(table.columns[field], position) for field, position in at.items()]
    most = max(at.values())
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        for row, cells in islice(_rows(stream, separator, table.errors), skip, None):
            if len(cells) <= most or (skip and len(cells) > count):
                text = f"{len(cells)} columns instead of {count}: {separator.join(cells)!r}"
                table.errors.add(row, f"{text}; quote cells that hold {separator!r}")
                continue
            table.rows.append(row)
            for column, position in columns:
                column.append(cells[position].strip())
    _check_text(table)
    return table


def _rows(stream: TextIO, separator: str, errors: RowErrors) -> Iterator[tuple[int, list[str]]]:
    """Yield (first line, cells) of each row that is not blank; what csv cannot read goes to `errors`."""
    reader = csv.reader(stream, delimiter=separator, skipinitialspace=True, strict=True)
    while True:
        row = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as err:
            errors.add(row, f"the quotes do not match ({err})")
            continue
        if any(cells):
            yield row, cells


def _check_text(table: Table) -> None:
    """Note cells whose bytes are not UTF-8."""
    for field, column in table.columns.items():
        if not "".join(column).isascii():
            for index, cell in enumerate(column):
                if any("\ud800" <= letter <= "\udfff" for letter in cell):
                    table.say(index, field, f"{cell!a} is not UTF-8")


def _first_lines(file: Path) -> list[str]:
    with file.open("rb") as stream:
        if stream.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise ValueError(f"{file} is UTF-16; a list must be UTF-8: save it as UTF-8 text")
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        return [line.rstrip("\r\n") for line in islice(stream, _SNIFFED_LINES) if line.strip()]


def _of_json(file: Path, given: Mapping[str, str], separator: str | None) -> Table:
    errors = RowErrors(str(file))
    records: list[tuple[int, Any]] = []
    if file.suffix.lower() == ".json":
        try:
            content = json.loads(file.read_text(encoding="utf-8-sig"))
        except ValueError as err:
            raise ValueError(f"{file} is not JSON: {err}") from err
        if not isinstance(content, list):
            raise ValueError(f"{file} must hold a list of objects, one for each video, not {type(content).__name__}")
        records = list(enumerate(content, 1))
    else:
        with file.open("rb") as stream:
            for row, line in enumerate(stream, 1):
                if line.strip():
                    try:
                        records.append((row, json.loads(line)))
                    except ValueError as err:
                        errors.add(row, f"not JSON: {err}")
    for row, record in records:
        if not isinstance(record, dict):
            errors.add(row, f"{record!r} is not an object")
    records = [(row, record) for row, record in records if isinstance(record, dict)]
    errors.raise_if_any()
    header = list(dict.fromkeys(name for _, record in records for name in record))
    chosen = find_columns(header, given, source=str(file))
    columns = {field: [record.get(name) for _, record in records] for field, name in chosen.items()}
    return _typed(columns, [row for row, _ in records], chosen, errors, separator)


def _of_parquet(file: Path, given: Mapping[str, str], separator: str | None) -> Table:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as err:
        raise ImportError(f"{file} is Parquet, which needs pyarrow; pip install 'vidgn[data]'") from err
    try:
        content = parquet.ParquetFile(file)
        chosen = find_columns(content.schema_arrow.names, given, source=str(file))
        table = content.read(columns=list(dict.fromkeys(chosen.values())))
    except (OSError, importlib.import_module("pyarrow").ArrowInvalid) as err:
        raise ValueError(f"{file} cannot be read as Parquet ({err})") from err
    columns = {field: table.column(name).to_pylist() for field, name in chosen.items()}
    return _typed(columns, list(range(1, table.num_rows + 1)), chosen, RowErrors(str(file)), separator)


def _typed(
    columns: Mapping[str, Iterable[Any]],
    rows: list[int],
    names: dict[str, str],
    errors: RowErrors,
    separator: str | None,
) -> Table:
    """Turn typed cells into text; objects are not cells, and lists only where labels have a separator."""
    table = Table({field: [] for field in columns}, rows, names, errors)
    for field, values in columns.items():
        for index, value in enumerate(values):
            if field == "label" and separator is not None and isinstance(value, list):
                table.columns[field].append(separator.join(map(_text, value)))
                continue
            if isinstance(value, (list, dict, bool)):
                table.say(index, field, f"{value!r} must be one text or number")
            table.columns[field].append("" if value is None else _text(value))
    return table


def _text(value: object) -> str:
    """Return a cell as text; a whole number has no decimals, as where an empty cell made a column of floats."""
    if isinstance(value, float):
        return "" if value != value else str(int(value)) if value.is_integer() else repr(value)
    return str(value).strip()
