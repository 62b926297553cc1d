"""Count what a net costs: `vidgn model --summary`. Nothing is computed: shapes travel on torch's meta device."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TextIO

import torch
from torch import Tensor, nn

from vidgn.models.table import MODELS, build_model
from vidgn.norms import NORMS, make_norm


class Stage(NamedTuple):
    """One block of a net for one clip.

    Attributes:
        name: as in the keys of the weights.
        kind: the class of the block.
        output: shape without the batch.
        parameters: learned numbers.
        macs: multiply-adds of convolutions and linear layers.
        activations: numbers that the layers put out, all of which training keeps.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    macs: int
    activations: int


# Parameters and multiply-adds at 400 classes and 224 px: (model, frames) -> (parameters, 1e9 multiply-adds).
# From the layers of video-nonlocal-net's resnet_video_org.py; the parameters are the same with BN and GN.
PUBLISHED: Mapping[tuple[str, int], tuple[int, float]] = {
    ("i3d_r50", 32): (28_043_472, 32.83),
    ("i3d_r50", 64): (28_043_472, 65.66),
}


def run_summary(
    *, model: str, norm: str, num_classes: int, clip_len: int | None, crop: int | None, width: int | None,
    out: TextIO, as_json: bool = False,
) -> int:  # fmt: skip
    """Print the stages of a net and their sums beside the published numbers.

    Raises:
        ValueError: an unknown model or norm, or a size the net cannot take.
    """
    if model not in MODELS:
        raise ValueError(f"--model {model} is unknown; use one of {', '.join(MODELS)}.")
    if norm not in NORMS:
        raise ValueError(f"--norm {norm} is unknown; use one of {', '.join(NORMS)}.")
    row = MODELS[model]
    frames, side, stem = clip_len or row.clip.clip_len, crop or row.clip.crop, width or row.width
    groups = {"num_groups": max(1, stem // 2)} if norm == "gn" and stem != 64 else {}  # 2 channels per group, as at 64
    with torch.device("meta"):
        net = build_model(model, num_classes=num_classes, norm=make_norm(norm, **groups), crop=side, width=stem)
    stages = summarize(net, clip_len=frames, side=side)
    standard = num_classes == 400 and side == 224 and stem == 64
    published = PUBLISHED.get((model, frames)) if standard else None
    title = f"{model}, norm {norm}, {num_classes} classes, one clip of {frames} frames at {side} px"
    if as_json:
        print(json.dumps(_record(title, stages, published), indent=1), file=out)
    else:
        _print(title, stages, published, out)
    return 0


def summarize(net: nn.Module, *, clip_len: int, side: int) -> list[Stage]:
    """Return the stages of a net (`net.blocks`) for a clip of one video.

    Raises:
        ValueError: the net does not take such a clip.
    """
    blocks: Any = net.blocks
    counts = {block: [0, 0] for block in blocks}  # multiply-adds, activations
    outputs: dict[nn.Module, Any] = {}
    with _watched(blocks, counts, outputs), torch.no_grad(), torch.device("meta"):
        net.eval()(torch.empty(1, 3, clip_len, side, side, device="meta"))
    return [
        Stage(
            f"blocks.{number}", type(block).__name__, _shape(outputs[block]),
            sum(parameter.numel() for parameter in block.parameters()), *counts[block],
        )
        for number, block in enumerate(blocks)
    ]  # fmt: skip


@contextmanager
def _watched(blocks: Any, counts: dict[nn.Module, list[int]], outputs: dict[nn.Module, Any]) -> Iterator[None]:
    handles = []
    for block in blocks:
        handles.append(block.register_forward_hook(lambda module, _, out: outputs.update({module: out})))
        for layer in block.modules():
            if not list(layer.children()):
                handles.append(layer.register_forward_hook(_counter(counts[block])))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _counter(count: list[int]) -> Any:
    def add(layer: nn.Module, _: Any, out: Any) -> None:
        if not isinstance(out, Tensor):
            return
        count[1] += out.numel()
        if isinstance(layer, nn.Conv3d):
            count[0] += out.numel() * layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        if isinstance(layer, nn.Linear):
            count[0] += out.numel() * layer.in_features

    return add


def _shape(out: Any) -> tuple[int, ...]:
    """Return the shape of a block's output without the batch; of the slow path where there are two."""
    return tuple((out if isinstance(out, Tensor) else out[0]).shape[1:])


def _record(title: str, stages: list[Stage], published: tuple[int, float] | None) -> dict[str, Any]:
    return {
        "net": title,
        "stages": [stage._asdict() for stage in stages],
        "parameters": sum(stage.parameters for stage in stages),
        "macs": sum(stage.macs for stage in stages),
        "activation_bytes_float32": 4 * sum(stage.activations for stage in stages),
        "published": None if published is None else {"parameters": published[0], "macs": round(published[1] * 1e9)},
    }


def _print(title: str, stages: list[Stage], published: tuple[int, float] | None, out: TextIO) -> None:
    line = "{:9} {:18} {:>20} {:>12} {:>10} {:>12}"
    print(title, file=out)
    print(line.format("block", "kind", "output", "parameters", "G mul-add", "MB float32"), file=out)
    for stage in stages:
        shape = " x ".join(str(size) for size in stage.output)
        print(_row(line, stage.name, stage.kind[:18], shape, stage), file=out)
    total = Stage("sum", "", (), *(sum(stage[index] for stage in stages) for index in (3, 4, 5)))  # type: ignore[misc]
    print(_row(line, "sum", "", "", total), file=out)
    if published is not None:
        print(line.format("published", "", "", f"{published[0]:,}", f"{published[1]:.2f}", "").rstrip(), file=out)
    print("MB: all layer outputs of one clip, which training keeps; in bfloat16 half of it", file=out)


def _row(line: str, name: str, kind: str, shape: str, stage: Stage) -> str:
    megabytes = 4 * stage.activations / 1e6
    return line.format(name, kind, shape, f"{stage.parameters:,}", f"{stage.macs / 1e9:.2f}", f"{megabytes:,.1f}")
