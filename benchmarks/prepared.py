"""What the index of prepared files buys: the same 32x2 clips with it and without it, the bare decoder, raw files.

    VIDGN_TEST_VIDEOS=DIR python benchmarks/prepared.py [--rounds 15] [--json FILE]

CPU seconds of one process and one thread per clip; in each round all read the same frames by turns, in one order and
then the other. Ratios are medians of the rounds', with their tenth and ninetieth percentile. The floor is planned.
"""

import argparse
import json
import os
import statistics
import struct
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch
sys.path.insert(0, str(Path(__file__).parents[1]))  # a clone need not be installed

import torch
from data import contestants, prepared
from files import machine, make_files

from vidgn.data.readers.pyav.reader import PyavReader

RATIOS = {
    "with_index_vs_without": ("with index", "without index"),
    "prepared_32x2_vs_floor": ("with index", "floor"),
    "prepared_32x2_vs_floor_without_index": ("without index", "floor"),
    "raw_vs_prepared": ("raw", "with index"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", default=os.environ.get("VIDGN_TEST_VIDEOS"), help="folder with clips/ (optional)")
    parser.add_argument("--cache", default=str(Path(tempfile.gettempdir()) / "vidgn_bench_prepared"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", metavar="FILE", help="write the result there")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    raw = make_files(Path(given.cache), sources=given.videos, count=4)
    ready = prepared(raw)
    if not all(has_index(path) for path in ready):
        sys.exit(f"{ready[0].parent} was prepared by an older version; remove {given.cache}")
    plain = [without_index(path) for path in ready]
    load = os.getloadavg()[0]
    seconds = race({"with index": (ready, "vidgn"), "without index": (plain, "vidgn"), "floor": (ready, "floor"),
                    "raw": (raw, "vidgn")}, rounds=given.rounds)  # fmt: skip
    result = {
        "command": f"python benchmarks/prepared.py --rounds {given.rounds}",
        "machine": machine(),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "files": {"index_bytes": sum(a.stat().st_size - b.stat().st_size for a, b in zip(ready, plain, strict=True)),
                  "prepared_bytes": sum(path.stat().st_size for path in ready)},
        "ms": {name: [round(1e3 * value, 2) for value in rounds] for name, rounds in seconds.items()},
        "median_ms": {name: round(1e3 * statistics.median(rounds), 2) for name, rounds in seconds.items()},
        "ratios": {name: ratio(seconds[ours], seconds[theirs]) for name, (ours, theirs) in RATIOS.items()},
    }  # fmt: skip
    print(json.dumps({key: value for key, value in result.items() if key != "ms"}, indent=1))
    if given.json:
        Path(given.json).write_text(json.dumps(result, indent=1) + "\n")


def race(sets: dict[str, tuple[list[Path], str]], *, rounds: int) -> dict[str, list[float]]:
    """Return CPU seconds per clip of each set in each round; the first, warming round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sets}
    for number in range(rounds + 1):
        runs = {name: contestants(files, "a", seed=number)[who] for name, (files, who) in sets.items()}
        for name in list(runs) if number % 2 else reversed(runs):
            began = time.process_time()
            clips = runs[name]()
            if number:
                seconds[name].append((time.process_time() - began) / clips)
    return seconds


def ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Return the median of the rounds' ratios, and between which values eight of ten lie."""
    found = [a / b for a, b in zip(ours, theirs, strict=True)]
    tenths = statistics.quantiles(found, n=10)
    return {"median": round(statistics.median(found), 3), "from": round(tenths[0], 3), "to": round(tenths[-1], 3)}


def has_index(path: Path) -> bool:
    with PyavReader(str(path), num_threads=1, max_pixels=1 << 24) as video:
        return video.source.has_index


def without_index(path: Path) -> Path:
    """Write a copy that lacks the box at the end, whose length precedes its mark."""
    folder = path.parent.with_name(f"{path.parent.name}_plain")
    folder.mkdir(exist_ok=True)
    data = path.read_bytes()
    (folder / path.name).write_bytes(data[: -struct.unpack("<I", data[-12:-8])[0]])
    return folder / path.name


if __name__ == "__main__":
    main()
