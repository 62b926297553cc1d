"""What each augmentation costs the loader: clips/s and CPU per clip, with one worker and with two.

    python benchmarks/augment.py [--rounds 3] [--json] [--only mixup,erasing] [--smoke]

32x2 clips of 224 px from the files of `benchmarks/data.py`, batches of 4, nothing done with them. `default` is the
loader of a job without augmentation, `off` the augmenting one with everything off, which no job uses. Every round runs
all ways in turn; printed are medians. CPU is that of all processes per clip, and it depends less on what else the
machine does than clips/s.
"""

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch
sys.path.insert(0, str(Path(__file__).parents[1]))  # a clone need not be installed

import loader as delivery
from files import machine, make_files

from vidgn.data.augment import AugmentSpec
from vidgn.data.augmented import AugmentedClips
from vidgn.data.batches import ClipBatch, MixingCollate
from vidgn.data.clips import ClipSpec
from vidgn.data.dataset import ClipDataset
from vidgn.data.loading.loader import VideoLoader
from vidgn.data.loading.sampler import EpochSampler
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.synthetic.motions import CLASSES, MotionsSpec, draw_video, write_video
from vidgn.data.transforms import CropSpec

# The usual strength of each (vidgn/data/augment/spec.py).
WAYS: Mapping[str, AugmentSpec | None] = {
    "default": None,
    "off": AugmentSpec(),
    "resized_crop": AugmentSpec(resized_crop=0.08),
    "color_jitter": AugmentSpec(color_jitter=0.4),
    "grayscale": AugmentSpec(grayscale=0.2),
    "lighting": AugmentSpec(lighting=0.1),
    "randaugment": AugmentSpec(randaugment=9),
    "trivialaugment": AugmentSpec(trivialaugment=True),
    "erasing": AugmentSpec(erasing=0.25),
    "speed_jitter": AugmentSpec(speed_jitter=0.25),
    "reverse": AugmentSpec(reverse=0.5),
    "mixup": AugmentSpec(mixup=0.8),
    "cutmix": AugmentSpec(cutmix=1),
    "videomix": AugmentSpec(videomix=1),
}


class Job(NamedTuple):
    """What is read: the files, how often an epoch has each, and the clips."""

    files: list[Path]
    repeats: int
    clip: ClipSpec
    crop: CropSpec


class Cost(NamedTuple):
    """One epoch of one way."""

    clips_per_second: float
    cpu_ms_per_clip: float


def main(words: list[str] | None = None) -> None:
    """Measure and print a table; with --json the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", default=os.environ.get("VIDGN_TEST_VIDEOS"), help="folder with clips/ (optional)")
    parser.add_argument("--cache", default=str(Path(tempfile.gettempdir()) / "vidgn_bench_data"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="names, separated by commas; default and off are always measured")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, last")
    parser.add_argument("--smoke", action="store_true", help="drawn videos, small clips: the path, not the speed")
    given = parser.parse_args(words)
    names = list(WAYS) if not given.only else ["default", "off", *given.only.split(",")]
    unknown = [name for name in names if name not in WAYS]
    if unknown:
        raise SystemExit(f"--only ({', '.join(unknown)}) must be some of {', '.join(WAYS)}.")
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        if given.smoke:
            job = Job(drawn_files(Path(folder)), 2, ClipSpec(8, 8), CropSpec(32))
        else:
            job = Job(make_files(Path(given.cache), sources=given.videos, count=4), 6, ClipSpec(), CropSpec())
        costs = measure(job, names, rounds=given.rounds)
    print_table(costs)
    if given.json:
        print(json.dumps(summary(costs, rounds=given.rounds)))


def measure(job: Job, names: list[str], *, rounds: int) -> dict[tuple[str, int], Cost]:
    """Return the medians of the rounds, by name and number of workers."""
    runs: dict[tuple[str, int], list[Cost]] = {(name, workers): [] for name in names for workers in (1, 2)}
    for _ in range(rounds):
        for (name, workers), costs in runs.items():
            costs.append(run(job, WAYS[name], workers=workers))
    return {way: Cost(*map(statistics.median, zip(*costs, strict=True))) for way, costs in runs.items()}


def run(job: Job, augment: AugmentSpec | None, *, workers: int) -> Cost:
    """Read an epoch, as `vidgn.data.module` does with these augmentations."""
    manifest = Manifest.from_rows([(file.name, 0) for file in job.files], root=job.files[0].parent, classes=["x"])
    options: dict[str, Any] = {"clip": job.clip, "crop": job.crop, "seed": 0, "flip": True, "stream": "train"}
    rows = manifest.select(list(range(len(job.files))) * job.repeats)
    data = ClipDataset(rows, **options) if augment is None else AugmentedClips(rows, augment=augment, **options)
    mixes = augment is not None and augment.mixes
    sampler = EpochSampler(len(data), batch=4, seed=0, shuffle=True, pairs=mixes)
    collate = MixingCollate(augment, 2) if augment is not None and mixes else ClipBatch.collate
    gc.collect()  # ends the processes of the way before
    loader = VideoLoader(data, batch_sampler=sampler, collate_fn=collate, num_workers=workers, persistent_workers=True)
    batches = iter(loader)
    next(batches)  # the start of the workers is not counted
    began, cpu = time.perf_counter(), delivery.cpu_seconds()
    count = sum(len(batch) for batch in batches)
    seconds, used = time.perf_counter() - began, delivery.cpu_seconds() - cpu
    return Cost(count / seconds, 1e3 * used / count)


def print_table(costs: Mapping[tuple[str, int], Cost]) -> None:
    """Print clips/s and CPU per clip beside what the default loader takes."""
    heads = ("1 worker: clips/s", "CPU ms/clip", "2: clips/s", "CPU ms/clip", "more than default")
    print(" " * 16 + "".join(f"{head:>20}" for head in heads))
    for name in dict.fromkeys(name for name, _ in costs):
        one, two = costs[name, 1], costs[name, 2]
        more = one.cpu_ms_per_clip - costs["default", 1].cpu_ms_per_clip
        print(f"{name:16}" + "".join(f"{value:20.1f}" for value in (*one, *two)) + f"{more:+17.1f} ms")


def summary(costs: Mapping[tuple[str, int], Cost], *, rounds: int) -> dict[str, Any]:
    """Return everything as plain values, with each way's speed beside the default's."""
    names = list(dict.fromkeys(name for name, _ in costs))
    return {
        "machine": machine(),
        "rounds": rounds,
        **{
            field: {
                name: {str(count): round(getattr(costs[name, count], field), 2) for count in (1, 2)} for name in names
            }
            for field in Cost._fields
        },
        "vs_default": {
            name: round(costs[name, 1].clips_per_second / costs["default", 1].clips_per_second, 3) for name in names
        },
    }


def drawn_files(folder: Path) -> list[Path]:
    """Draw four small videos."""
    for number in range(4):
        write_video(
            folder / f"{number}.mp4",
            draw_video(CLASSES[number], spec=MotionsSpec(num_frames=16, side=64), key=(0, number)),
        )
    return sorted(folder.iterdir())


if __name__ == "__main__":
    main()
