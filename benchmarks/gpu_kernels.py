"""The fused group norm by itself: right against float64, then timed against a copy; part of `gpu.py`."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from vidgn.models.builders import I3DSpec, build_i3d
from vidgn.models.fuse.rewrite import fuse
from vidgn.norms import make_norm
from vidgn.norms.fused import GroupNormAct3d
from vidgn.norms.kernels import operation, triton_cuts
from vidgn.norms.kernels.operation import group_norm_act
from vidgn.norms.kernels.triton_cuts import Cut, Direction, Site, row_key

BIG_BYTES = 60e6  # what does not fit the second-level cache of an H200
LIMITS = {"y": 2e-3, "dx": 2.5e-3, "dweight": 1e-4, "dbias": 1e-4, "dresidual": 2e-3}  # bfloat16 rounds at 1.7e-3


class NormSite(NamedTuple):
    """A norm of the net: how many are alike, shape (N, C, T, H, W), groups, and what follows it."""

    count: int
    shape: tuple[int, ...]
    groups: int
    residual: bool
    relu: bool

    def bytes_moved(self, direction: Direction, itemsize: int = 2) -> int:
        """Return what the two-pass kernels read and write (docs/kernels.md): 3 and 5 tensors, or 4 and 7."""
        tensors = {"forward": 3 + self.residual, "backward": 5 + 2 * self.residual}[direction]
        return tensors * itemsize * int(torch.Size(self.shape).numel())


def find_sites(*, frames: int, batch: int, side: int, width: int = 64) -> list[NormSite]:
    """Walk the net without computing anything and list its different norms."""
    norm = make_norm("gn", num_groups=width // 2)
    spec = I3DSpec(num_classes=2, width=width, window=max(1, side // 32))
    seen: list[tuple[tuple[int, ...], int, bool, bool]] = []

    def note(layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
        assert isinstance(layer, GroupNormAct3d)
        seen.append((tuple(args[0].shape), layer.num_groups, kwargs.get("residual") is not None, layer.relu))

    net = fuse(build_i3d(spec, norm=norm)).eval()
    for module in net.modules():
        if isinstance(module, GroupNormAct3d):
            module.register_forward_pre_hook(note, with_kwargs=True)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        net(torch.empty(batch, 3, frames, side, side))
    return [NormSite(seen.count(site), *site) for site in dict.fromkeys(seen)]


def check(sites: list[NormSite], device: torch.device) -> dict[str, float]:
    """Compare with float64 at every site, one sample each; return the largest relative errors.

    Raises:
        ValueError: an error beyond its limit.
    """
    worst = dict.fromkeys(LIMITS, 0.0)
    for site in sites:
        inputs = draw(site._replace(shape=(1, *site.shape[1:])), device, requires_grad=True)
        exact = [None if t is None else t.detach().double().contiguous().requires_grad_() for t in inputs]
        got, wanted = _forward(site, inputs), _reference(site, exact)
        dy = torch.randn_like(got)
        names = [name for name, t in zip(("dx", "dweight", "dbias", "dresidual"), inputs, strict=True) if t is not None]
        pairs = zip(
            ["y", *names],
            [got, *torch.autograd.grad(got, [t for t in inputs if t is not None], dy)],
            [wanted, *torch.autograd.grad(wanted, [t for t in exact if t is not None], dy.double().contiguous())],
            strict=True,
        )
        for name, a, b in pairs:
            worst[name] = max(worst[name], float((a.detach().double() - b.detach()).norm() / b.detach().norm()))
    for name, error in worst.items():
        # The interpreter truncates to bfloat16 where a GPU rounds: twice the error.
        limit = LIMITS[name] * (2.5 if operation.INTERPRETED and name in ("y", "dx", "dresidual") else 1)
        if not error <= limit:
            raise ValueError(f"{name} is wrong by {error:.1e}; {limit:.0e} is allowed. Nothing was timed.")
    return worst


def draw(site: NormSite, device: torch.device, *, requires_grad: bool = False) -> list[Tensor | None]:
    """Return x, weight, bias and the residual, channels-last, bfloat16 with float32 weights."""
    x, rest = (torch.randn(site.shape, device=device, dtype=torch.bfloat16) + shift for shift in (2.0, 0.0))
    weight, bias = (torch.rand(site.shape[1], device=device) + 0.5 for _ in range(2))
    tensors = [_last(x), weight, bias, _last(rest) if site.residual else None]
    return [None if t is None else t.requires_grad_(requires_grad) for t in tensors]


def copy_bandwidth(device: torch.device, *, elements: int) -> float:
    """Return the bytes per second that a copy reads and writes."""
    source = torch.randn(elements, device=device).bfloat16()
    target = torch.empty_like(source)
    return 4 * elements / seconds([lambda: target.copy_(source)], device)


def time_sites(
    sites: list[NormSite], device: torch.device, *, compiled: Callable[..., Any]
) -> Iterator[dict[str, Any]]:
    """Yield a row per site: seconds of the fused op and of torch's sequence in bfloat16, under autocast, compiled."""
    for site in sites:
        big = 2 * torch.Size(site.shape).numel() > BIG_BYTES
        ways: dict[str, Callable[..., Tensor]] = {"fused": _forward, "eager": _eager, "amp": _amp}
        if big:
            ways["compiled"] = compiled(_eager)
        row: dict[str, Any] = {"site": site, "big": big}
        for name, way in ways.items():
            row[name] = time_both(site, way, device, last=name in ("fused", "compiled"))
        yield row


def time_both(
    site: NormSite, way: Callable[..., Tensor], device: torch.device, *, last: bool = True
) -> tuple[float, float]:
    """Return seconds of the forward and the backward pass; four sets of inputs take turns, so no cache helps."""
    forwards, backwards = [], []
    for _ in range(4 if device.type == "cuda" else 1):
        inputs = draw(site, device, requires_grad=True)
        if not last:
            inputs = [None if t is None else t.detach().contiguous().requires_grad_() for t in inputs]
        given = [t for t in inputs if t is not None]
        y = way(site, inputs)
        dy = torch.randn_like(y)
        forwards.append(lambda inputs=inputs: way(site, inputs))
        backwards.append(lambda y=y, given=given, dy=dy: torch.autograd.grad(y, given, dy, retain_graph=True))
    return seconds(forwards, device), seconds(backwards, device)


def tune(sites: list[NormSite], device: torch.device, *, candidates: list[Cut] | None = None) -> dict[Any, Cut]:
    """Time every way to cut each site and return the rows of `kernels_table.MEASURED`, the fastest each."""
    rows: dict[Any, Cut] = {}
    tried = CANDIDATES if candidates is None else candidates
    for site, direction in itertools.product(sites, ("forward", "backward")):
        pixels = torch.Size(site.shape[2:]).numel()
        key = row_key(Site(site.shape[0], pixels, site.shape[1], site.groups, 2, True), direction=direction)  # type: ignore[arg-type]
        if key in rows:
            continue
        held = triton_cuts.padded(pixels) * triton_cuts.padded(site.shape[1] // site.groups)
        times = {}
        for cut in tried:
            if cut.resident and held > 2 * triton_cuts.RESIDENT_ELEMENTS:
                continue
            triton_cuts.MEASURED[key] = cut
            times[cut] = time_both(site, _forward, device)[direction == "backward"]
        del triton_cuts.MEASURED[key]
        rows[key] = min(times, key=times.__getitem__)
    return rows


CANDIDATES = [
    *(Cut(True, 4096, warps, 4) for warps in (4, 8, 16)),
    *(Cut(False, tile, warps, programs) for tile in (2048, 4096, 8192) for warps in (4, 8) for programs in (2, 4, 8)),
]


def seconds(runs: list[Callable[[], Any]], device: torch.device, *, rounds: int = 5) -> float:
    """Return the median seconds of one run; a GPU's are timed by events around all of them, a dry run's once."""
    for run in runs:
        run()
    found = []
    for _ in range(rounds if device.type == "cuda" else 1):
        if device.type != "cuda":
            start = time.perf_counter()
            for run in runs:
                run()
            found.append(time.perf_counter() - start)
            continue
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for run in runs:
            run()
        end.record()
        end.synchronize()
        found.append(begin.elapsed_time(end) / 1000)
    return statistics.median(found) / len(runs)


def _forward(site: NormSite, inputs: list[Tensor | None]) -> Tensor:
    x, weight, bias, residual = inputs
    assert x is not None
    assert operation.uses_triton(x)
    return group_norm_act(x, weight, bias, site.groups, 1e-5, residual, site.relu)


def _eager(site: NormSite, inputs: list[Tensor | None]) -> Tensor:
    x, weight, bias, residual = inputs
    assert x is not None
    assert weight is not None
    assert bias is not None
    y = F.group_norm(x, site.groups, weight.to(x.dtype), bias.to(x.dtype))
    y = y if residual is None else y + residual
    return y.relu() if site.relu else y


def _amp(site: NormSite, inputs: list[Tensor | None]) -> Tensor:
    x, weight, bias, residual = inputs
    assert x is not None
    with torch.autocast(x.device.type, torch.bfloat16):
        y = F.group_norm(x, site.groups, weight, bias)  # float32, by autocast's rule
        y = y if residual is None else y + residual
        return (y.relu() if site.relu else y).to(x.dtype)  # for the next convolution


def _reference(site: NormSite, exact: list[Tensor | None]) -> Tensor:
    x, weight, bias, residual = exact
    assert x is not None
    y = F.group_norm(x, site.groups, weight, bias)
    y = y if residual is None else y + residual
    return y.relu() if site.relu else y


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d).detach()
