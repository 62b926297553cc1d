"""Check the Triton kernels against torch on the GPU at hand, time both, and record the result for `fuse=auto`."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vidgn.norms.kernels.operation import group_norm_act
from vidgn.norms.kernels.record import KernelCheck, gpu_name, machine_key, write_check

ROUNDS = 9  # the first two warm up
# Of the L2 norm. bfloat16 rounds at 1.7e-3; in float32 a ReLU may flip where its input is nearly 0.
LIMITS: Mapping[torch.dtype, float] = {torch.bfloat16: 5e-3, torch.float32: 2e-3}


class NormSite(NamedTuple):
    """A norm of the net: (N, C, T, H, W), its groups, and whether a residual is added."""

    shape: tuple[int, ...]
    groups: int
    residual: bool


# Norms of the I3D-R50 at 2 x 32 x 224 x 224, from the stem to res5.
SITES = (
    NormSite((2, 64, 16, 112, 112), 32, False),
    NormSite((2, 256, 8, 55, 55), 32, True),
    NormSite((2, 128, 4, 28, 28), 32, False),
    NormSite((2, 1024, 4, 14, 14), 32, True),
    NormSite((2, 2048, 4, 7, 7), 32, True),
)


def check_gpu_kernels() -> list[tuple[str, Literal["ok", "info", "warn"], str, str]]:
    """Check, time and record the kernels on the current CUDA GPU.

    Returns:
        One line of the report as (name, status, found, advice); nothing without a GPU.
    """
    gpu = gpu_name()
    if gpu is None:
        return []
    check = compare_and_time(torch.device("cuda"))
    path = write_check(machine_key(gpu), check)
    if not check.passed:
        advice = "fuse=auto takes torch's operations; please report this line"
        return [("triton kernels", "warn", f"not those of torch: {check.detail}", advice)]
    measured = f"{check.speedup:.2f}x as fast as torch's operations, forward and backward; {check.detail}"
    choice = "takes them here" if check.chooses_kernels else "takes torch's operations, fuse=true the kernels"
    status: Literal["ok", "info"] = "ok" if check.chooses_kernels else "info"
    return [("triton kernels", status, measured, f"recorded in {path}: fuse=auto {choice}")]


def compare_and_time(device: torch.device, *, sites: Sequence[NormSite] = SITES) -> KernelCheck:
    """Compare the kernels with torch in float64 at every site and, if they agree, time them against torch.

    An error of any kind is a failed check.
    """
    worst = 0.0
    try:
        for site in sites:
            for dtype, limit in LIMITS.items():
                for name, error in _errors(site, dtype, device).items():
                    if not error <= limit:
                        where = f"{name} of {'x'.join(map(str, site.shape))} in {str(dtype)[6:]}"
                        return KernelCheck(False, 0.0, f"{where} is off by {error:.1e}, allowed is {limit:.0e}")
                    worst = max(worst, error)
        speedup = _speedup(sites, device)
    except Exception as err:  # a compiler, a driver or a full memory: all are reasons not to choose the kernels
        line = (str(err).strip().splitlines() or ["no message"])[0][:200]
        return KernelCheck(False, 0.0, f"{type(err).__name__}: {line}")
    return KernelCheck(True, speedup, f"within {worst:.0e} of float64")


def _errors(site: NormSite, dtype: torch.dtype, device: torch.device) -> dict[str, float]:
    """Return the relative errors of the output and of every gradient."""
    inputs = _draw(site, dtype, device)
    exact = [value.detach().double().contiguous().requires_grad_() for value in inputs]
    y, wanted = _fused(site, inputs), _torch(site, exact)
    slope = torch.randn(site.shape, generator=torch.Generator().manual_seed(1)).to(device, dtype)
    slopes = torch.autograd.grad(y, inputs, slope)
    wanted_slopes = torch.autograd.grad(wanted, exact, slope.double())
    names = ("y", "dx", "dweight", "dbias", "dresidual")
    pairs = zip(names, (y, *slopes), (wanted, *wanted_slopes), strict=False)
    return {name: _relative(one.detach().double(), other.detach()) for name, one, other in pairs}


def _relative(value: Tensor, exact: Tensor) -> float:
    return float((value - exact).norm() / exact.norm())


def _speedup(sites: Sequence[NormSite], device: torch.device) -> float:
    """Return torch's time over the kernels', both summed over the sites; of torch's ways the fastest counts."""
    ours = theirs = 0.0
    for site in sites:
        last = _draw(site, torch.bfloat16, device)
        plain = [value.detach().contiguous().requires_grad_() for value in last]
        half = [value.detach().bfloat16().requires_grad_() for value in plain]
        ways: dict[str, Callable[[], Tensor]] = {
            "kernels": lambda site=site, last=last: _fused(site, last),  # type: ignore[misc]
            "autocast": lambda site=site, plain=plain: _autocast(site, plain),  # type: ignore[misc]
            "bfloat16": lambda site=site, half=half: _torch(site, half),  # type: ignore[misc]
        }
        leaves = {"kernels": last, "autocast": plain, "bfloat16": half}
        rounds = [{name: _seconds(way, leaves[name], device) for name, way in ways.items()} for _ in range(ROUNDS)]
        medians = {name: statistics.median(times[name] for times in rounds[2:]) for name in ways}
        ours += medians["kernels"]
        theirs += min(medians["autocast"], medians["bfloat16"])
    return theirs / ours


def _seconds(way: Callable[[], Tensor], leaves: list[Tensor], device: torch.device) -> float:
    """Return how long forward and backward take."""
    _wait(device)
    began = time.perf_counter()
    y = way()
    torch.autograd.grad(y, leaves, torch.ones_like(y))
    _wait(device)
    return time.perf_counter() - began


def _draw(site: NormSite, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Return x, weight, bias and, if the site has one, the residual; x and the residual channels-last."""
    generator = torch.Generator().manual_seed(0)
    x, residual = (torch.randn(site.shape, generator=generator) + shift for shift in (2.0, 0.0))
    weight, bias = (torch.rand(site.shape[1], generator=generator) + 0.5 for _ in range(2))
    clips = [value.to(device, dtype, memory_format=torch.channels_last_3d) for value in (x, residual)]
    values = [clips[0], weight.to(device), bias.to(device), *clips[1 : 1 + site.residual]]
    return [value.requires_grad_() for value in values]


def _fused(site: NormSite, values: list[Tensor]) -> Tensor:
    x, weight, bias, *residual = values
    return group_norm_act(x, weight, bias, site.groups, 1e-5, residual[0] if residual else None, True)


def _torch(site: NormSite, values: list[Tensor]) -> Tensor:
    x, weight, bias, *residual = values
    y = F.group_norm(x, site.groups, weight, bias, 1e-5)
    return (y + residual[0] if residual else y).relu()


def _autocast(site: NormSite, values: list[Tensor]) -> Tensor:
    with torch.autocast(values[0].device.type, torch.bfloat16):
        return _torch(site, values)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
