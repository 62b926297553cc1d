"""Time the net on this machine's CPU against the same net as pytorchvideo runs it.

    VIDGN_TEST_VIDEOS=DIR python benchmarks/net.py --quick --json     # 32 frames, under five minutes on idle cores
    VIDGN_TEST_VIDEOS=DIR python benchmarks/net.py --json             # 32 and 64 frames, the wide net in training too

The baseline is pytorchvideo's create_resnet (as `build_i3d` calls it) with nn.GroupNorm, eager, contiguous, float32;
contestants have its weights. Every round runs all of them once, one after the other; a ratio is the median of the
rounds' ratios. Two threads. The last line is the result as JSON if --json is given.
"""

import argparse
import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vidgn.data.motions import CLASSES, MotionsSpec, draw_video
from vidgn.data.transforms import Normalize, scaled_size
from vidgn.data.video import open_video
from vidgn.models.fuse import fuse
from vidgn.models.fuse_compile import compile_net
from vidgn.models.resnet3d import I3DSpec, VideoNet, build_i3d

THREADS = 2
CLOCK: list[Callable[[], float]] = [time.perf_counter]
Run = Callable[[Tensor], Tensor]
TARGETS = {
    "eval_fast_vs_pytorchvideo": (4.0, "at least"),
    "eval_fp32_vs_pytorchvideo": (1.8, "at least"),
    "train_step_vs_pytorchvideo": (1.5, "at least"),
    "train_memory_vs_pytorchvideo": (0.6, "at most"),
    "max_logit_difference": (1e-4, "at most"),
    "top5_agreement": (1.0, "at least"),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="32 frames and the narrow net only")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, last")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=("eval", "train"))
    parser.add_argument("--eager", action="store_true", help="training: leave out what takes minutes to compile")
    parser.add_argument(
        "--cpu", action="store_true", help="CPU seconds, for a machine that is never quiet (see net.md)"
    )
    parser.add_argument("--profile", action="store_true", help="print where the fast mode's time goes")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    CLOCK[0] = time.process_time if args.cpu else time.perf_counter
    print(machine(), flush=True)
    result: dict[str, float | None] = {}
    if args.only != "train":
        result |= measure_evaluation((32,) if args.quick else (32, 64), args.rounds, args.quick, args.profile)
    if args.only != "eval":
        result |= measure_training((16,) if args.quick else (16, 64), args.rounds, args.eager)
    for name, value in result.items():
        target, sense = TARGETS[name]
        reached = value is not None and (value >= target if sense == "at least" else value <= target)
        print(f"{name:32} {value}  {sense} {target}: {'reached' if reached else 'SHORT'}")
    if args.json:
        print(json.dumps(result))


def measure_evaluation(lengths: tuple[int, ...], rounds: int, quick: bool, profile: bool) -> dict[str, float | None]:
    """Time one clip of 224 px per mode, and compare the classes of real videos, ten clips each."""
    base = randomized(build_i3d(I3DSpec(num_classes=400, window=7, dropout=0.0), norm=group_norm_of(32))).eval()
    ratios: dict[str, list[float]] = {}
    clips = {}
    difference, agreement = 0.0, []
    for frames in lengths:
        videos = real_clips(frames, count=2 if quick else 4)
        clip = next(iter(videos.values()))[:1] if videos else torch.randn(1, 3, frames, 224, 224)
        clips[frames] = clip
        with torch.inference_mode():
            runs = modes(base)
            logits = {name: run(clip) for name, run in runs.items()}  # compiles
            times = interleaved({name: _call(run, clip) for name, run in runs.items()}, rounds)
            print(table(f"evaluation, one clip of {frames} frames, 224 px", times, "pytorchvideo"), flush=True)
            for name in ("float32", "fast"):
                ratios.setdefault(name, []).append(ratio(times["pytorchvideo"], times[name]))
            difference = max(difference, float((logits["float32"] - logits["pytorchvideo"]).abs().max()))
            for name, views in videos.items():
                best = {m: top5(runs[m], views) for m in ("pytorchvideo", "float32", "fast")}
                agreement.append(best["fast"] == best["pytorchvideo"] == best["float32"])
                print(f"  {name}: top-5 {best['pytorchvideo']}, fast {best['fast']}", flush=True)
            if profile:
                print_profile(_call(runs["fast"], clip))
    return {
        "eval_fast_vs_pytorchvideo": round(min(ratios["fast"]), 2),
        "eval_fp32_vs_pytorchvideo": round(min(ratios["float32"]), 2),
        "max_logit_difference": difference,
        "top5_agreement": sum(agreement) / len(agreement) if agreement else None,
    }


def modes(base: VideoNet) -> dict[str, Run]:
    """The baseline and what is compared with it, each with its own copy of the weights."""
    fused, compiled, fast = (fuse(copy.deepcopy(base)) for _ in range(3))
    compile_net(compiled, frozen=True)
    compile_net(fast, frozen=True)
    return {
        "pytorchvideo": base.forward,
        "fused, float32": fused.forward,
        "fused, bfloat16": _autocast(fused.forward),
        "float32": compiled.forward,
        "fast": _autocast(fast.forward),
    }


def measure_training(widths: tuple[int, ...], rounds: int, eager: bool) -> dict[str, float | None]:
    """Time training steps (forward, loss, backward, SGD) on motions: batch 8, 32 frames of 64 px.

    The best mode whose memory meets its target counts, in the net that data=motions trains.
    """
    result: dict[str, float | None] = {}
    clips, labels = motions(count=8, frames=32, side=64)
    for width in widths:
        spec = I3DSpec(num_classes=len(CLASSES), width=width, window=2, dropout=0.0)
        base = randomized(build_i3d(spec, norm=group_norm_of(width // 2)))
        half = torch.bfloat16
        nets = {name: fuse(copy.deepcopy(base)) for name in ("fused", "fused, bfloat16")}
        low = {name: fuse(copy.deepcopy(base), memory="low") for name in ("low", "low, bfloat16")}
        if not eager:
            nets |= {name: compile_net(fuse(copy.deepcopy(base))) for name in ("compiled", "compiled, bfloat16")}
        steps = {"pytorchvideo": step(base, clips, labels)} | {
            name: step(net, clips, labels, dtype=half if "bfloat16" in name else None)
            for name, net in (nets | low).items()
        }
        for run in steps.values():
            run()
        memory = {name: peak_memory(run) for name, run in steps.items()}
        times = interleaved(steps, rounds)
        print(table(f"training step, motions, width {width}, 8 x 32 frames, 64 px", times, "pytorchvideo"))
        shares = {name: size / memory["pytorchvideo"] for name, size in memory.items()}
        for name, share in shares.items():
            print(f"  {name:22} peak {memory[name] / 2**20:8.1f} MiB  {share:.2f}")
        sys.stdout.flush()
        if not result:
            gains = {name: ratio(times["pytorchvideo"], found) for name, found in times.items()}
            enough = [name for name, share in shares.items() if share <= TARGETS["train_memory_vs_pytorchvideo"][0]]
            best = max(enough or nets, key=gains.__getitem__)
            print(f"  counted: {best}")
            result["train_step_vs_pytorchvideo"] = round(gains[best], 2)
            result["train_memory_vs_pytorchvideo"] = round(shares[best], 2)
    return result


def step(net: nn.Module, clips: Tensor, labels: Tensor, *, dtype: torch.dtype | None = None) -> Callable[[], None]:
    """Return one training step; float32 weights and optimizer, activations in `dtype`."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            loss = nn.functional.cross_entropy(net.forward(clips).float(), labels)
        loss.backward()
        optimizer.step()

    return run


def peak_memory(run: Callable[[], None]) -> int:
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


def interleaved(runs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Run all once per round; return seconds per round. The first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start = CLOCK[0]()
            run()
            times[name].append(CLOCK[0]() - start)
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


def top5(run: Run, views: Tensor) -> list[int]:
    """Return the best classes of a video, from the mean softmax of its clips."""
    scores = torch.stack([run(view[None]).float().softmax(-1)[0] for view in views]).mean(0)
    return sorted(scores.topk(5).indices.tolist())


def real_clips(frames: int, *, count: int) -> dict[str, Tensor]:
    """Ten normalized clips (10, 3, T, 224, 224) of each of some real videos."""
    folder = os.environ.get("VIDGN_TEST_VIDEOS")
    files = sorted(Path(folder, "clips").glob("*.mp4"))[:count] if folder else []
    found = {}
    for file in files:
        with open_video(str(file)) as video:
            starts = [j * len(video) // 10 for j in range(10)]
            places = (np.array(starts)[:, None] + np.arange(frames) * (64 // frames)) % len(video)
            size = scaled_size(video.height, video.width, short_side=224)
            views = torch.from_numpy(video.read(places))  # (10, T, H, W, 3)
        top, left = (size[0] - 224) // 2, (size[1] - 224) // 2
        pictures = resize_all(views.flatten(0, 1).movedim(-1, 1), size)[..., top : top + 224, left : left + 224]
        found[file.name] = Normalize()(pictures.unflatten(0, views.shape[:2]).transpose(1, 2)).contiguous()
    return found


def resize_all(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize uint8 pictures (M, 3, H, W)."""
    wide = nn.functional.interpolate(pictures.float(), size, mode="bilinear", align_corners=False)
    return wide.round().clamp(0, 255).to(torch.uint8)


def motions(*, count: int, frames: int, side: int) -> tuple[Tensor, Tensor]:
    """Normalized clips (B, 3, T, S, S) of the embedded data set and their labels."""
    spec = MotionsSpec(side=side)
    labels = torch.arange(count) % len(CLASSES)
    drawn = [draw_video(CLASSES[label], spec=spec, key=(0, i)) for i, label in enumerate(labels.tolist())]
    clips = torch.stack([torch.from_numpy(video[: 2 * frames : 2]).permute(3, 0, 1, 2) for video in drawn])
    return Normalize()(clips), labels


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


def print_profile(run: Callable[[], Any]) -> None:
    """Print where the time goes."""
    with torch.profiler.profile() as profile:
        run()
    print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=60))


def machine() -> str:
    """Say what was measured on what."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    return f"{model}, {THREADS} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}"


def _call(run: Run, clip: Tensor) -> Callable[[], Tensor]:
    return lambda: run(clip)


def _autocast(run: Run) -> Run:
    def call(clip: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return run(clip)

    return call


if __name__ == "__main__":
    main()
