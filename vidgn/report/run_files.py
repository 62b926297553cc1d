"""The files of a run folder as plain values: each has a largest size, and a mistake in one is a sentence about it."""

import csv
import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from vidgn.files.bounds import finite_number, mapping, plain_values, text, whole_number
from vidgn.runs.command_line import parse_config

MAX_CONFIG = 200_000  # bytes of config.yaml; those of a run have about 5,000
MAX_METRICS = 50_000_000  # bytes of metrics.json, which names failed videos
MAX_TABLE = 60_000_000  # bytes of a table: a test of 200,000 videos, a million logged steps
_PERCENTS = ("video_top1", "video_top5", "clip_top1")
_COUNTS = ("videos_scored", "videos_expected")


def read_config(file: Path) -> dict[str, Any]:
    """Read the options of a run: no tag of YAML makes an object, no alias is followed, nothing is looked up.

    Raises:
        ValueError: it is too large, damaged, or lacks what a report needs.
    """
    try:
        content = _read(file, MAX_CONFIG)
        for token in yaml.scan(content):
            if isinstance(token, yaml.AliasToken | yaml.AnchorToken):
                raise ValueError(f"line {token.start_mark.line + 1} has an alias, which no run writes")
        options: dict[str, Any] = plain_values(parse_config(content), "it")
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as err:
        raise ValueError(
            f"{file} cannot be read as plain values ({_reason(err)}); give a run folder of train.py"
        ) from err
    lacking = [name for name in ("clip_len", "batch", "data", "norm") if name not in options]
    if lacking:
        raise ValueError(f"{file} does not say {', '.join(lacking)}; give a run folder of train.py")
    with _damaged(file):
        whole_number(options["clip_len"], "clip_len", 1, 1_000_000)
        whole_number(options["batch"], "batch", 1, 1_000_000)
        text(mapping(options["data"], "data").get("name"), "data.name", longest=100)
        norm = text(mapping(options["norm"], "norm").get("name"), "norm.name", longest=40)
        if not re.fullmatch(r"[\w.-]+", norm):
            raise ValueError("has a norm.name that no norm has")
        if options.get("log") is not None:
            layer = mapping(options["log"], "log").get("percentiles")
            text("" if layer is None else layer, "log.percentiles", longest=200)
    return options


def read_metrics(file: Path) -> dict[str, Any]:
    """Read the metrics of a test; an empty record where there are none.

    Raises:
        ValueError: the file is too large or damaged.
    """
    if not file.is_file():
        return {}
    with _damaged(file):
        metrics = dict(mapping(json.loads(_read(file, MAX_METRICS)), "it"))
        for name in _PERCENTS:
            if not 0 <= finite_number(metrics.get(name), name) <= 100:
                raise ValueError(f"has {name} that is not a percentage")
        for name in _COUNTS:
            whole_number(metrics.get(name), name, 0, 1 << 53)
        if metrics.get("trained_on") is not None:
            whole_number(metrics["trained_on"], "trained_on", 0, 1 << 53)
        text(metrics.get("protocol"), "protocol")
        return metrics


def read_run_table(file: Path, *, columns: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """Read a CSV with a header; no rows where there is no file.

    Raises:
        ValueError: the file is too large or damaged, or lacks a column.
    """
    if not file.is_file():
        return []
    with _damaged(file):
        _check_size(file, MAX_TABLE)
        with file.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            names = reader.fieldnames or ()
            lacking = [name for name in columns if name not in names]
            if lacking and names:
                raise ValueError(f"has no column {', '.join(lacking)}")
            return [{name: row[name] or "" for name in names} for row in reader]


def parsed(file: Path, parse: Callable[[], Any]) -> Any:
    """Return what `parse` makes of the rows of a file.

    Raises:
        ValueError: a cell is not what its column holds; the sentence names the file.
    """
    with _damaged(file):
        return parse()


def number(cell: str) -> float | None:
    """Return a number; None for one that is not finite, which no curve can show."""
    value = float(cell)
    return value if math.isfinite(value) and abs(value) < 1e30 else None


def position(cell: str) -> int:
    """Return the number of an epoch or step."""
    if len(cell) > 15:
        raise ValueError(f"has a step of {len(cell)} digits")
    return whole_number(int(cell), "a step", 0, 1 << 50)


@contextmanager
def _damaged(file: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, csv.Error, OSError) as err:
        raise ValueError(f"{file} is damaged ({_reason(err)}); give a run folder as the run left it") from err


def _read(file: Path, largest: int) -> str:
    _check_size(file, largest)
    return file.read_text(encoding="utf-8")


def _check_size(file: Path, largest: int) -> None:
    size = file.stat().st_size
    if size > largest:
        raise ValueError(f"it has {size:,} bytes; at most {largest:,} are read")


def _reason(err: BaseException) -> str:
    if isinstance(err, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if isinstance(err, KeyError):
        return f"it has no {str(err)[:60]}"
    if isinstance(err, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(err).split())[:200]
