"""Does a reading process grow? Resident memory, open files and threads of a worker and its helper over many clips.

    python benchmarks/memory.py [--clips 5000] [--json]

Small made files (160x120, H.264, B-frames) go through the real loader with one worker: random training clips of good
files, and then test views of damaged ones, whose errors are paths of their own. The first tenth of the clips (200 at
least) warms up; growth is what the worker and its helper hold at the end, over what they held then.
"""

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch
sys.path.insert(0, str(Path(__file__).parents[1]))  # a clone need not be installed

import av
import numpy as np

from vidgn.callbacks.process_memory import descendants, resident_bytes
from vidgn.data.batches import ClipBatch, ViewBatch
from vidgn.data.clips import ClipSpec
from vidgn.data.dataset import ClipDataset
from vidgn.data.loading.loader import VideoLoader
from vidgn.data.loading.sampler import EpochSampler
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.readers.types import Backend
from vidgn.data.transforms import CropSpec
from vidgn.data.views import ViewDataset

CLIP, CROP = ClipSpec(8, 16), CropSpec(64)
BATCH = 5


class Held(NamedTuple):
    """What the reading processes hold together."""

    megabytes: float
    files: int
    threads: int


class Growth(NamedTuple):
    """What they held after warming up and at the end, and by how many percent the memory grew."""

    clips: int
    first: Held
    last: Held
    percent: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=5000)
    parser.add_argument("--backends", nargs="+", default=["pyav", "decord"])
    parser.add_argument(
        "--deadline", type=float, default=30.0, help="seconds for one video; more where a job is paused"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line last")
    given = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder))
        for backend in given.backends:
            for kind in ("good", "damaged"):
                growth = grow(Path(folder), kind=kind, backend=backend, clips=given.clips, deadline=given.deadline)
                found[f"{backend}_{kind}"] = growth.percent
                print(f"{backend:7s} {kind:8s} {growth.clips} clips: {growth.percent:+.2f} %", flush=True)
                print(f"  {growth.first} -> {growth.last}", flush=True)
    if given.json:
        print(json.dumps(found))


def grow(folder: Path, *, kind: str, backend: Backend, clips: int, deadline: float = 30.0) -> Growth:
    """Read `clips` clips of the good or the damaged files in one worker, and see what it and its helper hold."""
    names = sorted(path.name for path in folder.glob(f"{kind}*"))
    rows = [(names[number % len(names)], 0) for number in range(clips)]
    manifest = Manifest.from_rows(rows, root=folder, classes=["x"])
    loader = _training(manifest, backend, deadline) if kind == "good" else _testing(manifest, backend, deadline)
    warm, first, done = max(200, clips // 10) if clips > 400 else clips // 3, None, 0
    batches: Iterator[Any] = iter(loader)
    (worker,) = loader._batches._workers
    for batch in batches:
        done += len(batch)
        if first is None and done >= warm:
            first = _held(worker.pid)
        if done >= clips - BATCH:
            break  # while the worker is there
    last = _held(worker.pid)
    assert first is not None
    return Growth(done, first, last, round(100 * (last.megabytes / first.megabytes - 1), 2))


def make_files(folder: Path, *, count: int = 4) -> None:
    """Write good files, and damaged ones: cut off, with a hole, with a flipped byte."""
    rng = random.Random(0)
    for number in range(count):
        good = folder / f"good{number}.mp4"
        _write(good, number)
        data = good.read_bytes()
        (folder / f"damaged{number}_cut.mp4").write_bytes(data[: len(data) // 2])
        for kind, size in (("hole", 512), ("flip", 1)):
            damaged, at = bytearray(data), rng.randrange(100, len(data) // 2)
            damaged[at : at + size] = bytes(255 - byte for byte in damaged[at : at + size])
            (folder / f"damaged{number}_{kind}.mp4").write_bytes(damaged)


def _training(manifest: Manifest, backend: Backend, deadline: float) -> VideoLoader:
    data = ClipDataset(
        manifest, clip=CLIP, crop=CROP, seed=0, flip=True, stream="train", backend=backend, deadline_seconds=deadline
    )
    sampler = EpochSampler(len(data), batch=BATCH, seed=0, shuffle=True)
    return VideoLoader(data, batch_sampler=sampler, collate_fn=ClipBatch.collate, num_workers=1)


def _testing(manifest: Manifest, backend: Backend, deadline: float) -> VideoLoader:
    data = ViewDataset(
        manifest, clip=CLIP, crop=CROP, num_clips=1, num_crops=1, backend=backend, deadline_seconds=deadline
    )
    return VideoLoader(data, batch_size=BATCH, collate_fn=ViewBatch.collate, num_workers=1)


def _held(worker: int) -> Held:
    processes = [worker, *descendants(worker)]
    files = sum(map(_count_files, processes))
    threads = sum(len(os.listdir(f"/proc/{pid}/task")) for pid in processes)
    return Held(round(sum(map(resident_bytes, processes)) / 1e6, 1), files, threads)


def _count_files(pid: int) -> int:
    """Count a process's open files, but for batches on their way: how many there are is the loop's pace, no leak."""
    count = 0
    for entry in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            count += not os.readlink(f"/proc/{pid}/fd/{entry}").startswith("/dev/shm/torch_")
    return count


def _write(path: Path, seed: int) -> None:
    y, x = np.mgrid[0:120, 0:160]
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.options = {"g": "12", "bf": "2"}
        for index in range(48):
            image = np.stack([3 * x + 4 * index, 2 * y + 3 * index, x + y + 11 * index + 40 * seed], -1).astype(
                np.uint8
            )
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


if __name__ == "__main__":
    sys.exit(main())
