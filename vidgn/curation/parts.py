"""Rows about many videos as Parquet parts in a folder or at any address of fsspec, made by one machine or a cluster.

    TARGET/job.json             what the parts belong to: videos, checkpoint, options
    TARGET/part-000000.parquet  the rows of the first videos, and so on

A part appears under its name only when it is whole, and its name follows from its videos. So a part that is there is
not made again after an interruption, and one that a cluster makes twice is there once.
"""

import hashlib
import io
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from vidgn.curation.pool import Engine, spread

Rows = list[dict[str, Any]]
_JOB = "job.json"


class PartJob(NamedTuple):
    """What makes the rows.

    Attributes:
        rows: of the names of some videos: a function or partial of a module, since it travels to other processes.
            Every row has `video` and `error`, None where there is none.
        columns: type of each column: `text`, `integer`, `number` or `numbers` (a list of float32).
        identity: options that change the rows.
    """

    rows: Callable[[Sequence[str]], Rows]
    columns: Mapping[str, str]
    identity: Mapping[str, Any]


class PartsReport(NamedTuple):
    """What is there in the end: videos, those with an error, parts, and parts that were there before."""

    videos: int
    failed: int
    parts: int
    kept: int


def make_parts(
    job: PartJob, names: Sequence[str], target: str, *, part_size: int = 256, workers: int = 0,
    engine: Engine = "ray", progress: Callable[[int, int], None] | None = None,
) -> PartsReport:  # fmt: skip
    """Make the parts that are not there yet.

    Args:
        job: what makes the rows.
        names: of the videos, in the order of the parts.
        target: a folder, or an address such as s3://bucket/folder.
        part_size: videos per part.
        workers: parts at a time; 0: one per core of the cluster.
        engine: as for `vidgn.curation.pool.spread`.
        progress: called with (videos done, videos in all).

    Raises:
        ValueError: the target holds parts of another job, or `part_size` is below 1.
        ImportError: pyarrow, fsspec or ray is not installed.
    """
    if part_size < 1:
        raise ValueError(f"--part-size ({part_size}) must be at least 1 video; 256 is the default.")
    if "://" not in target:
        target = str(Path(target).expanduser().resolve())  # other processes may stand in other folders
    elif set(target) & set("*?["):
        raise ValueError(f"--out {target} must be one address without *, ? and [; use another folder.")
    pieces = [
        (number, tuple(names[start : start + part_size]))
        for number, start in enumerate(range(0, len(names), part_size))
    ]
    _claim(target, {**job.identity, "part_size": part_size, "videos": len(names), "names": _digest(names)})
    there = _existing(target)
    counts = [_count(target, number) for number, _ in pieces if number in there]
    kept = len(counts)
    todo = [piece for piece in pieces if piece[0] not in there]
    made = partial(_make_part, job, target)
    for count in spread(made, todo, workers=workers or (1 if engine == "local" else 0), engine=engine):
        counts.append(count)
        if progress is not None:
            progress(sum(videos for videos, _ in counts), len(names))
    videos, failed = (sum(values) for values in zip(*counts, strict=True)) if counts else (0, 0)
    if videos != len(names):
        raise RuntimeError(f"{target} holds the rows of {videos} videos for {len(names)}; delete it and start again.")
    return PartsReport(videos, failed, len(pieces), kept)


def read_parts(target: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of all parts in the order of the videos."""
    if "://" not in target:
        target = str(Path(target).expanduser().resolve())
    for number in sorted(_existing(target)):
        yield from _read(target, number, columns=columns).to_pylist()


def _make_part(job: PartJob, target: str, piece: tuple[int, tuple[str, ...]]) -> tuple[int, int]:
    """Make one part; return its number of videos and how many have an error."""
    number, names = piece
    rows = job.rows(names)
    if list(dict.fromkeys(row["video"] for row in rows)) != list(names):
        raise RuntimeError(f"part {number} has other videos than it was given.")
    arrow: Any = import_module("pyarrow")
    kinds = {
        "text": arrow.string(), "integer": arrow.int64(), "number": arrow.float64(),
        "numbers": arrow.list_(arrow.float32()),
    }  # fmt: skip
    schema = arrow.schema([(name, kinds[kind]) for name, kind in job.columns.items()])
    buffer = io.BytesIO()
    _parquet().write_table(arrow.Table.from_pylist(rows, schema=schema), buffer)
    _write(target, _part_name(number), buffer.getvalue())
    return len(names), len({row["video"] for row in rows if row["error"] is not None})


def _claim(target: str, identity: Mapping[str, Any]) -> None:
    """Write what the parts belong to, or compare it with what is there."""
    system, path = _system(target)
    plain = json.loads(json.dumps(identity))
    if not system.exists(f"{path}/{_JOB}"):
        system.makedirs(path, exist_ok=True)
        _write(target, _JOB, json.dumps(plain, indent=1).encode())
        return
    there = json.loads(system.cat_file(f"{path}/{_JOB}"))
    other = sorted(key for key in {**there, **plain} if there.get(key) != plain.get(key))
    if other:
        raise ValueError(
            f"--out {target} holds the parts of another job ({', '.join(other)} differ); use the same options, or an"
            " empty folder."
        )


def _existing(target: str) -> set[int]:
    system, path = _system(target)
    system.invalidate_cache()
    names = [str(name).rpartition("/")[2] for name in system.ls(path, detail=False)]
    return {int(name[5:-8]) for name in names if name.startswith("part-") and name.endswith(".parquet")}


def _count(target: str, number: int) -> tuple[int, int]:
    rows = _read(target, number, columns=["video", "error"]).to_pylist()
    return len({row["video"] for row in rows}), len({row["video"] for row in rows if row["error"] is not None})


def _read(target: str, number: int, *, columns: Sequence[str] | None) -> Any:
    system, path = _system(target)
    with system.open(f"{path}/{_part_name(number)}", "rb") as file:
        return _parquet().read_table(file, columns=None if columns is None else list(columns))


def _write(target: str, name: str, content: bytes) -> None:
    """Write a file that appears under its name when it is whole; readers of Parquet pass over a hidden rest."""
    system, path = _system(target)
    draft = f"{path}/.{name}.{uuid.uuid4().hex}"
    with system.open(draft, "wb") as file:
        file.write(content)
    system.mv(draft, f"{path}/{name}")


def _part_name(number: int) -> str:
    return f"part-{number:06d}.parquet"


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _parquet() -> Any:
    try:
        return import_module("pyarrow.parquet")
    except ImportError as err:
        raise ImportError("parts in Parquet need the package pyarrow; pip install 'vidgn[data]'.") from err


def _system(target: str) -> tuple[Any, str]:
    try:
        core: Any = import_module("fsspec.core")
        system, path = core.url_to_fs(target)
    except ImportError as err:
        raise ImportError(f"--out {target} needs fsspec and its store ({err}); pip install 'vidgn[remote]'.") from err
    return system, path.rstrip("/")
