"""What a training loop gets: clips/s, CPU and time to the first batch, of vidgn's loader and of a plain DataLoader.

    python benchmarks/loader.py --json [--rounds 5] [--before DIR] [--tiny 10000]

    vidgn     the loader as training has it: reading processes that can be killed, a deadline of 30 s for each video
    plain     torch's DataLoader over the same data set without a deadline: nothing protects the loop
    before    the loader of another copy of this repository, such as a clone of an earlier commit (`--before DIR`)

32x2 clips of 224 px from the raw files of `benchmarks/data.py`, batches of 4, nothing done with them. Clips/s and CPU
per clip, that of all processes, are of an epoch after its first batch. Each measurement has a process of its own, and
rounds are interleaved; a ratio is the median over rounds of the ratio within a round. `--tiny`: the time of an epoch of
so many clips of a video of half a second. `benchmarks/data.py` prints vidgn's numbers for its files.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch
ROOT = Path(__file__).parents[1]
sys.path.insert(0, os.environ.get("VIDGN_BENCH_CODE") or str(ROOT))  # a clone need not be installed

READERS = (1, 2)
REPEATS = 20  # of each file in an epoch
BATCH = 4
_TICK = os.sysconf("SC_CLK_TCK")


class Delivered(NamedTuple):
    """One epoch of one way."""

    clips_per_second: float
    cpu_ms_per_clip: float
    first_seconds: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", default=os.environ.get("VIDGN_TEST_VIDEOS"), help="folder with clips/ (optional)")
    parser.add_argument("--cache", default=str(Path(tempfile.gettempdir()) / "vidgn_bench_data"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--before", type=Path, help="another copy of the repository")
    parser.add_argument("--tiny", type=int, default=0, help="clips of an epoch of a tiny video")
    parser.add_argument("--json", action="store_true", help="print one JSON line last")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        way, readers = given.one
        files = [Path(line) for line in sys.stdin.read().splitlines()]
        print(json.dumps(run(files, way=way, readers=int(readers), repeats=given.tiny or REPEATS)))
        return
    from files import machine, make_files  # which puts this copy first among the folders of modules

    print(machine())
    files = make_files(Path(given.cache), sources=given.videos, count=4)
    measured = measure(files, rounds=given.rounds, before=given.before)
    _show(measured)
    ratios = {
        f"vs_{name}": _ratio(measured, way) for name, way in (("plain_dataloader", "plain"), ("before", "before"))
    }
    if given.tiny:
        tiny = measure([_tiny_file(Path(given.cache))], rounds=1, before=given.before, repeats=given.tiny)
        _show(tiny)
    if given.json:
        runs = {f"{way}_{readers}": [run._asdict() for run in runs] for (way, readers), runs in measured.items()}
        epochs = {f"{way}_{readers}": runs[0].seconds for (way, readers), runs in tiny.items()} if given.tiny else {}
        print(json.dumps({**ratios, "machine": machine(), "tiny_epoch_seconds": epochs, "runs": runs}))


def delivered(files: list[Path], *, rounds: int) -> None:
    """Measure vidgn's loader, and print the medians."""
    _show({("vidgn", readers): [_apart(files, "vidgn", readers) for _ in range(rounds)] for readers in READERS})


def measure(
    files: list[Path], *, rounds: int, before: Path | None, repeats: int = REPEATS
) -> dict[tuple[str, int], list[Delivered]]:
    """Measure every way in each round."""
    ways = ("vidgn", "plain", *(("before",) if before is not None else ()))
    measured: dict[tuple[str, int], list[Delivered]] = {(way, readers): [] for readers in READERS for way in ways}
    for number in range(rounds):
        order = list(measured.items())
        for (way, readers), runs in order if number % 2 == 0 else reversed(order):
            code = before if way == "before" else None
            runs.append(_apart(files, way, readers, code=code, repeats=repeats))
    return measured


def run(files: Sequence[Path], *, way: str, readers: int, repeats: int) -> Delivered:
    """Read an epoch in this process."""
    from torch.utils.data import DataLoader

    from vidgn.data.batches import ClipBatch
    from vidgn.data.clips import ClipSpec
    from vidgn.data.dataset import ClipDataset
    from vidgn.data.loading.loader import VideoLoader
    from vidgn.data.loading.sampler import EpochSampler
    from vidgn.data.manifests.manifest import Manifest
    from vidgn.data.transforms import CropSpec

    rows = [(file.name, 0) for file in files] * repeats
    data = ClipDataset(
        Manifest.from_rows(rows, root=files[0].parent, classes=["x"]), clip=ClipSpec(), crop=CropSpec(), seed=0,
        flip=True, stream="train", deadline_seconds=None if way == "plain" else 30.0,
    )  # fmt: skip
    kind: Any = DataLoader if way == "plain" else VideoLoader
    sampler = EpochSampler(len(data), batch=BATCH, seed=0, shuffle=True)
    began = time.perf_counter()
    batches = iter(kind(data, batch_sampler=sampler, collate_fn=ClipBatch.collate, num_workers=readers))
    next(batches)
    first, cpu = time.perf_counter(), cpu_seconds()
    used, count = 0.0, 0
    for batch in batches:
        count += len(batch)
        used = cpu_seconds() - cpu  # before the processes end
    end = time.perf_counter()
    return Delivered(count / (end - first), 1e3 * used / count, first - began, end - began)


def cpu_seconds() -> float:
    """Return the user and system time of this process and of those it has started that still run."""
    from vidgn.callbacks.process_memory import descendants

    ticks = 0
    for pid in descendants(os.getpid()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime, stime (proc_pid_stat(5), 14 and 15)
    return time.process_time() + ticks / _TICK


def _apart(
    files: Sequence[Path], way: str, readers: int, *, code: Path | None = None, repeats: int = REPEATS
) -> Delivered:
    """Measure in a process of its own."""
    environment = {**os.environ, "VIDGN_BENCH_CODE": str((code or ROOT).absolute())}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, __file__, "--one", way, str(readers), "--tiny", str(repeats)]
    names = "\n".join(map(str, files))
    done = subprocess.run(command, env=environment, input=names, stdout=subprocess.PIPE, text=True, check=True)
    return Delivered(*json.loads(done.stdout.splitlines()[-1]))


def _show(measured: dict[tuple[str, int], list[Delivered]]) -> None:
    print("\nloader               clips/s   CPU ms/clip   first batch       epoch")
    for (way, readers), runs in measured.items():
        middle = Delivered(*(statistics.median(values) for values in zip(*runs, strict=True)))
        speed = f"{middle.clips_per_second:6.1f} {middle.cpu_ms_per_clip:12.1f} {middle.first_seconds:11.2f} s"
        print(f"  {way:7s} {readers} readers   {speed} {middle.seconds:9.2f} s", flush=True)


def _ratio(measured: dict[tuple[str, int], list[Delivered]], other: str) -> float | None:
    """Return how many times the clips per second of another way vidgn delivers, where that is least."""
    if (other, READERS[0]) not in measured:
        return None
    ratios = [
        statistics.median(
            ours.clips_per_second / theirs.clips_per_second
            for ours, theirs in zip(measured["vidgn", readers], measured[other, readers], strict=True)
        )
        for readers in READERS
    ]
    return round(min(ratios), 3)


def _tiny_file(folder: Path) -> Path:
    from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video

    path = folder / "tiny.mp4"
    if not path.exists():
        write_video(path, draw_video("move_up", spec=MotionsSpec(num_frames=15, side=112), key=(0, 0)))
    return path


if __name__ == "__main__":
    sys.exit(main())
