"""Time kernels, training steps and evaluation on one CUDA GPU against torch's own, naive and at its best.

    python benchmarks/gpu.py               # the whole table, under eight minutes
    python benchmarks/gpu.py --tune        # rows for vidgn/norms/kernels/triton_cuts.py: which regime, how it is cut
    TRITON_INTERPRET=1 python benchmarks/gpu.py --dry    # the same code on tiny shapes, without a GPU

Needs torch (2.11 or newer), triton and vidgn; no decoder. Baselines are the nets that pytorchvideo's create_resnet
builds (as `build_i3d` calls it):

    B0  nn.GroupNorm, autocast bfloat16, contiguous        what one writes first
    B1  B0, channels-last
    B2  B1 with group norm in bfloat16, contiguous and channels-last
    B3  torch.compile of B1 and of B2, channels-last: the best counts
    B4  batch norm, channels-last

Contestants take turns in every round; ratios are medians of the rounds' ratios. Correctness against float64 comes
first, and nothing is timed if it fails.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import gpu_kernels
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidgn.models.builders import I3DSpec, build_i3d
from vidgn.models.fuse.rewrite import fuse
from vidgn.models.fuse.tune import tune as tune_convolutions
from vidgn.norms.kernels import operation

LIMIT_SECONDS = 450  # after which no further contestant is started


class Size(NamedTuple):
    """What is measured: frames, clips, side, channels of the stem."""

    frames: int
    batch: int
    side: int
    width: int


class Way(NamedTuple):
    """One way to run the net."""

    net: nn.Module
    dtype: torch.dtype | None  # of autocast
    last: bool  # channels-last input
    compiled: bool = False


def main() -> None:
    """Check, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tune", action="store_true", help="print rows for kernels_table.py")
    parser.add_argument("--dry", action="store_true", help="tiny shapes on the CPU, kernels interpreted")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, last")
    args = parser.parse_args()
    if not args.dry and not torch.cuda.is_available():
        raise SystemExit("There is no CUDA GPU here; --dry runs the same code on the CPU (TRITON_INTERPRET=1).")
    if args.dry and not operation.INTERPRETED:
        raise SystemExit("--dry runs the kernels in Triton's interpreter; set TRITON_INTERPRET=1.")
    device = torch.device("cpu" if args.dry else "cuda")
    torch.backends.cudnn.benchmark = True
    began = time.monotonic()
    print(machine(device), flush=True)
    sizes = [Size(8, 2, 32, 8)] if args.dry else [Size(64, 4, 224, 64), Size(32, 8, 224, 64)]
    result: dict[str, Any] = {}
    frames, batch, side, width = sizes[0]
    sites = gpu_kernels.find_sites(frames=frames, batch=batch, side=side, width=width)
    operation.MODE = "on"
    few = [sites[0], next(site for site in sites if site.residual)] if args.dry else sites
    print("relative errors against float64:", gpu_kernels.check(few, device), flush=True)
    if args.tune:
        print_rows(gpu_kernels.tune(few, device, candidates=gpu_kernels.CANDIDATES[:4:3] if args.dry else None))
        return
    result |= measure_kernels(few, device, dry=args.dry)
    operation.MODE = "auto"
    for size in sizes:
        result |= measure_nets(size, device, left=lambda: LIMIT_SECONDS - (time.monotonic() - began))
    print(f"{time.monotonic() - began:.0f} s in all")
    if args.json:
        print(json.dumps(result))


def measure_kernels(sites: list[gpu_kernels.NormSite], device: torch.device, *, dry: bool) -> dict[str, Any]:
    """Print the bandwidth of every site as a share of a copy's; return what the targets ask for."""
    copied = gpu_kernels.copy_bandwidth(device, elements=2**12 if dry else 2**28)
    print(
        f"copy: {copied / 1e12:.2f} TB/s\n{'site':>34} {'fwd us':>8} {'bwd us':>8} {'of copy':>8}  eager  amp  compiled"
    )
    totals: dict[str, float] = {"bytes": 0.0, "fused": 0.0, "eager": 0.0, "amp": 0.0}
    shares = []
    for row in gpu_kernels.time_sites(sites, device, compiled=lambda way: compiler(device)(way)):
        site = row["site"]
        moved = site.bytes_moved("forward") + site.bytes_moved("backward")
        share = moved / sum(row["fused"]) / copied
        gains = [f"{sum(row[name]) / sum(row['fused']):5.2f}x" for name in ("eager", "amp", "compiled") if name in row]
        forward, backward = (1e6 * t for t in row["fused"])
        print(
            f"{site.count:2} of {'x'.join(map(str, site.shape)):>28} {forward:8.1f} {backward:8.1f} {share:8.0%}",
            *gains, flush=True,
        )  # fmt: skip
        if row["big"]:
            shares.append((moved, share))
        totals["bytes"] += site.count * moved
        for name in ("fused", "eager", "amp"):
            totals[name] += site.count * sum(row[name])
    big = sum(m for m, _ in shares) / sum(m / s for m, s in shares) if shares else None
    return {
        "kernel_share_of_copy_big_sites": big,
        "kernel_share_of_copy_all_sites": totals["bytes"] / totals["fused"] / copied,
        "kernel_vs_eager_bf16": totals["eager"] / totals["fused"],
        "kernel_vs_eager_amp": totals["amp"] / totals["fused"],
    }


def measure_nets(size: Size, device: torch.device, *, left: Callable[[], float]) -> dict[str, Any]:
    """Time training steps and evaluation of every way that the time left allows; print and return the ratios."""
    name = f"{size.frames}f_b{size.batch}"
    found: dict[str, dict[str, Any]] = {}
    for label, build in ways(size, device).items():
        if left() < (90 if "B3" in label else 20):
            print(f"{name} {label}: left out, the time is used up", flush=True)
            continue
        found[label] = measure_way(build(), size, device)
        torch._dynamo.reset()
        print(f"{name} {label:34}", {key: round(value, 4) for key, value in found[label].items()}, flush=True)
    best = {key: min(row[key] for label, row in found.items() if "B3" in label and key in row) for key in KEYS
            if any("B3" in label and key in row for label, row in found.items())}  # fmt: skip
    ours = found["vidgn"]
    ratios = {"vs_B0": found.get("B0 GN, autocast, contiguous"), "vs_best_compile": best, "vs_B4": found.get("B4 BN")}
    return {
        f"{name}_{key}_{label}": round(row[key] / ours[key], 3)
        for label, row in ratios.items() for key in KEYS if row and key in row and key in ours
    }  # fmt: skip


KEYS = ("step_ms", "step_graph_ms", "peak_gb", "eval_ms")


def ways(size: Size, device: torch.device) -> dict[str, Callable[[], Way]]:
    """Return how to build each contestant, in the order of their weight; all start from one seed."""
    half = torch.bfloat16

    def build(norm: Callable[..., nn.Module]) -> nn.Module:
        torch.manual_seed(0)
        spec = I3DSpec(num_classes=400, width=size.width, window=max(1, size.side // 32), dropout=0.0)
        return build_i3d(spec, norm=norm).to(device)

    def ours(memory: str) -> nn.Module:
        net = fuse(build(group_norm(size)), memory=memory)  # type: ignore[arg-type]
        if device.type == "cuda":
            clip = torch.empty(size.batch, 3, size.frames, size.side, size.side, device=device)
            with torch.autocast(device.type, half):
                tune_convolutions(net.train(), clip)
        return net

    return {
        "vidgn": lambda: Way(ours("normal"), half, True),
        "B0 GN, autocast, contiguous": lambda: Way(build(group_norm(size)), half, False),
        "B4 BN": lambda: Way(build(nn.BatchNorm3d), half, True),
        "B2 GN in bfloat16, channels-last": lambda: Way(build(group_norm(size, narrow=True)), half, True),
        "B3 compiled B2": lambda: Way(build(group_norm(size, narrow=True)), half, True, True),
        "vidgn, memory=low": lambda: Way(ours("low"), half, True),
        "vidgn, compiled": lambda: Way(ours("normal"), half, True, True),
        "B1 GN, autocast, channels-last": lambda: Way(build(group_norm(size)), half, True),
        "B2 GN in bfloat16, contiguous": lambda: Way(build(group_norm(size, narrow=True)), half, False),
        "B3 compiled B1": lambda: Way(build(group_norm(size)), half, True, True),
    }


def measure_way(way: Way, size: Size, device: torch.device) -> dict[str, float]:
    """Return milliseconds of a step (launched one by one, and replayed), its peak memory, and of an evaluation."""
    net = way.net.to(memory_format=torch.channels_last_3d) if way.last else way.net
    forward = compiler(device)(net.forward) if way.compiled else net.forward
    clips = torch.randn(size.batch, 3, size.frames, size.side, size.side, device=device)
    clips = clips.contiguous(memory_format=torch.channels_last_3d) if way.last else clips
    labels = torch.zeros(size.batch, dtype=torch.long, device=device)
    optimizer = torch.optim.SGD(net.train().parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(
            device.type, way.dtype or torch.bfloat16, enabled=way.dtype is not None, cache_enabled=False
        ):
            loss = F.cross_entropy(forward(clips).float(), labels)
        loss.backward()
        optimizer.step()

    def test() -> Tensor:
        with torch.no_grad(), torch.autocast(device.type, way.dtype or torch.bfloat16, cache_enabled=False):
            return forward(clips)

    found: dict[str, float] = {}
    for _ in range(3 if device.type == "cuda" else 1):
        step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    found["step_ms"] = 1e3 * gpu_kernels.seconds([step] * (5 if device.type == "cuda" else 1), device)
    if device.type == "cuda":
        found["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
        found["step_graph_ms"] = 1e3 * gpu_kernels.seconds([replayed(step)] * 5, device)
    net.eval()
    found["eval_ms"] = 1e3 * gpu_kernels.seconds([test] * (5 if device.type == "cuda" else 1), device)
    found["eval_clips_per_second"] = 1e3 * size.batch / found["eval_ms"]
    return found


def replayed(step: Callable[[], Any]) -> Callable[[], None]:
    """Return a step that is replayed as one launch (CUDA graph); shapes and addresses stay."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def group_norm(size: Size, *, narrow: bool = False) -> Callable[..., nn.Module]:
    """Return a builder of nn.GroupNorm with the paper's groups; `narrow` computes it in the dtype of its input."""

    def build(num_features: int, *, eps: float = 1e-5, momentum: float | None = 0.1) -> nn.Module:
        return (NarrowGroupNorm if narrow else nn.GroupNorm)(size.width // 2, num_features, eps)

    return build


class NarrowGroupNorm(nn.GroupNorm):
    """Group norm that autocast leaves alone, as timm's fast_group_norm does."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize in the dtype of the input."""
        with torch.autocast(input.device.type, enabled=False):
            weight, bias = (t.to(input.dtype) for t in (self.weight, self.bias))
            return F.group_norm(input, self.num_groups, weight, bias, self.eps)


def compiler(device: torch.device) -> Callable[..., Any]:
    """Return torch.compile; in a dry run, what is compiled there is run as it is."""
    return torch.compile if device.type == "cuda" else lambda function: function


def print_rows(rows: dict[Any, Any]) -> None:
    """Print the rows as they stand in kernels_table.py."""
    print("MEASURED: dict[tuple[str, bool, int, int, int], Cut] = {")
    for key, cut in rows.items():
        print(f"    {key!r}: {cut!r},")
    print("}")


def machine(device: torch.device) -> str:
    """Say what was measured on what."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "CPU"
    triton = __import__("triton").__version__
    cudnn = torch.backends.cudnn.version() if device.type == "cuda" else None
    return f"{name}, torch {torch.__version__}, triton {triton}, CUDA {torch.version.cuda}, cuDNN {cudnn}"


if __name__ == "__main__":
    main()
