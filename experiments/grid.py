"""A grid of runs: one file of numbers for each, written once, by one of the processes that work on the grid."""

import argparse
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from vidgn.runs.environment import versions

RESULTS = Path(__file__).parent / "results"


class Named(Protocol):
    """A cell of a grid: what all its seeds share."""

    @property
    def name(self) -> str:
        """As files and tables have it."""
        ...


CellT = TypeVar("CellT", bound=Named)


@dataclass(frozen=True)
class Job(Generic[CellT]):
    """One run: a cell and a seed."""

    cell: CellT
    seed: int

    def path(self, folder: Path) -> Path:
        """Return the file of its numbers."""
        return folder / f"{self.cell.name}_s{self.seed}.json"


def grid_options(
    arguments: list[str] | None, *, about: str | None, seeds: int, results: Path, cached: str
) -> argparse.Namespace:
    """Read the command line of a grid: seeds, smoke, results, cache.

    Args:
        arguments: the command line; None: the process's own.
        about: the module's docstring, whose first line the help shows.
        seeds: the default number of runs per cell.
        results: the default folder of the numbers.
        cached: what the cache keeps.
    """
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=seeds, help="runs per cell")
    parser.add_argument("--smoke", action="store_true", help="the whole path on a tiny grid, in a folder of its own")
    parser.add_argument("--results", type=Path, default=results, help="folder of the runs' numbers")
    parser.add_argument("--cache", type=Path, default=default_cache(), help=cached)
    return parser.parse_args(arguments)


def results_parser(doc: str | None, results: Path) -> argparse.ArgumentParser:
    """Return the options of a comparison that can show what it has: `--results`, `--table` and `--picture`.

    Args:
        doc: docstring of the program, whose first line describes it.
        results: default folder of the numbers.
    """
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, default=results, help="folder of the runs' numbers")
    parser.add_argument("--table", action="store_true", help="print the results so far")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw the results so far")
    return parser


def default_cache() -> Path:
    """Return where videos, pictures and starting weights are kept."""
    return Path(os.environ.get("VIDGN_CACHE", Path.home() / ".cache" / "vidgn")) / "experiments"


def run_once(path: Path, work: Callable[[], dict[str, Any]], *, claim: Path) -> dict[str, Any] | None:
    """Write the file of a run unless it is there or another process is at it.

    Args:
        path: the file.
        work: does the run and returns its numbers.
        claim: a file that says which process is at it.

    Returns:
        What was written with the versions, or None if nothing was.
    """
    if path.exists():
        return None
    with claimed(claim) as mine:
        if not mine or path.exists():
            return None
        content = {**work(), "versions": main_versions()}
        write_json(path, content)
    return content


@contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Tell whether this process may do a piece of work; the claim ends with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def main_versions() -> dict[str, str]:
    """Return the versions that decide a run of the experiments."""
    every = versions()
    return {name: every[name] for name in ("python", "vidgn", "torch", "lightning", "numpy")}


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Read all runs of a folder, by cell and seed."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*_s*.json"))]


def read_starts(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the numbers of the starting weights, by name: `ancestor`, `sync_bn`, `gn`, ..."""
    return {path.stem.split("-", 2)[2]: json.loads(path.read_text()) for path in sorted(folder.glob("start-*.json"))}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file that appears only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(part, path)
