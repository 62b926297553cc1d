"""Run the comparison: `python -m experiments.table8`. What is done is not done again; stop it at any time.

A second process, started beside the first, takes other runs. Afterwards: `python -m experiments.tables`.
"""

import argparse
import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from experiments.grid import (
    GROUPS,
    RELATIVES,
    RESULTS,
    TABLE8,
    Job,
    digest,
    jobs,
    read_results,
    read_starts,
    write_json,
)
from experiments.run import Course, train
from experiments.settings import SETTING, Setting
from experiments.start import splits, start_weights
from experiments.videos import VideoSpec
from vidgn.runs.environment import versions

SPAN = 64  # raw frames of every clip
TEST_SEED = 20_000  # of the validation and test videos, the same for every run; training videos are a seed's own


def main(words: list[str] | None = None) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="runs per cell")
    parser.add_argument("--smoke", action="store_true", help="the whole path on a tiny grid, in a folder of its own")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the runs' numbers")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="videos and starting weights")
    given = parser.parse_args(words)
    if given.smoke:
        with tempfile.TemporaryDirectory() as folder:
            print(smoke(Path(folder)))
        return
    run_grid(list(jobs(given.seeds)), setting=SETTING, results=given.results, cache=given.cache)


def run_grid(todo: list[Job], *, setting: Setting, results: Path, cache: Path) -> None:
    """Run what has no result yet and what no other process is at.

    Raises:
        ValueError: the folder has results of another setting.
    """
    torch.set_num_threads(1)  # a run is the same on every machine, and two processes use two cores
    mark = digest(setting)
    _check_marks(results, mark)
    for job in todo:
        if job.path(results).exists():
            continue
        with claimed(cache / "claims" / f"{mark}-{job.cell.name}-{job.seed}") as mine:
            if mine and not job.path(results).exists():
                numbers = run_job(job, setting=setting, mark=mark, results=results, cache=cache)
                write_json(job.path(results), {"setting": mark, "versions": main_versions(), **numbers})
                print(f"{job.cell.name} seed {job.seed}: {numbers['test']}, {numbers['cpu_seconds']} s", flush=True)


def run_job(job: Job, *, setting: Setting, mark: str, results: Path, cache: Path) -> dict[str, Any]:
    """Run one cell with one seed, which draws the training videos, their order, the clips and the classifier."""
    with claimed(cache / "claims" / f"{mark}-data", wait=True):
        weights = start_weights(job.cell, setting=setting, mark=mark, cache=cache, results=results)
        data = splits(setting.videos, seed=job.seed, shared_seed=TEST_SEED, cache=cache)
    course = Course(setting.epochs, setting.optim, (SPAN,), setting.test_clips)
    _, numbers = train(
        job.cell, setting=setting, course=course, data=data, classes=setting.videos.classes, seed=job.seed,
        weights=weights,
    )  # fmt: skip
    return numbers


def smoke(folder: Path) -> str:
    """Run the whole path, tables and pictures included, on eight videos per class; return the tables."""
    from experiments.pictures import draw_all
    from experiments.tables import render

    run_grid(smoke_jobs(), setting=smoke_setting(), results=folder / "results", cache=folder / "cache")
    results = read_results(folder / "results")
    draw_all(results, folder=folder / "figures")
    return render(results, read_starts(folder / "results"))


def smoke_setting() -> Setting:
    """Return a setting of two classes, two devices and one epoch, which teaches nothing."""
    videos = VideoSpec(classes=("move_left", "shiver_slowly_vertically"), train=8, val=2, test=2)
    return replace(
        SETTING, videos=videos, source=videos, devices=2, epochs=1, ancestor_epochs=1, family_epochs=1, test_clips=1,
        precise_batches=1,
    )  # fmt: skip


def smoke_jobs() -> list[Job]:
    """Return two seeds of the cells with 4 clips, and one of every relative."""
    cells = [cell for cell in (*TABLE8, *RELATIVES, GROUPS[-1]) if cell.batch == 4]
    return [Job(cell, seed) for cell in cells for seed in range(2 if cell.layer in ("bn", "gn") else 1)]


def default_cache() -> Path:
    """Return where videos and starting weights are kept."""
    return Path(os.environ.get("VIDGN_CACHE", Path.home() / ".cache" / "vidgn")) / "experiments"


def _check_marks(results: Path, mark: str) -> None:
    others = {run["setting"] for run in read_results(results)} - {mark}
    if others:
        raise ValueError(
            f"{results} has runs of another setting ({', '.join(sorted(others))}; this one is {mark}); give "
            "--results another folder"
        )


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
    found = versions()
    return {name: found[name] for name in ("python", "vidgn", "torch", "lightning", "numpy")}


if __name__ == "__main__":
    main(sys.argv[1:])
