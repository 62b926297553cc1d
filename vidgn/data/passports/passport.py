"""The passport of a data set: its rows, its file, and what a person reads of it.

Parquet needs the package pyarrow; a passport whose name ends in .jsonl needs nothing.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from vidgn.files.bounds import MAX_TEXT, finite_number, text, whole_number
from vidgn.files.outputs import replacing

MAX_PASSPORT = 2_000_000_000  # bytes, unpacked; a row has about 200
MAX_ROWS = 10_000_000
TOO_SHORT = 64  # frames; below, a clip of the usual span shows some frames twice


class VideoFacts(NamedTuple):
    """One row of a passport.

    `frames_promised` is what the container says (0: it does not say), `frames` what can be decoded; `status` is ok
    or what is wrong; sizes are upright (px), `duration` is in seconds, `mtime` the file's time in ns.
    """

    id: str
    path: str
    label: str
    bytes: int
    mtime: int
    sha256: str
    codec: str
    width: int
    height: int
    rotation: int
    fps: float
    frames_promised: int
    frames: int
    duration: float
    status: str


def summary(rows: Sequence[VideoFacts]) -> str:
    """Return what a person wants to know: counts, what is broken, sizes and rates as a picture."""
    good = [row for row in rows if row.status == "ok"]
    bad = [row for row in rows if row.status != "ok"]
    missing = [row for row in bad if not row.sha256]
    short = [row for row in good if row.frames < TOO_SHORT]
    total = sum(row.bytes for row in rows)
    lines = [
        f"{len(rows):,} videos, {total / 1e9:,.2f} GB, {sum(row.duration for row in good) / 3600:,.2f} hours",
        f"ok {len(good):,}   missing {len(missing):,}   broken {len(bad) - len(missing):,}   "
        f"shorter than {TOO_SHORT} frames {len(short):,}   classes {len({row.label for row in rows}):,}",
    ]
    lines += [f"  {row.id}: {row.status}" for row in bad[:20]]
    lines += [f"  and {len(bad) - 20:,} more"] if len(bad) > 20 else []
    lines += _histogram("size", (f"{row.width}x{row.height}" for row in good))
    lines += _histogram("fps", (f"{row.fps:g}" for row in good))
    lines += _histogram("codec", (row.codec for row in good))
    return "\n".join(lines)


def read_passport(path: str | Path) -> list[VideoFacts]:
    """Read a passport of `scan`.

    Raises:
        ValueError: it has other columns, or is damaged.
    """
    file = check_target(path)
    try:
        if file.stat().st_size > MAX_PASSPORT:
            raise ValueError(f"it has {file.stat().st_size:,} bytes, more than {MAX_PASSPORT:,}")
        if file.suffix == ".jsonl":
            records = [dict(json.loads(line)) for line in file.read_text().splitlines()]
        else:
            records = _parquet_records(file)
    except (ValueError, TypeError, RecursionError) as err:  # pyarrow's are ValueErrors too
        reason = " ".join(str(err).split())[:200]
        raise ValueError(f"{file} is not a vidgn passport ({reason}); make one with vidgn scan") from err
    wrong = next((set(record) ^ set(VideoFacts._fields) for record in records if set(record) != _COLUMNS), None)
    if wrong:
        raise ValueError(
            f"{file} is not a vidgn passport (columns {', '.join(sorted(map(str, wrong)))}); make one with vidgn scan"
        )
    try:
        return [_checked(record) for record in records]
    except ValueError as err:
        raise ValueError(f"{file} is not a vidgn passport ({err}); make one with vidgn scan") from err


def write_passport(rows: Sequence[VideoFacts], path: str | Path) -> None:
    """Write a passport, whole or not at all."""
    file = check_target(path)
    with replacing(file) as part:
        if file.suffix == ".jsonl":
            part.write_text("".join(json.dumps(row._asdict()) + "\n" for row in rows))
        else:
            table = import_module("pyarrow").Table.from_pylist([row._asdict() for row in rows])
            _parquet().write_table(table, part)


def check_target(path: str | Path) -> Path:
    """Return the path of a passport.

    Raises:
        ValueError: its name ends otherwise.
        ImportError: pyarrow is missing, for Parquet.
    """
    file = Path(path)
    if file.suffix not in (".parquet", ".jsonl"):
        raise ValueError(f"the passport ({file}) must be named NAME.parquet or NAME.jsonl.")
    if file.suffix == ".parquet":
        _parquet()
    return file


_COLUMNS = set(VideoFacts._fields)
_TEXTS = ("id", "path", "label", "sha256", "codec", "status")


def _parquet() -> Any:
    try:
        return import_module("pyarrow.parquet")
    except ImportError as err:
        raise ImportError(
            "a passport in Parquet needs the package pyarrow; pip install 'vidgn[data]', or name it NAME.jsonl."
        ) from err


def _checked(record: Mapping[str, Any]) -> VideoFacts:
    for name in _TEXTS:
        text(record[name], name)
    for name in ("bytes", "mtime", "width", "height", "rotation", "frames_promised", "frames"):
        whole_number(record[name], name, -(1 << 40) if name == "rotation" else 0, 1 << 62)
    for name in ("fps", "duration"):
        finite_number(record[name], name)
    return VideoFacts(**record)


def _parquet_records(file: Path) -> list[dict[str, Any]]:
    """Read a table whose size is told before it is read, and whose texts are not repeated in memory.

    Raises:
        ValueError: it has too many rows or bytes, or too long a text.
    """
    parquet, compute = _parquet(), import_module("pyarrow.compute")
    facts = parquet.ParquetFile(file).metadata
    size = sum(facts.row_group(number).total_byte_size for number in range(facts.num_row_groups))
    if facts.num_rows > MAX_ROWS or size > MAX_PASSPORT:
        raise ValueError(f"it has {facts.num_rows:,} rows and {size:,} bytes; at most {MAX_ROWS:,} are read")
    names = [name for name in facts.schema.names if name in _TEXTS]
    table = parquet.ParquetFile(file, read_dictionary=names)
    records: list[dict[str, Any]] = []
    for batch in table.iter_batches(batch_size=10_000):
        for name in names:
            column = batch.column(name)
            values = getattr(column, "dictionary", column)
            longest = compute.max(compute.binary_length(values)).as_py() or 0
            if longest > MAX_TEXT:
                raise ValueError(f"it has {name} of {longest:,} characters")
        records += batch.to_pylist()
    return records


def _histogram(title: str, values: Iterator[str], *, rows: int = 8) -> list[str]:
    counts = Counter(values).most_common()
    if not counts:
        return []
    most, rest = counts[0][1], sum(count for _, count in counts[rows:])
    shown = [*counts[:rows], *([("others", rest)] if rest else [])]
    width = max(len(name) for name, _ in shown)
    return [title, *(f"  {name:>{width}s} {'#' * max(1, 40 * count // most)} {count:,}" for name, count in shown)]
