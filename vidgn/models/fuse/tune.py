"""Measure, once per machine, which form of each convolution is fastest, and remember it.

The rows are kept in `convolutions.json` of $VIDGN_CACHE or ~/.cache/vidgn, by machine, convolution, shape and dtype.
"""

# mypy: allow-untyped-calls

import json
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vidgn.models.fuse.conv import FORMS, ViewConv3d, applicable_forms, computed_dtype
from vidgn.norms.kernels.layout import channels_last

MARGIN = 1.03  # a form replaces the default if it wins by more than two runs of one form differ
ROUNDS = 5


class Choice(NamedTuple):
    """The form chosen for one convolution and input, with what each form took."""

    layers: tuple[str, ...]  # names of the convolutions of the net that share it
    shape: tuple[int, ...]
    dtype: torch.dtype
    form: str
    milliseconds: dict[str, float]


def tune(net: nn.Module, clip: Tensor, *, cache: Path | None = None) -> list[Choice]:
    """Choose the fastest form of every convolution of a fused net for clips like `clip`.

    Forward alone is timed, or forward and backward if `net` is training; under autocast, in its dtype. What the
    cache knows is not timed again.

    Args:
        net: a net that `fuse` rewrote.
        clip: (N, 3, T, H, W), of which shape, dtype and device count.
        cache: the file of the rows; None for the user's.

    Raises:
        ValueError: the cache holds something else.
    """
    path = cache or cache_file()
    rows = _read(path)
    known = len(rows)
    choices: dict[str, Choice] = {}
    for site in _sites(net, clip):
        conv, dtype = site.conv, computed_dtype(site.device, site.dtype)
        mode = "train" if net.training else "test"
        key = f"{_machine(site.device)} | {mode} | {dtype} | {site.shape} | {conv.extra_repr()}"
        if key not in rows:
            rows[key] = _time_forms(site, backward=net.training)
        form = _fastest(rows[key], default=conv.default_for(site.device, samples=site.shape[0]))
        conv.forms = {**conv.forms, (site.shape, dtype): form}
        layers = choices[key].layers if key in choices else ()
        choices[key] = Choice((*layers, site.name), site.shape, dtype, form, rows[key])
    if len(rows) > known:
        _write(path, rows)
    return list(choices.values())


def explain_forms(choices: list[Choice]) -> str:
    """Write the choices as a table: first layer, its input, what each form took, and which was taken."""
    lines = []
    for choice in choices:
        more = f" (+{len(choice.layers) - 1})" if len(choice.layers) > 1 else ""
        shape = "x".join(map(str, choice.shape))
        times = sorted(choice.milliseconds.items(), key=lambda item: item[1])
        taken = ", ".join(f"{'*' if form == choice.form else ''}{form} {ms:.2f} ms" for form, ms in times)
        lines.append(f"{choice.layers[0] + more:48} {shape:>24} {str(choice.dtype)[6:]:>8}  {taken}")
    return "\n".join(lines)


def cache_file() -> Path:
    """Return where the rows are kept: in $VIDGN_CACHE, or ~/.cache/vidgn."""
    return Path(os.environ.get("VIDGN_CACHE") or "~/.cache/vidgn").expanduser() / "convolutions.json"


class _Site(NamedTuple):
    """A convolution of the net and what its input is."""

    name: str
    conv: ViewConv3d
    shape: tuple[int, ...]
    dtype: torch.dtype  # of the input
    device: torch.device


def _sites(net: nn.Module, clip: Tensor) -> list[_Site]:
    """Run the net once, without a trace in it, and note the inputs of its convolutions."""
    sites: list[_Site] = []

    def note(conv: nn.Module, inputs: tuple[Tensor, ...], *, name: str) -> None:
        assert isinstance(conv, ViewConv3d)
        sites.append(_Site(name, conv, tuple(inputs[0].shape), inputs[0].dtype, inputs[0].device))

    convs = [(name, module) for name, module in net.named_modules() if isinstance(module, ViewConv3d)]
    hooks = [module.register_forward_pre_hook(partial(note, name=name)) for name, module in convs]
    training = [module for module in net.modules() if module.training]
    try:
        with torch.no_grad():
            net.eval()(clip)
    finally:
        for hook in hooks:
            hook.remove()
        for module in training:
            module.training = True
    return sites


def _time_forms(site: _Site, *, backward: bool) -> dict[str, float]:
    """Time every form in turns; the least of the rounds counts, in milliseconds."""
    x = channels_last(torch.randn(site.shape, device=site.device).to(site.dtype)).requires_grad_(backward)
    names = applicable_forms(site.conv)
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS + 1):  # the first warms up
        for name in names:
            times[name].append(_time(partial(_step, name, site.conv, x), device=site.device))
    return {name: min(rounds[1:]) * 1000 for name, rounds in times.items()}


def _step(form: str, conv: ViewConv3d, x: Tensor) -> None:
    with torch.set_grad_enabled(x.requires_grad):
        y = FORMS[form].run(conv, x)
        if x.requires_grad:
            torch.autograd.grad(y, [x, conv.weight], torch.ones_like(y))


def _time(step: Callable[[], None], *, device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        step()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    step()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000


def _fastest(times: dict[str, float], *, default: str) -> str:
    best = min(times, key=times.__getitem__)
    return best if times[best] * MARGIN < times[default] else default


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{_processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _read(path: Path) -> dict[str, dict[str, float]]:
    if not path.exists():
        return {}
    try:
        rows: dict[str, dict[str, float]] = json.loads(path.read_text())["convolutions"]
    except (json.JSONDecodeError, KeyError, TypeError) as err:
        raise ValueError(f"{path} is not a table of convolutions ({err!r}); delete it and it is made again.") from err
    return rows


def _write(path: Path, rows: dict[str, dict[str, float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps({"convolutions": rows}, indent=1))
    draft.replace(path)
