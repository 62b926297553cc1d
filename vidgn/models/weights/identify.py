"""Say which network a published weight file belongs to, from its names and shapes alone."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vidgn.models.builders.nonlocal_blocks import NONLOCAL_POSITIONS
from vidgn.models.registry import MODELS, Clip, build_model
from vidgn.models.weights.formats import Channels
from vidgn.models.weights.load import rename_tensors
from vidgn.models.weights.sources import Source, kinetics400, open_source
from vidgn.norms.layers import make_norm


class Published(NamedTuple):
    """What `build_model` needs for a file, and what the net then wants to see.

    Attributes:
        model: a key of `MODELS`.
        norm: of its layers.
        num_classes: rows of its classifier.
        pool1: the stem of an I3D; None for others.
        clip: what the model was published with.
        classes: names in its order; None where they are not known.
        mean: of its pixels, RGB, as fractions of 1.
        std: likewise.
        source_format: whose file it is.
        notes: what names and shapes leave open.
        nonlocal_blocks: of an I3D: 0, 5 or 10.
    """

    model: str
    norm: str
    num_classes: int
    pool1: str | None
    clip: Clip
    classes: tuple[str, ...] | None
    mean: Channels
    std: Channels
    source_format: str
    notes: tuple[str, ...]
    nonlocal_blocks: int = 0


def identify(path: str | Path) -> Published:
    """Find the network of the table whose tensors have a file's names and shapes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a weights file, or one of a picture net, a vidgn checkpoint, which says itself what it
            is, or fits no network of the table.
    """
    opened = open_source(path, depth=None)
    form = opened.format
    if form.pictures or form.pixels is None:
        kind = "weights of a picture net" if form.pictures else "a vidgn checkpoint, which describes itself"
        raise ValueError(f"{path} holds {kind}, not a published video net; use it with init={path}.")
    group_or_batch = "bn" if any(_is_statistic(name) for name in opened.tensors) else "gn"
    for name, nonlocal_blocks in _candidates(opened):
        norm = (MODELS[name].norms or (group_or_batch,))[0]
        num_classes = _fits(opened, name, norm=norm, nonlocal_blocks=nonlocal_blocks)
        if num_classes is not None:
            pool1 = form.pool1 if MODELS[name].pool1 is not None else None
            clip = MODELS["i3d_r50_8x8" if pool1 == "pytorchvideo" else name].clip
            classes = kinetics400() if form.kinetics and num_classes == 400 else None
            notes = _OPEN.get((form.name, name), ())
            return Published(
                name, norm, num_classes, pool1, clip, classes, form.pixels.mean, form.pixels.std, form.name, notes,
                nonlocal_blocks,
            )  # fmt: skip
    raise ValueError(
        f"{path} ({form.name}) has the tensors of no network here; there are {', '.join(MODELS)}, at their published"
        " width, with batch or group norm."
    )


_OPEN = {
    ("video-nonlocal-net", "i3d_r50"): (
        "names and shapes are those of video-nonlocal-net's 32-frame I3D and of PySlowFast's 8-frame I3D_8x8_R50.pkl;"
        " taken for the former; for the latter use model=i3d_r50_8x8, or network=i3d_r50_8x8 of eval.py",
    )
}


def _candidates(opened: Source) -> list[tuple[str, int]]:
    """Return the networks that a file may be of, those with its own stem first, and their non-local blocks."""
    names = sorted(MODELS, key=lambda name: MODELS[name].pool1 not in (None, opened.format.pool1))
    if not any("nonlocal" in name for name in opened.tensors):
        return [(name, 0) for name in names]
    counts = {count for _, count in NONLOCAL_POSITIONS}
    depths = {name: 101 if name.endswith("r101") else 50 for name in names if MODELS[name].pool1 is not None}
    return [(name, count) for name in depths for count in sorted(counts) if (depths[name], count) in NONLOCAL_POSITIONS]


def _fits(opened: Source, name: str, *, norm: str, nonlocal_blocks: int) -> int | None:
    """Give the number of classes with which a network has exactly a file's names and shapes, else None."""
    own = _shapes(name, num_classes=1, norm=norm, nonlocal_blocks=nonlocal_blocks)
    state, unexpected = rename_tensors(opened, own)
    theirs = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    ours = {name: tensor for name, tensor in own.items() if not name.endswith("num_batches_tracked")}
    bias = next((tensor for name, tensor in theirs.items() if name.endswith(".proj.bias")), None)
    if unexpected or bias is None or set(theirs) != set(ours):
        return None
    same = all(tensor.shape == theirs[name].shape for name, tensor in ours.items() if ".proj." not in name)
    return len(bias) if same else None


@cache
def _shapes(name: str, *, num_classes: int, norm: str, nonlocal_blocks: int) -> dict[str, Tensor]:
    with torch.device("meta"):
        net = build_model(name, num_classes=num_classes, norm=make_norm(norm), nonlocal_blocks=nonlocal_blocks)
    return net.state_dict()


def _is_statistic(name: str) -> bool:
    return name.endswith(("running_mean", "_rm"))
