"""From video files to clips: ours against every other way, in CPU seconds on one thread.

    python benchmarks/data.py [--quick] [--json]

Tasks: (a) a random 32x2 training clip, short side 256..320, 224 crop; (b) the same as 64x1; (c) the 10-clip test of a
whole video at short side 256. Each round runs every contestant once, one after another, on the same files; every
contestant of (a) and (b) gets the same random starts, except pytorchvideo, which draws its own
(torchcodec's clip samplers draw theirs in (c)). Printed: the median of the rounds, and their spread. The floor decodes
just what the clip needs and throws it away. torchcodec needs FFmpeg's shared libraries; LD_LIBRARY_PATH may name them.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch
sys.path.insert(0, str(Path(__file__).parents[1]))  # a clone need not be installed

import numpy as np
import torch
from files import machine, make_files
from loader import delivered
from peers import PEERS, Draw, Task, floor, floor_plan, skipped

from vidgn.curation.encode import PrepareSpec
from vidgn.curation.prepare import prepare
from vidgn.data.clips import ClipSpec, test_starts
from vidgn.data.dataset import ClipDataset
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.transforms import CropSpec, source_box
from vidgn.data.video import open_video
from vidgn.data.views import ViewDataset

Contestant = Callable[[], int]  # reads every file once and returns the number of clips
TASKS = {"a": Task(32, 64, 1), "b": Task(64, 64, 1), "c": Task(32, 64, 10)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", default=os.environ.get("VIDGN_TEST_VIDEOS"), help="folder with clips/ (optional)")
    parser.add_argument("--cache", default=str(Path(tempfile.gettempdir()) / "vidgn_bench_data"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="fewer files and rounds: under five minutes")
    parser.add_argument("--json", action="store_true", help="print one JSON line last")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rounds = 5 if given.quick else given.rounds
    raw = make_files(Path(given.cache), sources=given.videos, count=4 if given.quick else 8)
    ready = prepared(raw)
    print(machine())
    for name, why in skipped().items():
        print(f"left out: {name}: {why}")
    seconds = {}
    for letter in TASKS:
        extra = ready if letter == "a" else []
        seconds[f"raw {letter}"] = race(
            raw, letter, rounds=rounds if letter != "c" else max(3, rounds // 2), also=extra
        )
    if not given.quick:
        seconds["prepared a"] = race(ready, "a", rounds=rounds)
        seconds["prepared b"] = race(ready, "b", rounds=rounds)
    for title, found in seconds.items():
        print(table(title, found))
    delivered(raw, rounds=1 if given.quick else 3)
    ratios = compare(seconds)
    for name, value in ratios.items():
        print(f"{name:34s} {value:.2f}")
    if given.json:
        print(json.dumps(ratios))


def prepared(raw: list[Path]) -> list[Path]:
    """Prepare the files once with `vidgn prepare`'s defaults."""
    target = raw[0].parent.with_name(raw[0].parent.name + "_prepared")
    prepare(raw[0].parent, target, spec=PrepareSpec())
    return [target / path.name for path in raw]


def race(files: list[Path], letter: str, *, rounds: int, also: list[Path] | None = None) -> dict[str, list[float]]:
    """Return CPU seconds per clip of each contestant in each round; the first, warming round is not counted.

    `also`: prepared copies of the files, which ours and the floor read in the same rounds.
    """
    found: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        runs = contestants(files, letter, seed=number)
        if also:
            copies = contestants(also, letter, seed=number)
            runs |= {f"{name}, prepared": copies[name] for name in ("vidgn", "floor")}
        for name, run in runs.items():
            began = time.process_time()
            clips = run()
            if number:
                found.setdefault(name, []).append((time.process_time() - began) / clips)
    return found


def contestants(files: list[Path], letter: str, *, seed: int) -> dict[str, Contestant]:
    task, draws = TASKS[letter], _draws(files, TASKS[letter], seed)
    clip, crop = ClipSpec(task.clip_len, task.span), CropSpec()
    manifest = Manifest.from_rows([(f.name, 0) for f in files], root=files[0].parent, classes=["x"])
    if task.num_clips == 1:
        train = ClipDataset(manifest, clip=clip, crop=crop, seed=seed, flip=True, stream="train", deadline_seconds=None)
        ours: Contestant = lambda: sum(len(train[0, i].clips) for i in range(len(files)))  # noqa: E731
    else:
        views = ViewDataset(manifest, clip=clip, crop=crop, num_clips=task.num_clips, deadline_seconds=None)
        ours = lambda: sum(len(views[i].index) for i in range(len(files)))  # noqa: E731
    runs: dict[str, Contestant] = {"vidgn": ours}
    for name, peer in PEERS.items():
        runs[name] = lambda peer=peer: peer(files, task, draws)  # type: ignore[misc]
    for path, draw in zip(files, draws, strict=True):
        floor_plan(path, draw.frames)
    runs["floor"] = lambda: sum(floor(path, draw.frames) for path, draw in zip(files, draws, strict=True))
    return runs


def _draws(files: list[Path], task: Task, seed: int) -> list[Draw]:
    """Draw what our data set draws, so that all contestants read the same frames."""
    manifest = Manifest.from_rows([(f.name, 0) for f in files], root=files[0].parent, classes=["x"])
    data = ClipDataset(
        manifest, clip=ClipSpec(task.clip_len, task.span), crop=CropSpec(), seed=seed, flip=True, stream="train"
    )
    found = []
    for number, path in enumerate(files):
        with open_video(path) as video:
            count, height, width = len(video), video.height, video.width
        draw = data._draws(0, number, 0)
        view = data._view(draw, (height, width))
        if task.num_clips == 1:
            starts = np.array([int(draw[0] * (max(count - task.span, 0) + 1))])
        else:
            starts = test_starts(count, num_clips=task.num_clips, span=task.span)
        stride = task.span // task.clip_len
        frames = (starts[:, None] + stride * np.arange(task.clip_len)) % count
        cut = source_box(view, height=height, width=width)
        found.append(Draw(frames, view.size, view.box, view.flip, (cut.height, cut.width)))
    return found


def compare(cpu: dict[str, dict[str, list[float]]]) -> dict[str, float]:
    """Return the median over rounds of theirs over ours; for the floor of ours over its.

    Within a round all suffer alike from the machine's other work. The best peer is the one with the smallest ratio.
    """

    def over(title: str, theirs: str, ours: str = "vidgn") -> float:
        rounds = cpu[title]
        if theirs not in rounds:
            return float("nan")
        return statistics.median(t / o for t, o in zip(rounds[theirs], rounds[ours], strict=True))

    def best(title: str, ours: str = "vidgn") -> float:
        return min(over(title, name, ours) for name in PEERS)

    ratios = {
        "raw_32x2_vs_best_peer": best("raw a"),
        "raw_64x1_vs_best_peer": best("raw b"),
        "test10_vs_best_peer": best("raw c"),
        "test10_vs_pytorchvideo": over("raw c", "pytorchvideo"),
        "prepared_32x2_vs_best_peer_raw": best("raw a", "vidgn, prepared"),
        "prepared_32x2_vs_floor": over("raw a", "vidgn, prepared", "floor, prepared"),
    }
    return {name: round(value, 3) for name, value in ratios.items()}


def table(title: str, found: dict[str, list[float]]) -> str:
    lines = [f"\n{title}: CPU per clip", f"  {'':18s} {'median ms':>10s} {'spread ms':>16s} {'clips/s per core':>17s}"]
    for name, rounds in sorted(found.items(), key=lambda item: statistics.median(item[1])):
        middle = statistics.median(rounds)
        spread = f"{1e3 * min(rounds):.1f} .. {1e3 * max(rounds):.1f}"
        lines.append(f"  {name:18s} {1e3 * middle:10.1f} {spread:>16s} {1 / middle:17.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
