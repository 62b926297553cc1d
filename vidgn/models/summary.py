"""Count what a net costs: `vidgn model --summary`. Nothing is computed: shapes travel on torch's meta device."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TextIO

import torch
from torch import Tensor, nn

from vidgn.models.registry import MODELS, build_model
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


class PublishedCost(NamedTuple):
    """What others say of a net at its full width.

    Attributes:
        clip_len: frames of one clip.
        side: pixels.
        num_classes: classes.
        parameters: to the digits that are printed.
        macs: 1e9 multiply-adds of one clip.
        source: where.
    """

    clip_len: int
    side: int
    num_classes: int
    parameters: int
    macs: float
    source: str


_NONLOCAL = "the layers of video-nonlocal-net's resnet_video_org.py"
_ZOO = "pytorchvideo docs/source/model_zoo.md, counted by fvcore"
PUBLISHED: Mapping[str, tuple[PublishedCost, ...]] = {
    "i3d_r50": (
        PublishedCost(32, 224, 400, 28_043_472, 32.83, _NONLOCAL),
        PublishedCost(64, 224, 400, 28_043_472, 65.66, _NONLOCAL),
    ),
    "i3d_r50_8x8": (PublishedCost(8, 256, 400, 28_040_000, 37.53, _ZOO),),
    "c2d_r50": (PublishedCost(8, 256, 400, 24_330_000, 25.89, _ZOO),),
    "slow_r50": (PublishedCost(8, 256, 400, 32_450_000, 54.52, _ZOO),),
    "slowfast_r50": (PublishedCost(32, 256, 400, 34_570_000, 65.71, _ZOO),),
    "r2plus1d_r50": (PublishedCost(16, 256, 400, 28_110_000, 76.45, _ZOO),),
    "csn_r101": (PublishedCost(32, 256, 400, 22_210_000, 75.62, _ZOO),),
    "x3d_s": (PublishedCost(13, 182, 400, 3_790_000, 2.96, _ZOO),),
    "tsm_r50": (PublishedCost(8, 224, 400, 24_300_000, 33.0, "arXiv 1811.08383, Table 2"),),
    "c2d_r101": (PublishedCost(1, 224, 1000, 44_549_160, 7.80, "torchvision resnet101"),),
    "vgg16": (PublishedCost(1, 224, 1000, 138_365_992, 15.47, "torchvision vgg16_bn"),),
}  # fmt: skip


def run_summary(
    *, model: str, norm: str, num_classes: int, clip_len: int | None, crop: int | None, width: int | None,
    out: TextIO, as_json: bool = False, num_groups: int | None = None, channels_per_group: int | None = None,
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
    options = {"num_groups": num_groups, "channels_per_group": channels_per_group}
    if norm == "gn" and num_groups is None and channels_per_group is None:
        options["num_groups"] = max(1, 32 * stem // row.width)  # 32 at the published width, in proportion at others
    with torch.device("meta"):
        net = build_model(model, num_classes=num_classes, norm=make_norm(norm, **options), crop=side, width=stem)
    stages = summarize(net, clip_len=frames, side=side)
    counted = Told(stages, groups_of(net), _published(model, stem, num_classes, frames=frames, side=side))
    title = f"{model}, norm {norm}, {num_classes} classes, one clip of {frames} frames at {side} px"
    if as_json:
        print(json.dumps(_record(title, counted), indent=1), file=out)
    else:
        _print(title, counted, out)
    return 0


class Told(NamedTuple):
    """What is said of a net: its stages, the groups of its norms, and what others say, and whether of this clip."""

    stages: list[Stage]
    groups: list[int]
    published: tuple[PublishedCost, bool] | None


def groups_of(net: nn.Module) -> list[int]:
    """Return the numbers of groups that the group norms of a net have, fewest first."""
    return sorted({module.num_groups for module in net.modules() if isinstance(module, nn.GroupNorm)})


def _published(
    model: str, width: int, num_classes: int, *, frames: int, side: int
) -> tuple[PublishedCost, bool] | None:
    """Return the published numbers of this net of this clip, else of another clip; of another width there are none."""
    rows = [row for row in PUBLISHED.get(model, ()) if width == MODELS[model].width and row.num_classes == num_classes]
    same = [row for row in rows if (row.clip_len, row.side) == (frames, side)]
    return (same[0], True) if same else (rows[0], False) if rows else None


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


def _record(title: str, counted: Told) -> dict[str, Any]:
    record = {
        "net": title,
        "stages": [stage._asdict() for stage in counted.stages],
        "parameters": sum(stage.parameters for stage in counted.stages),
        "macs": sum(stage.macs for stage in counted.stages),
        "activation_bytes_float32": 4 * sum(stage.activations for stage in counted.stages),
        "groups": counted.groups,
        "published": None,
    }
    if counted.published is not None:
        row, same_clip = counted.published
        record["published"] = {**row._asdict(), "macs": round(row.macs * 1e9), "same_clip": same_clip}
    return record


def _print(title: str, counted: Told, out: TextIO) -> None:
    line = "{:9} {:18} {:>20} {:>12} {:>10} {:>12}"
    print(title, file=out)
    print(line.format("block", "kind", "output", "parameters", "G mul-add", "MB float32"), file=out)
    for stage in counted.stages:
        shape = " x ".join(str(size) for size in stage.output)
        print(_row(line, stage.name, stage.kind[:18], shape, stage), file=out)
    total = Stage("sum", "", (), *(sum(stage[index] for stage in counted.stages) for index in (3, 4, 5)))  # type: ignore[misc]
    print(_row(line, "sum", "", "", total), file=out)
    if counted.published is not None:
        row, same_clip = counted.published
        clip = "" if same_clip else f"{row.clip_len} fr. at {row.side} px"
        print(line.format("published", "", clip, f"{row.parameters:,}", f"{row.macs:.2f}", "").rstrip(), file=out)
        print(f"published: {row.source}", file=out)
    if counted.groups:
        print(f"groups of the group norms: {', '.join(map(str, counted.groups))}", file=out)
    print("MB: all layer outputs of one clip, which training keeps; in bfloat16 half of it", file=out)


def _row(line: str, name: str, kind: str, shape: str, stage: Stage) -> str:
    megabytes = 4 * stage.activations / 1e6
    return line.format(name, kind, shape, f"{stage.parameters:,}", f"{stage.macs / 1e9:.2f}", f"{megabytes:,.1f}")
