"""Time and memory of a manifest: loading it, and what it costs each worker that reads from it.

python benchmarks/manifest.py                       one million rows in each dialect, and four workers
python benchmarks/manifest.py --rows 10000000       ten million

Every case runs in a process of its own. "Peak" is the largest resident memory above that before loading. A worker's
private memory (/proc/self/smaps_rollup, clean and dirty) is taken before and after it has asked for the name and the
label of every row; the same is done with the list of (path, {"label": n}) that pytorchvideo keeps, for comparison.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

WORKERS = 4
CLASSES = [f"class of {i:03d}" for i in range(400)]
ROWS: dict[str, Callable[[int], str]] = {
    "space, no space in paths": lambda i: f"train/class_{i % 400:03d}/video{i:08d}_000010_000020.mp4 {i % 400}",
    "space, spaces in paths": lambda i: f"train/class of {i % 400:03d}/video{i:08d}_000010_000020.mp4 {i % 400}",
    "comma": lambda i: f"train/class of {i % 400:03d}/video{i:08d}_000010_000020.mp4,{i % 400}",
    "comma, quoted": lambda i: f'"train/class of {i % 400:03d}/video{i:08d}_000010_000020.mp4",{i % 400}',
    "comma, class names": lambda i: f"train/class_{i % 400:03d}/video{i:08d}_000010_000020.mp4,class of {i % 400:03d}",
    "space, absolute": lambda i: f"ROOT/class_{i % 400:03d}/video{i:08d}_000010_000020.mp4 {i % 400}",
    "space, not ASCII": lambda i: f"train/größe_{i % 400:03d}/video{i:08d}_000010_000020.mp4 {i % 400}",
    "Kinetics csv": lambda i: f"class of {i % 400:03d},vid{i:08d},10,20,train",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON line last")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        print(json.dumps(CASES[given.case](given.file)))
        return
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ROWS if given.rows <= 1_000_000 else list(ROWS)[:2]:
            file = write(Path(folder), name, given.rows)
            rounds = [run("load" if name != "Kinetics csv" else "kinetics", file) for _ in range(given.rounds)]
            found[name] = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
            spread = sorted(each["seconds"] for each in rounds)
            print(f"{name:28s}", {**found[name], "spread": f"{spread[0]} .. {spread[-1]}"}, flush=True)
        for name in ("workers", "workers of a list"):
            found[name] = run(name, write(Path(folder), "space, spaces in paths", given.rows))
            print(f"{name:28s}", found[name], flush=True)
    if given.json:
        print(json.dumps({"rows": given.rows, **found}))


def write(folder: Path, name: str, rows: int) -> Path:
    file = folder / f"{name.replace(' ', '_')}.txt"
    if not file.exists():
        with file.open("w") as out:
            if name == "Kinetics csv":
                out.write("label,youtube_id,time_start,time_end,split\n")
            out.writelines(f"{ROWS[name](row).replace('ROOT', str(folder))}\n" for row in range(rows))
    return file


def run(case: str, file: Path) -> dict[str, float]:
    words = [sys.executable, __file__, "--case", case, "--file", str(file)]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def load(file: str) -> dict[str, float]:
    return measure(lambda: read(file))[1]


def kinetics(file: str) -> dict[str, float]:
    from vidgn.data.manifests.manifest import Manifest

    return measure(lambda: Manifest.from_kinetics_csv(file, root=Path(file).parent, split="train"))[1]


def read(file: str) -> Any:
    from vidgn.data.manifests.manifest import Manifest

    return Manifest.from_list(file, root=Path(file).parent, classes=CLASSES)


def measure(job: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    import vidgn.data.manifests.manifest  # noqa: F401 - so that only the manifest itself is measured

    before, began, cpu = resident(), time.perf_counter(), time.process_time()
    result = job()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    kept = resident() - before
    numbers = {"seconds": seconds, "cpu_seconds": cpu, "peak_mb": (peak - before) / 1e6, "kept_mb": kept / 1e6}
    return result, {name: round(value, 2) for name, value in numbers.items()}


def workers(file: str) -> dict[str, float]:
    manifest = read(file)

    def ask() -> None:
        for row in range(len(manifest)):
            len(manifest.video_id(row)) + manifest.label(row)

    return in_workers(ask)


def workers_of_a_list(file: str) -> dict[str, float]:
    manifest = read(file)
    pairs = [(manifest.video_id(i), {"label": manifest.label(i)}) for i in range(len(manifest))]

    def ask() -> None:
        for path, info in pairs:
            len(path) + info["label"]

    return in_workers(ask)


def in_workers(ask: Callable[[], Any]) -> dict[str, float]:
    """Fork workers that ask for every row; return how their private memory grows, in MB."""
    context = get_context("fork")
    results = context.SimpleQueue()

    def work() -> None:
        before = private()
        ask()
        results.put((private() - before) / 1e6)

    processes = [context.Process(target=work) for _ in range(WORKERS)]
    for process in processes:
        process.start()
    grown = sorted(results.get() for _ in processes)
    for process in processes:
        process.join()
    return {"least_mb": round(grown[0], 1), "most_mb": round(grown[-1], 1), "sum_mb": round(sum(grown), 1)}


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def private() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024


CASES = {"load": load, "kinetics": kinetics, "workers": workers, "workers of a list": workers_of_a_list}

if __name__ == "__main__":
    main()
