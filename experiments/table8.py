"""Run the comparison: `python -m experiments.table8`. What is done is not done again; stop it at any time.

A second process, started beside the first, takes other runs. Afterwards: `python -m experiments.tables`.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiments.grid import RESULTS, Job, claimed, grid_options, read_results, read_starts, run_once
from experiments.run import Cell, Course, train
from experiments.settings import SETTING, Setting, digest
from experiments.start import splits, start_weights
from experiments.videos import VideoSpec

SPAN = 64  # raw frames of every clip
TEST_SEED = 20_000  # of the validation and test videos, the same for every run; training videos are a seed's own


TABLE8 = tuple(Cell(norm, clip_len, batch) for clip_len, batch in ((32, 8), (32, 4), (64, 4)) for norm in ("bn", "gn"))
SMALLER = (Cell("bn", 32, 2), Cell("gn", 32, 2))  # Table 2's column of the smallest batch
RELATIVES = (
    Cell("sync_bn", 32, 2),
    Cell("batch_renorm", 32, 2),
    Cell("frozen_bn", 32, 2),
    Cell("sync_bn", 32, 4),
    Cell("batch_renorm", 32, 4),
    Cell("frozen_bn", 32, 4),
    Cell("ln", 32, 4),
    Cell("in", 32, 4),
)
# Table 3; G = 4 and the ends (ln: one group, in: one channel) are among the cells above.
GROUPS = (
    *(Cell("gn", 32, 4, num_groups=groups) for groups in (8, 2)),
    *(Cell("gn", 32, 4, channels=channels) for channels in (8, 4, 2)),
)


def main(arguments: list[str] | None = None) -> None:
    """Do what the command line says."""
    given = grid_options(
        arguments, about=__doc__, seeds=5, results=RESULTS, cached="videos and starting weights"
    )  # fmt: skip
    if given.smoke:
        with tempfile.TemporaryDirectory() as folder:
            print(smoke(Path(folder)))
        return
    run_grid(list(jobs(given.seeds)), setting=SETTING, results=given.results, cache=given.cache)


def jobs(seeds: int) -> Iterator[Job[Cell]]:
    """Yield all runs: for each seed the cells of Table 8 and the smaller batch, then all relatives, then the groups."""
    for cells in ((*TABLE8, *SMALLER), RELATIVES, GROUPS):
        for seed in range(seeds):
            for cell in cells:
                yield Job(cell, seed)


def run_grid(todo: list[Job[Cell]], *, setting: Setting, results: Path, cache: Path) -> None:
    """Run what has no result yet and what no other process is at.

    Raises:
        ValueError: the folder has results of another setting.
    """
    torch.set_num_threads(1)  # a run is the same on every machine, and two processes use two cores
    mark = digest(setting)
    _check_marks(results, mark)
    for job in todo:
        work = partial(run_job, job, setting=setting, mark=mark, results=results, cache=cache)
        claim = cache / "claims" / f"{mark}-{job.cell.name}-{job.seed}"
        if numbers := run_once(job.path(results), work, claim=claim):
            print(f"{job.cell.name} seed {job.seed}: {numbers['test']}, {numbers['cpu_seconds']} s", flush=True)


def run_job(job: Job[Cell], *, setting: Setting, mark: str, results: Path, cache: Path) -> dict[str, Any]:
    """Run one cell with one seed, which draws the training videos, their order, the clips and the classifier."""
    with claimed(cache / "claims" / f"{mark}-data", wait=True):
        weights = start_weights(job.cell, setting=setting, mark=mark, cache=cache, results=results)
        data = splits(setting.videos, seed=job.seed, shared_seed=TEST_SEED, cache=cache)
    course = Course(setting.epochs, setting.optim, (SPAN,), setting.test_clips)
    _, numbers = train(
        job.cell, setting=setting, course=course, data=data, classes=setting.videos.classes, seed=job.seed,
        weights=weights,
    )  # fmt: skip
    return {"setting": mark, **numbers}


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


def smoke_jobs() -> list[Job[Cell]]:
    """Return two seeds of the cells with 4 clips, and one of every relative."""
    cells = [cell for cell in (*TABLE8, *RELATIVES, GROUPS[-1]) if cell.batch == 4]
    return [Job(cell, seed) for cell in cells for seed in range(2 if cell.layer in ("bn", "gn") else 1)]


def _check_marks(results: Path, mark: str) -> None:
    others = {run["setting"] for run in read_results(results)} - {mark}
    if others:
        raise ValueError(
            f"{results} has runs of another setting ({', '.join(sorted(others))}; this one is {mark}); give "
            "--results another folder"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
