"""Time a net on this machine, as built and fused: `vidgn bench`; with --explain, which form each convolution has."""

import copy
import json
import statistics
import time
from collections.abc import Callable
from typing import Any, TextIO

import torch
from torch import Tensor, nn

from vidgn.inference.model import choose_device
from vidgn.models.fuse.rewrite import fuse
from vidgn.models.fuse.tune import Choice, cache_file, explain_forms, tune
from vidgn.models.registry import MODELS, build_model, norm_options
from vidgn.norms import make_norm

ROUNDS = 5


def run_bench(
    *,
    model: str,
    norm: str,
    clip_len: int | None,
    crop: int | None,
    width: int | None,
    batch: int,
    device: str,
    out: TextIO,
    explained: bool = False,
    as_json: bool = False,
) -> int:
    """Tune a net, time it with and without, and print; return 0.

    What the cache knows of the convolutions is not measured again; `fuse=true` reads the same cache.

    Args:
        model: a key of `MODELS`.
        norm: a name of `make_norm`.
        clip_len: frames; None: the net's own.
        crop: px; None: the net's own.
        width: channels of the stem; None: the net's own.
        batch: clips at a time.
        device: auto, cpu, cuda or cuda:1.
        out: where to print.
        explained: print the table of forms.
        as_json: print one JSON object instead.

    Raises:
        ValueError: an unknown name, or a number out of its range.
    """
    if model not in MODELS:
        raise ValueError(f"--model {model} is unknown; use one of {', '.join(MODELS)}.")
    if batch < 1:
        raise ValueError(f"--batch {batch} must be at least 1; 1 is a clip at a time.")
    on, own = choose_device(device), MODELS[model].clip
    frames, side, stem = clip_len or own.clip_len, crop or own.crop, width or MODELS[model].width
    options = norm_options({"name": norm}, model={"name": model, "width": stem})
    plain = build_model(model, num_classes=400, norm=make_norm(**options), crop=side, width=stem).to(on).eval()
    clip = torch.randn(batch, 3, frames, side, side, device=on)
    fused = fuse(copy.deepcopy(plain))
    choices = tune(fused, clip)
    seconds = {name: _times(net, clip) for name, net in (("as built", plain), ("fused and tuned", fused))}
    title = f"{model}, norm {norm}, {batch} x {frames} frames, {side} px, {on}, {torch.get_num_threads()} threads"
    if as_json:
        print(json.dumps(_record(title, seconds, choices)), file=out)
        return 0
    print(title, file=out)
    for name, rounds in seconds.items():
        middle = statistics.median(rounds)
        print(
            f"  {name:16} {1e3 * middle:9.1f} ms ({1e3 * min(rounds):.1f} .. {1e3 * max(rounds):.1f})"
            f" {batch / middle:8.2f} clips/s",
            file=out,
        )
    if explained:
        print(f"\nforms, milliseconds of each; * is taken ({cache_file()})\n{explain_forms(choices)}", file=out)
    return 0


def _times(net: nn.Module, clip: Tensor) -> list[float]:
    """Return seconds of some evaluations, after one that is not counted."""

    def run() -> float:
        start = time.perf_counter()
        float(net(clip).sum())  # waits for the device
        return time.perf_counter() - start

    return _repeat(run)


def _repeat(run: Callable[[], float]) -> list[float]:
    with torch.inference_mode():
        return [run() for _ in range(ROUNDS + 1)][1:]


def _record(title: str, seconds: dict[str, list[float]], choices: list[Choice]) -> dict[str, Any]:
    return {
        "what": title,
        "seconds": {name: [round(value, 6) for value in rounds] for name, rounds in seconds.items()},
        "convolutions": [
            {
                "layers": list(choice.layers), "shape": list(choice.shape), "dtype": str(choice.dtype)[6:],
                "form": choice.form, "milliseconds": choice.milliseconds,
            }
            for choice in choices
        ],
    }  # fmt: skip
