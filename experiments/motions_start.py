"""Does `init=motions` help on a small set of other videos? The rule for own videos without image weights rests on it.

    python -m experiments.motions_start --folder DIR       about a minute per run on two cores; done runs are kept

Settings, written down before the comparison:

    balls      six classes that are none of the twelve motions: discs on a noisy ground that fall, bounce, meet, part,
               blink or change their colour
    videos     10 for training, 4 for validation, 15 for the test, per class; 48 frames of 80 px
    net        i3d_r50 of width 16, group norm, standardized kernels (the net of `init=motions`)
    clips      16 frames of 32, crop 64, 8 per step, 30 epochs; test: 2 clips
    start      random weights with optim=scratch, `init=motions` with optim=finetune: the default of each
    seeds      0, 1, 2; the videos of a set are the same for all
    choice     the rule takes `init=motions` if its mean over the seeds is the larger one

A second set, other movements of the shapes of the motions, was planned and not run.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.convert import processor_name
from experiments.grid import write_json
from experiments.videos import write_missing

RESULTS = Path(__file__).parent / "results" / "motions-start.json"
STARTS = {"random": ("model.width=16",), "motions": ("init=motions",)}
SEEDS = (0, 1, 2)
COUNTS = {"train": 10, "val": 4, "test": 15}
FRAMES, SIDE = 48, 80
OPTIONS = (
    "data=folder", "choose=off", "norm=gn", "clip_len=16", "span=32", "crop=64", "batch=8", "epochs=30", "num_clips=2",
    "num_crops=1", "data.num_workers=1", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "logger=none",
)  # fmt: skip
BALLS = ("blink", "bounce", "change_colour", "fall", "meet", "part")


def main(options: Sequence[str] | None = None) -> None:
    """Draw the sets, train the missing runs, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for videos and runs")
    folder = parser.parse_args(options).folder
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"top1": {}}
    root = draw_set(folder / "balls", BALLS)
    for seed in SEEDS:
        for start, overrides in STARTS.items():
            key = f"balls/{start}/{seed}"
            if key not in results["top1"]:
                run = folder / f"run-balls-{start}-{seed}"
                results["top1"][key] = train(run, [f"data.root={root}", *overrides], seed)
                results |= about()
                write_json(RESULTS, results)
    print(table(results["top1"]))


def train(run: Path, overrides: Sequence[str], seed: int) -> float:
    """Train one run and return its top-1 on the test videos, in percent."""
    command = [sys.executable, "-m", "vidgn", "train", *OPTIONS, *overrides, f"seed={seed}", f"hydra.run.dir={run}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return float(json.loads((run / "metrics.json").read_text())["video_top1"])


def table(top1: dict[str, float]) -> str:
    """Return mean and single values by set and start."""
    lines = ["| set | start | top-1, mean | seeds |", "|---|---|---|---|"]
    for start in STARTS:
        values = [top1[key] for seed in SEEDS if (key := f"balls/{start}/{seed}") in top1]
        lines.append(f"| balls | {start} | {mean(values):.1f} | {', '.join(f'{value:.1f}' for value in values)} |")
    return "\n".join(lines)


def about() -> dict[str, Any]:
    """Return how the numbers came about."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"options": OPTIONS, "starts": STARTS, "videos": COUNTS, "versions": versions, "processor": processor_name(),
            "threads": os.environ.get("OMP_NUM_THREADS", "all")}  # fmt: skip


def draw_set(root: Path, classes: Sequence[str]) -> Path:
    """Write the videos as ROOT/SPLIT/CLASS/NUMBER.mp4."""
    for part, (split, count) in enumerate(COUNTS.items()):
        for label, name in enumerate(classes):
            for number in range(count):
                rng = np.random.Generator(np.random.Philox(key=[7, label], counter=[0, part, number, 0]))
                write_missing(root / split / name / f"{number:03d}.mp4", partial(draw_balls, name, rng))
    return root


def draw_balls(name: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a video of `balls`: two discs on a noisy ground."""
    time, phase = np.arange(FRAMES) / 24, rng.random()
    ground = rng.integers(60, 130, (SIDE, SIDE, 1)) + np.zeros((1, 1, 3), np.int64)
    colours = rng.integers(130, 256, (2, 3))
    radius = rng.uniform(0.07, 0.12)
    centres = rng.uniform(0.2, 0.8, (2, 2))[:, None] + np.zeros((2, FRAMES, 2))  # (disc, frame, xy)
    turn = (rng.uniform(0.6, 1.2) * time + phase) % 1
    if name == "fall":
        centres[:, :, 1] = np.stack([turn, (turn + 0.4) % 1]) ** 2 * 1.2 - 0.1
    elif name == "bounce":
        centres[:, :, 1] = 0.85 - 0.6 * np.abs(np.sin(np.pi * np.stack([turn, turn + 0.3])))
    elif name in ("meet", "part"):
        apart = 0.35 * (1 - turn if name == "meet" else turn)
        centres[:, :, 0] = 0.5 + np.stack([-apart, apart])
    seen = np.sin(2 * np.pi * 2 * turn) > 0 if name == "blink" else np.ones(FRAMES, bool)
    shift = np.rint(80 * np.sin(2 * np.pi * turn)).astype(int) if name == "change_colour" else np.zeros(FRAMES, int)
    grid = (np.arange(SIDE) + 0.5) / SIDE
    frames = np.repeat(ground[None], FRAMES, 0)
    for disc in range(2):
        for frame in np.flatnonzero(seen):
            x, y = centres[disc, frame]
            inside = (grid[None] - x) ** 2 + (grid[:, None] - y) ** 2 < radius**2
            frames[frame][inside] = np.clip(colours[disc] + shift[frame] * np.array([1, -1, 1]), 0, 255)
    return frames.astype(np.uint8)


if __name__ == "__main__":
    main()
