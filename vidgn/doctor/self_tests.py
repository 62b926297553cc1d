"""What `vidgn doctor` tries on the machine itself: small jobs whose right answer is known."""

import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video
from vidgn.data.transforms import Normalize, resize
from vidgn.data.video import open_video
from vidgn.models.registry import build_net
from vidgn.norms import GroupNorm3d
from vidgn.norms.kernels.operation import group_norm_act, uses_triton

_SHORT = 3.0  # seconds per measurement


def self_tests() -> list[tuple[str, Callable[[], str]]]:
    """Return the tests: a name, and what raises where the machine computes something else than it should."""
    return [
        ("decode", check_decode),
        ("forward", check_forward),
        ("backward", check_backward),
        ("group norm", check_group_norm),
        ("fused kernel", check_kernel),
        ("conv3d bfloat16", check_conv3d),
    ]


def check_decode() -> str:
    """Write a video of known pixels, read three frames of it out of order."""
    frames = draw_video("move_up", spec=MotionsSpec(num_frames=20, side=64), key=(0, 0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test.mp4"
        write_video(path, frames)
        with open_video(path) as reader:
            shown, count = reader.read(np.array([17, 3, 9])), len(reader)
    if count != 20:
        raise RuntimeError(f"20 frames were written and {count} are read")
    error = float(np.abs(shown.astype(int) - frames[[17, 3, 9]].astype(int)).mean())
    if error > 8:  # H.264 in 4:2:0 at crf 22 loses 3 to 4 of 255 here; another frame differs by 20 and more
        raise RuntimeError(f"the frames that are read are not those that were written (mean difference {error:.1f})")
    return f"20 frames, each at its place (mean difference {error:.1f} of 255 by compression)"


def check_forward() -> str:
    """Score the same clip alone and in a batch: group norm makes no difference between them."""
    net = _tiny_net().eval()
    clips = torch.rand(3, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0), device="cpu").to(_device())
    with torch.inference_mode():
        together, alone = net(clips), net(clips[1:2])
    difference = float((together[1] - alone[0]).abs().max())
    if not math.isfinite(difference) or difference > 1e-3:
        raise RuntimeError(f"a clip has other scores in a batch than alone (difference {difference:.1e})")
    return f"finite, the same alone and in a batch (difference {difference:.0e})"


def check_backward() -> str:
    """Fit four clips for ten steps: the loss must fall."""
    torch.manual_seed(0)
    net = _tiny_net()
    clips = torch.rand(4, 3, 8, 32, 32, device=_device())
    labels = torch.arange(4, device=_device())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(clips), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    if not losses[-1] < losses[0]:
        raise RuntimeError(f"ten steps of training take the loss from {losses[0]:.3f} to {losses[-1]:.3f}")
    return f"the loss falls from {losses[0]:.2f} to {losses[-1]:.2f} in ten steps"


def check_group_norm() -> str:
    """Compare group norm with Eq. 7 written out in float64."""
    x = torch.randn(2, 32, 4, 7, 7, generator=torch.Generator().manual_seed(0)) * 3 + 5
    worst = 0.0
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        layer = GroupNorm3d(32, num_groups=8).to(_device())
        with torch.inference_mode():
            ours = layer(x.to(_device()).contiguous(memory_format=layout)).double().cpu()
        worst = max(worst, float((ours - _equation_7(x.double(), 8)).abs().max()))
    if not worst < 1e-4:
        raise RuntimeError(f"group norm is off by {worst:.1e} from Eq. 7 in float64")
    return f"both memory layouts within {worst:.0e} of Eq. 7 in float64"


def check_kernel() -> str:
    """Compare group norm, sum and ReLU as one operation with Eq. 7 in float64, forward and backward."""
    generator = torch.Generator().manual_seed(0)
    shape, groups, worst = (2, 32, 4, 7, 7), 8, 0.0
    x, residual, slope = (torch.randn(shape, generator=generator) for _ in range(3))
    weight, bias = (torch.randn(32, generator=generator) for _ in range(2))
    exact = [value.double().requires_grad_() for value in (x, weight, bias, residual)]
    scale = (weight.shape[0], 1, 1, 1)
    wanted = (_equation_7(exact[0], groups) * exact[1].view(scale) + exact[2].view(scale) + exact[3]).relu()
    wanted_slopes = torch.autograd.grad(wanted, exact, slope.double())
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        inputs = [value.to(_device()) for value in (x, weight, bias, residual)]
        inputs = [value.contiguous(memory_format=layout) if value.dim() == 5 else value for value in inputs]
        inputs = [value.requires_grad_() for value in inputs]
        ours, scales, shifts, added = inputs
        output = group_norm_act(ours, scales, shifts, groups, 1e-5, added, True)
        slopes = torch.autograd.grad(output, inputs, slope.to(_device()))
        pairs = [(output, wanted), *zip(slopes, wanted_slopes, strict=True)]
        worst = max([worst, *(_difference(one, other) for one, other in pairs)])
    kind = "Triton" if uses_triton(x.to(_device())) else "torch's operations"
    if not worst < 1e-4:
        raise RuntimeError(f"the fused group norm ({kind}) is off by {worst:.1e} from Eq. 7; set VIDGN_KERNELS=off")
    return f"{kind}: forward and backward within {worst:.0e} of Eq. 7 in float64"


def check_conv3d() -> str:
    """Compare a 3-D convolution in bfloat16 with float32."""
    x = torch.randn(1, 16, 4, 14, 14, generator=torch.Generator().manual_seed(0)).to(_device())
    conv = nn.Conv3d(16, 16, (3, 1, 1), padding=(1, 0, 0), bias=False).to(_device())
    with torch.inference_mode():
        wanted = conv(x)
        output = conv.bfloat16()(x.bfloat16()).float()
    error = float((output - wanted).abs().max() / wanted.abs().max())
    if not error < 0.03:
        raise RuntimeError(f"Conv3d in bfloat16 is off by {error:.0%} of the largest value; train in float32")
    return f"within {error:.1%} of float32"


def measure() -> list[tuple[str, Literal["info"], str, str]]:
    """Measure reading against training and recommend data type, layout and number of workers.

    On a GPU the net is the paper's (32 x 224 x 224), on a CPU that of data=motions (width 16, 32 x 64 x 64).

    Returns:
        Checks as (name, status, found, advice).
    """
    job = training_job()
    read, rates = _reading_rate(job.side), training_rates(job)
    best = max(rates, key=lambda key: rates[key])
    net, cores = rates[best], len(os.sched_getaffinity(0))
    workers = max(1, min(cores, math.ceil(net / read)))
    limit = "the net" if read * workers >= net else "reading"
    clips = f"clips of 32 frames, {job.side} px, width {job.width}"
    table = ", ".join(f"{name} {_layout_name(layout)} {rate:.2f}" for (name, layout), rate in rates.items())
    precision = "bf16-mixed" if best[0] == "bfloat16" else "32-true"
    rate = f"{workers} workers read {read * workers:.1f}, the net takes {net:.2f} clips/s"
    advice = f"trainer.precision={precision} data.num_workers={workers}; {_layout_name(best[1])} was the faster layout"
    return [
        ("reading", "info", f"{read:.1f} clips/s per core ({clips}, 320x240 H.264)", ""),
        ("training", "info", f"clips/s: {table}", ""),
        ("limit", "info", f"{limit}: {rate}", advice),
    ]  # fmt: skip


class TrainingJob(NamedTuple):
    """The training step that is timed: side of its clips (px), channels of the stem, clips."""

    side: int
    width: int
    batch: int


def training_job() -> TrainingJob:
    """Return the paper's net on a GPU, that of data=motions on a CPU."""
    return TrainingJob(224, 64, 8) if _device().type == "cuda" else TrainingJob(64, 16, 2)


def training_rates(job: TrainingJob) -> dict[tuple[str, torch.memory_format], float]:
    """Return clips per second of a training step, by data type (float32, bfloat16) and memory layout."""
    return {
        (name, layout): _training_rate(job.side, job.width, job.batch, dtype, layout)
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
        for layout in (torch.contiguous_format, torch.channels_last_3d)
    }


def _reading_rate(side: int) -> float:
    """Return clips per second that one core decodes and resizes from a 320x240 video."""
    noise = np.random.default_rng(0).integers(0, 256, (15, 20, 3), np.uint8)
    frame = np.kron(noise, np.ones((16, 16, 1), np.uint8))
    frames = np.stack([np.roll(frame, 3 * shift, axis=1) for shift in range(80)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speed.mp4"
        write_video(path, frames)
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < _SHORT:
            with open_video(path) as reader:
                resize(reader.read(np.arange(0, 64, 2)), size=(side, side * 4 // 3))
            done += 1
    return done / (time.perf_counter() - began)


def _training_rate(side: int, width: int, batch: int, dtype: torch.dtype, layout: torch.memory_format) -> float:
    """Return clips per second of forward and backward, after one step to warm up."""
    net = _net(width=width, side=side).to(_device()).to(memory_format=layout)
    clips = torch.zeros(batch, 3, 32, side, side, dtype=torch.uint8, device=_device())
    normalize = Normalize().to(_device())

    def step() -> None:
        with torch.autocast(_device().type, dtype, enabled=dtype != torch.float32):
            loss = net(normalize(clips).contiguous(memory_format=layout)).float().square().mean()
        loss.backward()
        _wait()

    step()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < _SHORT:
        step()
        done += batch
    return done / (time.perf_counter() - began)


def _difference(output: Tensor, wanted: Tensor) -> float:
    """Return the largest difference, of the largest value."""
    output, wanted = output.detach().double().cpu(), wanted.detach()
    return float((output - wanted).abs().max() / wanted.abs().max())


def _equation_7(x: Tensor, num_groups: int) -> Tensor:
    grouped = x.reshape(x.shape[0], num_groups, -1)
    mean = grouped.mean(2, keepdim=True)
    variance = (grouped - mean).square().mean(2, keepdim=True)
    return ((grouped - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)


def _tiny_net() -> nn.Module:
    return _net(width=8, side=32).to(_device())


def _net(*, width: int, side: int) -> nn.Module:
    model = {"name": "i3d_r50", "width": width, "dropout": 0.0, "pool1": "nonlocal"}
    return build_net(model=model, norm={"name": "gn"}, crop=side, num_classes=8)


def _layout_name(layout: torch.memory_format) -> str:
    return "channels_last_3d" if layout == torch.channels_last_3d else "contiguous"


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
