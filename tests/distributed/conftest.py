"""Runs on several ranks of this machine, over gloo."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DRAWN = ("data.train=2", "data.val=1", "data.test=1")
TINY = (
    "data.num_workers=0", "epochs=1", "num_clips=1", "num_crops=1",
    "model.width=8", "model.dropout=0", "crop=32", "clip_len=8", "span=16", "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1", "save_every_steps=1", "test=false",
)  # fmt: skip


class Ran(NamedTuple):
    """What became of the ranks of a run."""

    statuses: list[int]
    says: list[str]  # by each rank
    steps: list[list[dict[str, Any]]]  # of each rank: epoch, videos, loss, rate, weights held

    def order(self) -> list[int]:
        """The videos of all steps in the order of the job: ranks take turns within a step."""
        return [
            videos[place]
            for step in zip(*self.steps, strict=True)
            for place in range(max(len(rank["videos"]) for rank in step))
            for videos in (rank["videos"] for rank in step)
            if place < len(videos)
        ]

    def losses(self) -> list[float]:
        """The loss of every step over all ranks, which have batches of one size."""
        return [sum(rank["loss"] for rank in step) / len(step) for step in zip(*self.steps, strict=True)]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def nursery(cache: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "VIDGN_CACHE": str(cache)}
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("nursery.py"))],
        cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()  # not by the end of its stdin alone: what other tests forked may still hold the other end


@pytest.fixture(scope="session")
def ranks(nursery: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ran]:
    """Train on several ranks: `ranks(2, folder, *words, at_step={1: (2, "SIGKILL")})`."""

    def run(
        count: int,
        folder: Path,
        *words: str,
        strategy: str = "ddp",
        at_step: dict[int, tuple[int, str]] | None = None,
        environment: dict[str, str] | None = None,
        limit: float = 250,
    ) -> Ran:
        log = tmp_path_factory.mktemp("ranks") / "log"
        several = (f"trainer.strategy={strategy}", f"trainer.devices={count}") if count > 1 else ()
        drawn = () if any(word.startswith("data=") for word in words) else DRAWN
        request = {
            "words": [*drawn, *TINY, *several, *words, f"hydra.run.dir={folder}"],
            "ranks": count, "log": str(log), "at_step": at_step or {}, "limit": limit,
            "environment": environment or {},
        }  # fmt: skip
        nursery.stdin.write(json.dumps(request) + "\n")
        nursery.stdin.flush()
        statuses = json.loads(nursery.stdout.readline())
        files = [Path(f"{log}.rank{rank}.jsonl") for rank in range(count)]
        return Ran(
            statuses,
            [Path(f"{log}.rank{rank}.txt").read_text() for rank in range(count)],
            [[json.loads(line) for line in file.read_text().splitlines()] if file.exists() else [] for file in files],
        )

    return run
