"""Batch norm to group norm on the twelve drawn motions: calibrated without training, then distilled, by seed.

One batch-norm net per seed is trained by the command line and kept; it is converted by each of `STARTS`, and what
`DISTILLED` names is distilled for 120 steps of 8 clips. Every net is tested on one clip of each of the 240 test videos.
A step that has a result is not repeated, and a training that was interrupted resumes.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vidgn.checkpoints.checkpoint import read_checkpoint

STEPS = 120  # of the distillation
TRAINED = 720  # steps of the batch-norm net: 4 epochs of 180
TRAIN = ("norm=bn", "optim.lr=0.48", "test=false", "trainer.enable_progress_bar=false")
TEST = ("num_clips=1", "num_crops=1", "trainer.enable_progress_bar=false")
# Options of `vidgn convert-weights`; calibrated on 96 training clips.
STARTS: Mapping[str, Sequence[str]] = {
    "gn": ("--norm", "gn"),
    "gn, scales and input scales": ("--norm", "gn", "--scales", "fit", "--kernels", "scale"),
    "ln, scales and input scales": ("--norm", "ln", "--scales", "fit", "--kernels", "scale"),
}
DISTILLED = ("gn",)


def run_motions(*, seeds: Sequence[int], work: Path, results: Path) -> None:
    """Train, convert, distill and test; the results of a seed are in `convert-motions-sSEED.json`."""
    for seed in seeds:
        file = results / f"convert-motions-s{seed}.json"
        rows = _Rows(file)
        teacher = _train_teacher(seed, work=work)
        rows.fill("bn", partial(_score, teacher, work=work))
        for name, options in STARTS.items():
            mark = "".join(letter if letter.isalnum() else "-" for letter in name)
            rows.fill(name, partial(_convert, teacher, work / f"{mark}-s{seed}.ckpt", options, work=work))
            if name in DISTILLED:
                out = work / f"{mark}-distilled-s{seed}.ckpt"
                distilled = (*options, "--distill", str(STEPS))
                rows.fill(f"{name}, distilled", partial(_convert, teacher, out, distilled, work=work))


class _Rows:
    """The results of one seed, kept in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}

    def fill(self, name: str, make: Callable[[], dict[str, Any]]) -> None:
        """Make and write a row that is not there yet."""
        if name in self.rows:
            return
        self.rows |= {name: make(), "torch": torch.__version__, "command": "python -m experiments.convert motions"}
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(self.rows, indent=1) + "\n")
        os.replace(part, self.file)
        print(self.file.stem, name, self.rows[name].get("top1"), flush=True)


def _train_teacher(seed: int, *, work: Path) -> Path:
    run = work / f"bn-s{seed}"
    last = run / "checkpoints" / "last.ckpt"
    if not last.is_file() or read_checkpoint(last).step < TRAINED:
        _vidgn("train", "data=motions", *_data(work), *TRAIN, f"seed={seed}", f"hydra.run.dir={run}")
    return last


def _convert(teacher: Path, out: Path, options: Sequence[str], *, work: Path) -> dict[str, Any]:
    text = _vidgn("convert-weights", str(teacher), *options, "--out", str(out), "--overwrite")
    agreement = [line for line in text.splitlines() if line.startswith("top-1 is")]
    return {**_score(out, work=work), "agreement": agreement, "options": list(options)}


def _score(checkpoint: Path, *, work: Path) -> dict[str, Any]:
    folder = work / f"test-{checkpoint.parent.parent.name if checkpoint.stem == 'last' else checkpoint.stem}"
    _vidgn("eval", f"ckpt={checkpoint}", "data=motions", *_data(work), *TEST, f"hydra.run.dir={folder}")
    metrics = json.loads((folder / "metrics.json").read_text())
    return {"top1": metrics["video_top1"], "videos": metrics["videos_scored"]}


def _data(work: Path) -> tuple[str, ...]:
    return (f"data.root={work / 'cache'}", "data.num_workers=0")


def _vidgn(*options: str) -> str:
    """Run the command line.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run([sys.executable, "-m", "vidgn", *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"vidgn {' '.join(options)} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}"
        )
    return done.stdout
