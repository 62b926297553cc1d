"""Time the net on this machine's CPU against the same net as pytorchvideo runs it.

    VIDGN_TEST_VIDEOS=DIR python benchmarks/net.py --quick --json     # 32 frames, 64 px: under five minutes when idle
    VIDGN_TEST_VIDEOS=DIR python benchmarks/net.py --json             # 32 and 64 frames, 64 and 96 px

The baseline is pytorchvideo's create_resnet (as `build_i3d` calls it) with nn.GroupNorm, eager, contiguous, float32;
contestants have its weights. It runs in a process of its own, as torch leaves it; ours keep the memory they free, as
train.py and eval.py do (keep_memory=auto), and a second baseline does so beside them. Every round runs all of them
once, one after the other; a ratio is the median of the rounds' ratios. Two threads. The last line is the result as
JSON if --json is given.
"""

import argparse
import copy
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import net_rounds
import numpy as np
import torch
from net_engines import engines
from net_peer import Peer
from net_rounds import group_norm_of, interleaved, randomized, ratio, table
from net_train import CASES, KEPT, QUICK_CASES, measure_training
from torch import Tensor, nn

from vidgn.data.transforms import Normalize, scaled_size
from vidgn.data.video import open_video
from vidgn.models.builders import I3DSpec, VideoNet, build_i3d
from vidgn.models.fuse.compile import compile_net
from vidgn.models.fuse.int8 import quantize
from vidgn.models.fuse.rewrite import fuse
from vidgn.runs.allocator import keep_memory

THREADS = 2
FAST = ("bfloat16", "eight bits")  # modes that round more than float32
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
    parser.add_argument("--quick", action="store_true", help="32 frames; no clips of 96 px in training")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, last")
    parser.add_argument("--rounds", type=int, default=7, help="of the evaluation")
    parser.add_argument("--only", choices=("eval", "train"))
    parser.add_argument("--compile", action="store_true", help="training: compiled nets, too, which takes minutes")
    parser.add_argument("--engines", action="store_true", help="evaluation: ONNX Runtime and OpenVINO, if installed")
    parser.add_argument(
        "--cpu", action="store_true", help="CPU seconds, for a machine that is never quiet (see net.md)"
    )
    parser.add_argument("--profile", action="store_true", help="print where the time of the fast modes goes")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    net_rounds.CLOCK[0] = time.process_time if args.cpu else time.perf_counter
    keep_memory()
    print(machine(), flush=True)
    result: dict[str, float | str | None] = {}
    if args.only != "eval":
        cases = QUICK_CASES if args.quick else CASES
        result |= measure_training(cases, compiled=args.compile, threads=THREADS, cpu=args.cpu)
    if args.only != "train":
        result |= measure_evaluation(
            (32,) if args.quick else (32, 64), args.rounds, profile=args.profile, others=args.engines, cpu=args.cpu
        )
    for name, (target, sense) in TARGETS.items():
        if name in result:
            value = result[name]
            reached = isinstance(value, float) and (value >= target if sense == "at least" else value <= target)
            print(f"{name:32} {value}  {sense} {target}: {'reached' if reached else 'SHORT'}")
    if args.json:
        print(json.dumps(result))


def measure_evaluation(
    lengths: tuple[int, ...], rounds: int, *, profile: bool, others: bool, cpu: bool
) -> dict[str, float | str | None]:
    """Time one clip of 224 px per mode, and compare the classes of real videos, ten clips each.

    The fast mode is the fastest whose five best classes are those of the baseline for every video.
    """
    spec = I3DSpec(num_classes=400, window=7, dropout=0.0)
    base = randomized(build_i3d(spec, norm=group_norm_of(32))).eval()
    ratios: dict[str, list[float]] = {}
    agreement: dict[str, list[bool]] = {name: [] for name in FAST}
    difference = 0.0
    for frames in lengths:
        videos = real_clips(frames, count=2)
        clip = next(iter(videos.values()))[:1] if videos else torch.randn(1, 3, frames, 224, 224)
        with torch.inference_mode(), Peer(spec, groups=32, threads=THREADS, cpu=cpu) as peer:
            peer.load(base.state_dict())
            runs = modes(base, eager=frames == lengths[0])
            runs |= engines(base, clip, threads=THREADS) if others else {}
            logits = {name: run(clip) for name, run in runs.items()}  # compiles
            calls: dict[str, Callable[[], Any]] = {"pytorchvideo": peer.evaluate(clip)}
            times = interleaved(calls | {name: _call(run, clip) for name, run in runs.items()}, rounds)
            print(table(f"evaluation, one clip of {frames} frames, 224 px", times, "pytorchvideo"), flush=True)
            for name in ("float32", *FAST):
                ratios.setdefault(name, []).append(ratio(times["pytorchvideo"], times[name]))
            difference = max(difference, float((logits["float32"] - logits[KEPT]).abs().max()))
            for name, views in videos.items():
                best = {m: top5(runs[m], views) for m in (KEPT, "float32", *FAST)}
                for mode in FAST:
                    agreement[mode].append(best[mode] == best[KEPT] == best["float32"])
                print(f"  {name}: top-5 {best}", flush=True)
            if profile:
                for mode in FAST:
                    print_profile(_call(runs[mode], clip))
    speed = {name: round(min(found), 2) for name, found in ratios.items()}
    agrees = {mode: sum(agreement[mode]) / len(agreement[mode]) if agreement[mode] else None for mode in FAST}
    mode = max(FAST, key=lambda name: (agrees[name] in (None, 1.0), speed[name]))
    return {
        "eval_fast_mode": mode,
        "eval_fast_vs_pytorchvideo": speed[mode],
        "eval_bfloat16_vs_pytorchvideo": speed["bfloat16"],
        "eval_fp32_vs_pytorchvideo": speed["float32"],
        "max_logit_difference": difference,
        "top5_agreement": agrees[mode],
    }


def modes(base: VideoNet, *, eager: bool) -> dict[str, Run]:
    """The baseline and what is compared with it, each with its own copy of the weights."""
    fused, compiled, half, eight = (fuse(copy.deepcopy(base)) for _ in range(4))
    quantize(eight, torch.randn(1, 3, 32, 64, 64))
    for net in (compiled, half, eight):
        compile_net(net, frozen=True)
    runs: dict[str, Run] = {KEPT: base.forward}
    if eager:
        runs |= {"fused, float32": fused.forward, "fused, bfloat16": _autocast(fused.forward)}
    return runs | {
        "float32": compiled.forward,
        "bfloat16": _autocast(half.forward),
        "eight bits": _autocast(eight.forward),
    }


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
