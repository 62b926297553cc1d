"""What a training loop gets: clips/s, CPU, time to the first batch and bytes between processes, by number of workers.

    python benchmarks/loader.py [--rounds 3]       # `benchmarks/data.py` prints the same for its files

32x2 clips of 224 px from the raw files of `benchmarks/data.py`, batches of 4, nothing done with them. `in place`: each
process reads by itself, without a deadline; otherwise in a helper that can be killed. CPU is that of all processes per
clip, wall time that of the machine with whatever else it does. Rounds are interleaved; printed are medians.
"""

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch
sys.path.insert(0, str(Path(__file__).parents[1]))  # a clone need not be installed

from vidgn.callbacks.process_memory import descendants
from vidgn.data.batches import ClipBatch
from vidgn.data.clips import ClipSpec
from vidgn.data.dataset import ClipDataset
from vidgn.data.loading.loader import VideoLoader
from vidgn.data.loading.sampler import EpochSampler
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.transforms import CropSpec

WAYS = ((0, None), (0, 30.0), (1, None), (1, 30.0), (2, None), (2, 30.0))  # workers, deadline (seconds)
REPEATS = 6  # of each file in an epoch
_TICK = os.sysconf("SC_CLK_TCK")


class Delivered(NamedTuple):
    """One epoch of one way."""

    clips_per_second: float
    cpu_ms_per_clip: float
    first_seconds: float
    bytes_per_clip: int


def main() -> None:
    from files import machine, make_files

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", default=os.environ.get("VIDGN_TEST_VIDEOS"), help="folder with clips/ (optional)")
    parser.add_argument("--cache", default=str(Path(tempfile.gettempdir()) / "vidgn_bench_data"))
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(machine())
    delivered(make_files(Path(given.cache), sources=given.videos, count=4), rounds=given.rounds)


def delivered(files: list[Path], *, rounds: int) -> None:
    """Measure every way in each round, and print the medians."""
    found: dict[tuple[int, float | None], list[Delivered]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, runs in found.items():
            runs.append(run(files, workers=way[0], deadline=way[1]))
    print("\nloader, raw (a)      clips/s   CPU ms/clip   first batch   through shared memory, per clip")
    for (workers, deadline), runs in found.items():
        middle = Delivered(*(statistics.median(values) for values in zip(*runs, strict=True)))
        hops = ["helper to reader"] * (deadline is not None) + ["worker to loop"] * (workers > 0)
        way = f"{workers} workers{', in place' if deadline is None else ''}"
        speed = f"{middle.clips_per_second:6.1f} {middle.cpu_ms_per_clip:12.1f} {middle.first_seconds:11.2f} s"
        shared = (
            f"{len(hops) * middle.bytes_per_clip / 1e6:.1f} MB {'(' * bool(hops)}{', '.join(hops)}{')' * bool(hops)}"
        )
        print(f"  {way:20s} {speed}   {shared}")


def run(files: list[Path], *, workers: int, deadline: float | None) -> Delivered:
    """Read an epoch."""
    manifest = Manifest.from_rows([(file.name, 0) for file in files], root=files[0].parent, classes=["x"])
    data = ClipDataset(
        manifest.select(list(range(len(files))) * REPEATS), clip=ClipSpec(), crop=CropSpec(), seed=0, flip=True,
        stream="train", deadline_seconds=deadline,
    )  # fmt: skip
    sampler = EpochSampler(len(data), batch=4, seed=0, shuffle=True)
    gc.collect()  # ends the processes of the way before
    began, cpu, count, size, first = time.perf_counter(), cpu_seconds(), 0, 0, 0.0
    loader = VideoLoader(
        data, batch_sampler=sampler, collate_fn=ClipBatch.collate, num_workers=workers, persistent_workers=workers > 0
    )
    for batch in loader:
        first = first or time.perf_counter() - began
        count += len(batch)
        size = batch.clips[0].nbytes
    seconds, used = time.perf_counter() - began, cpu_seconds() - cpu  # before the workers end
    return Delivered(count / seconds, 1e3 * used / count, first, size)


def cpu_seconds() -> float:
    """Return the user and system time of this process and of those it has started that still run."""
    ticks = 0
    for pid in descendants(os.getpid()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime, stime (proc_pid_stat(5), 14 and 15)
    return time.process_time() + ticks / _TICK


if __name__ == "__main__":
    sys.exit(main())
