"""What weight standardization costs in a training step: `python benchmarks/standardization.py --out FILE.json`.

The same net with and without it takes steps (forward, loss, backward, SGD with momentum) of 8 clips of 32 frames of
64 px in turn, in an order that changes from round to round. What counts is the median of the ratios of processor time,
round by round: processor time of one thread hardly changes with what else the machine does. The process keeps the
memory that it frees, as a run on a CPU does.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from net import machine
from torch import nn

from vidgn.models.registry import build_net
from vidgn.runs.allocator import keep_memory
from vidgn.runs.environment import versions

FRAMES, SIDE, CLASSES = 32, 64, 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--widths", type=int, nargs="+", default=(16, 64))
    parser.add_argument("--rounds", type=int, nargs="+", default=(15, 5), help="for each width")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    results = [
        measure(width, clips=parsed.clips, rounds=rounds)
        for width, rounds in zip(parsed.widths, parsed.rounds, strict=True)
    ]
    content = {"machine": machine(), "versions": versions(), "results": results}
    if parsed.out is not None:
        parsed.out.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def measure(width: int, *, clips: int, rounds: int) -> dict[str, Any]:
    """Return the seconds of the steps of both nets and the ratios."""
    torch.manual_seed(0)
    steps = {name: Step(width, standardized=name == "standardized", clips=clips) for name in ("plain", "standardized")}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for number in range(rounds):
        for name in sorted(steps, reverse=number % 2 == 1):
            seconds[name].append(steps[name]())
    ratios = [b / a for a, b in zip(seconds["plain"], seconds["standardized"], strict=True)]
    median = statistics.median(ratios)
    print(f"width {width}, {clips} clips: {median:.3f} times the plain step, {min(ratios):.3f} to {max(ratios):.3f}")
    rounded = {name: [round(value, 4) for value in values] for name, values in seconds.items()}
    return {
        "width": width, "clips": clips, "frames": FRAMES, "side": SIDE, "cpu_seconds": rounded,
        "ratios": [round(value, 4) for value in ratios], "median_ratio": round(median, 4),
    }  # fmt: skip


class Step:
    """A net with its optimizer; a call takes one training step and returns its processor time in seconds."""

    def __init__(self, width: int, *, standardized: bool, clips: int) -> None:
        model = {"name": "i3d_r50", "width": width, "dropout": 0.0, "weight_standardization": standardized}
        self.net = build_net(model=model, norm={"name": "gn"}, crop=SIDE, num_classes=CLASSES)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9, nesterov=True)
        self.clips = torch.randn(clips, 3, FRAMES, SIDE, SIDE)
        self.labels = torch.arange(clips) % CLASSES

    def __call__(self) -> float:
        """Take a step."""
        began = time.process_time()
        loss = nn.functional.cross_entropy(self.net(self.clips), self.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return time.process_time() - began


if __name__ == "__main__":
    main()
