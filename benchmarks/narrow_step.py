"""Where the training step of the narrow default net spends its time, against pytorchvideo's.

    python benchmarks/narrow_step.py --rounds 4 --out benchmarks/narrow_step.json     # under a minute when idle

Width 16, 8 clips of 32 frames, 64 px, float32, one thread. All take turns; times are processor seconds of the process
that computes, ratios those of the rounds. Shares are of one profiled step by the clock, so they are rough on a busy
machine.
"""

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import net_rounds
import torch
from net import machine
from net_peer import Peer
from net_rounds import group_norm_of, interleaved, randomized, step
from net_train import KEPT, motions

from vidgn.data.synthetic.motions import CLASSES
from vidgn.models.builders import I3DSpec, build_i3d
from vidgn.models.fuse.rewrite import fuse
from vidgn.runs.allocator import keep_memory

WIDTH, FRAMES, SIDE, BATCH = 16, 32, 64, 8
SHOWN = 12  # operations


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    net_rounds.CLOCK[0] = time.process_time
    keep_memory()
    load = os.getloadavg()[0]
    clips, labels = motions(count=BATCH, frames=FRAMES, side=SIDE)
    spec = I3DSpec(num_classes=len(CLASSES), width=WIDTH, window=2, dropout=0.0)
    base = randomized(build_i3d(spec, norm=group_norm_of(WIDTH // 2)))
    runs = {KEPT: step(copy.deepcopy(base), clips, labels), "fused": step(fuse(copy.deepcopy(base)), clips, labels)}
    with Peer(spec, groups=WIDTH // 2, threads=1, cpu=True) as peer:
        peer.load(base.state_dict())
        times = interleaved({"pytorchvideo": peer.train(clips, labels), **runs}, args.rounds)
    result = {
        "command": f"python benchmarks/narrow_step.py --rounds {args.rounds}",
        "machine": machine().partition(",")[0], "torch": torch.__version__, "threads": 1, "load": round(load, 1),
        "seconds": {name: [round(value, 4) for value in values] for name, values in times.items()},
        "ratio_to_pytorchvideo": {name: spread(times["pytorchvideo"], values) for name, values in times.items()},
        "shares": {name: shares(run) for name, run in runs.items()},
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def spread(slow: list[float], fast: list[float]) -> dict[str, float]:
    """Return the median, least and largest ratio of the rounds."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return {
        "median": round(statistics.median(ratios), 3),
        "least": round(min(ratios), 3),
        "most": round(max(ratios), 3),
    }


def shares(run: Callable[[], Any]) -> dict[str, float]:
    """Return the operations that take most of a step by themselves, in percent of it."""
    with torch.profiler.profile() as profile:
        run()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    whole = sum(event.self_cpu_time_total for event in events)
    return {event.key: round(100 * event.self_cpu_time_total / whole, 1) for event in events[:SHOWN]}


if __name__ == "__main__":
    main()
