"""Training steps on motions, for `net.py`: time, memory and loss against pytorchvideo's net."""

import copy
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from net_peer import Peer
from net_rounds import group_norm_of, interleaved, randomized, ratio, step, table
from torch import Tensor, nn

from vidgn.data.synthetic.motions import CLASSES, MotionsSpec, draw_video
from vidgn.data.transforms import Normalize
from vidgn.models.builders import I3DSpec, build_i3d
from vidgn.models.fuse.compile import compile_net
from vidgn.models.fuse.rewrite import fuse

FRAMES, BATCH = 32, 8
KEPT = "the same, memory kept"
MAX_SHARE = 0.6  # of the baseline's memory, for a mode to count


class Case(NamedTuple):
    """A net and its clips."""

    width: int
    side: int
    rounds: int


CASES = (Case(64, 64, 5), Case(64, 96, 3), Case(16, 64, 9))
QUICK_CASES = (Case(64, 64, 3), Case(16, 64, 5))


def measure_training(
    cases: tuple[Case, ...], *, compiled: bool, threads: int, cpu: bool
) -> dict[str, float | str | None]:
    """Time steps (forward, loss, backward, SGD with momentum) of 8 clips of 32 frames, float32 weights.

    The fastest mode whose memory is at most 0.6 of the baseline's counts; of the wide net, its worst case.
    """
    result: dict[str, float | str | None] = {}
    worst: list[tuple[float, float]] = []
    for case in cases:
        mode, gain, share, difference = _measure(case, compiled=compiled, threads=threads, cpu=cpu)
        print(f"  counted: {mode}")
        result |= {f"{case.width}_{case.side}px_mode": mode, f"{case.width}_{case.side}px_step": gain}
        result |= {f"{case.width}_{case.side}px_memory": share, f"{case.width}_{case.side}px_loss_float32": difference}
        worst += [(gain, share)] if case.width == max(c.width for c in cases) else []
    return {
        "train_step_vs_pytorchvideo": min(gain for gain, _ in worst),
        "train_memory_vs_pytorchvideo": max(share for _, share in worst),
    } | result


def _measure(case: Case, *, compiled: bool, threads: int, cpu: bool) -> tuple[str, float, float, float]:
    clips, labels = motions(count=BATCH, frames=FRAMES, side=case.side)
    spec = I3DSpec(num_classes=len(CLASSES), width=case.width, window=2, dropout=0.0)
    base = randomized(build_i3d(spec, norm=group_norm_of(case.width // 2)))
    nets: dict[str, nn.Module] = {KEPT: base}
    for name in ("fused", "fused, low", "bfloat16", "bfloat16, low"):
        nets[name] = fuse(copy.deepcopy(base), memory="low" if "low" in name else "normal")
    if compiled:
        nets |= {name: compile_net(fuse(copy.deepcopy(base))) for name in ("compiled", "compiled, bfloat16")}
    steps = {name: step(net, clips, labels, half="bfloat16" in name) for name, net in nets.items()}
    with Peer(spec, groups=case.width // 2, threads=threads, cpu=cpu) as peer:
        peer.load(base.state_dict())
        losses = {name: run() for name, run in steps.items()}  # of equal weights: the first step
        theirs = peer.train(clips, labels)
        assert abs(theirs().result - losses[KEPT]) < 1e-4
        times = interleaved({"pytorchvideo": theirs, **steps}, case.rounds, before=1)
    title = f"training step, motions, width {case.width}, {BATCH} x {FRAMES} frames, {case.side} px"
    print(table(title, times, "pytorchvideo"), flush=True)
    memory = {name: peak_memory(run) for name, run in steps.items()}
    shares = {name: size / memory[KEPT] for name, size in memory.items()}
    for name, share in shares.items():
        off = losses[name] - losses[KEPT]
        print(f"  {name:22} peak {memory[name] / 2**20:8.1f} MiB  {share:.3f}  loss {off:+.1e}", flush=True)
    mode = counted({name: ratio(times["pytorchvideo"], times[name]) for name in steps if name != KEPT}, shares)
    difference = abs(losses["fused"] - losses[KEPT])
    return mode, round(ratio(times["pytorchvideo"], times[mode]), 2), round(shares[mode], 3), difference


def counted(gains: Mapping[str, float], shares: Mapping[str, float]) -> str:
    """Return the fastest mode of those with little memory."""
    return max((name for name in gains if shares[name] <= MAX_SHARE), key=gains.__getitem__)


def peak_memory(run: Callable[[], object]) -> int:
    """Return the most bytes of tensors that a step holds at once, beyond parameters, momentum and clips.

    Counted from the allocations of the profile, so it does not depend on what else the machine does.
    """
    with torch.profiler.profile(profile_memory=True) as profile:
        run()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def motions(*, count: int, frames: int, side: int) -> tuple[Tensor, Tensor]:
    """Normalized clips (B, 3, T, S, S) of the embedded data set and their labels."""
    spec = MotionsSpec(side=side)
    labels = torch.arange(count) % len(CLASSES)
    drawn = [draw_video(CLASSES[label], spec=spec, key=(0, i)) for i, label in enumerate(labels.tolist())]
    clips = torch.stack([torch.from_numpy(video[: 2 * frames : 2]).permute(3, 0, 1, 2) for video in drawn])
    return Normalize()(clips), labels
