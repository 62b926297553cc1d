"""Nets for `net.py`, and runs that take turns."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vidgn.models.builders import VideoNet

CLOCK: list[Callable[[], float]] = [time.perf_counter]


class Elsewhere(NamedTuple):
    """What a run in another process took, and returned."""

    seconds: float
    result: Any


def interleaved(runs: Mapping[str, Callable[[], Any]], rounds: int, *, before: int = 0) -> dict[str, list[float]]:
    """Run all once per round; return seconds per round. The first round is not counted.

    Args:
        runs: what is compared.
        rounds: how often.
        before: runs of one's own before each that counts: caches and allocator are then as they are in its loop.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            for _ in range(before):
                run()
            start = CLOCK[0]()
            result = run()
            taken = CLOCK[0]() - start
            times[name].append(result.seconds if isinstance(result, Elsewhere) else taken)
    return {name: found[1:] for name, found in times.items()}


def ratio(slow: list[float], fast: list[float]) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def table(title: str, times: Mapping[str, list[float]], baseline: str) -> str:
    """Write medians, least and most, and the ratio to the baseline."""
    lines = [f"\n{title} (load {os.getloadavg()[0]:.1f})"]
    for name, found in times.items():
        middle, least, most = statistics.median(found), min(found), max(found)
        gain = ratio(times[baseline], found)
        lines.append(f"  {name:22} {middle * 1e3:8.0f} ms ({least * 1e3:.0f} .. {most * 1e3:.0f})  {gain:5.2f}x")
    return "\n".join(lines)


def group_norm_of(groups: int) -> Callable[..., nn.Module]:
    """Return a builder of torch's own group norm."""

    def build(num_features: int, *, eps: float = 1e-5, momentum: float | None = 0.1) -> nn.Module:
        return nn.GroupNorm(groups, num_features, eps)

    return build


def randomized(net: VideoNet) -> VideoNet:
    """Give the norms weights that hide no branch; the same for everybody, seeded."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in net.named_parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu", generator=generator)
        elif "norm" in name:
            nn.init.normal_(parameter, float(name.endswith("weight")), 0.2, generator=generator)
    return net


def step(net: nn.Module, clips: Tensor, labels: Tensor, *, half: bool = False) -> Callable[[], float]:
    """Return one training step, which returns the loss; bfloat16 is that of autocast."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def run() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = nn.functional.cross_entropy(net.forward(clips).float(), labels)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return run
