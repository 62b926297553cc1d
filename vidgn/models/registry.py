"""The table of networks: how each is built, and the clip it was published with."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, cast

from vidgn.models.builders.frames import build_frames_r50
from vidgn.models.builders.i3d import I3DSpec, build_i3d
from vidgn.models.builders.mvit import build_mvit
from vidgn.models.builders.preactivation import build_bit_r50
from vidgn.models.builders.resnets import (
    build_c2d_r50,
    build_c2d_r101,
    build_csn_r101,
    build_r2plus1d_r50,
    build_slow_r50,
)
from vidgn.models.builders.shift import build_tsm_r50, build_tsn_r50
from vidgn.models.builders.slowfast import build_slowfast_r50
from vidgn.models.builders.spec import NetSpec
from vidgn.models.builders.vgg import build_vgg16
from vidgn.models.builders.x3d import build_x3d, build_x3d_l
from vidgn.models.net import VideoNet
from vidgn.norms import make_norm
from vidgn.norms.layers import NORMS, ConfiguredNorm, NormFactory
from vidgn.norms.weight_standardization import (
    check_kernels,
    find_standardization,
    own_standardization,
    standardize_weights,
)


class Clip(NamedTuple):
    """What a net sees of a video: frames, the raw frames they cover, the side of the crop in pixels."""

    clip_len: int
    span: int
    crop: int


class ModelRow(NamedTuple):
    """One network.

    Attributes:
        build: of its description and a norm.
        clip: the clip it was published with.
        width: channels of the stem.
        dropout: before the classifier.
        source: where clip and numbers come from.
        pool1: the stem, for an I3D; None: it has no choice of one.
        norms: those it can have; None: every one.
    """

    build: Callable[..., VideoNet]
    clip: Clip
    width: int
    dropout: float
    source: str
    pool1: str | None = None
    norms: tuple[str, ...] | None = None


def build_model(
    name: str,
    *,
    num_classes: int,
    norm: NormFactory,
    crop: int | None = None,
    width: int | None = None,
    dropout: float | None = None,
    pool1: str | None = None,
    nonlocal_blocks: int = 0,
    last: str | None = None,
    stride_1x1: bool | None = None,
    weight_standardization: bool | str = False,
) -> VideoNet:
    """Build a network of the table with fresh weights from torch's global generator.

    Where a network has layers whose channels the groups of `gn` do not divide (SlowFast's fast path, X3D), those
    layers have the nearest number of groups that does; elsewhere that is an error.

    Args:
        name: a key of `MODELS`.
        num_classes: classes Q.
        norm: what `make_norm` gives.
        crop: side of the training crop in pixels, which sets the window of the head.
        width: channels of the stem; less makes the net fit small machines.
        dropout: probability before the classifier, in training.
        pool1: the stem of an I3D; see `I3DSpec`.
        nonlocal_blocks: of an I3D: 0, 5 or 10; the option `model.nonlocal`.
        last: the last stage of frames_r50; see `build_frames_r50`.
        stride_1x1: where frames_r50 halves the image.
        weight_standardization: standardize the kernel of every convolution that a norm follows; True, or a name of
            `vidgn.norms.weight_standardization.STANDARDIZATIONS`. Keys of the state dict are those of the plain net.

    None stands for the value of the table.

    Raises:
        ValueError: an unknown name, `pool1` or non-local blocks for another net than an I3D, a value out of its range,
            standardized kernels with norm=wn, or a norm or standardized kernels that the network cannot have.

    >>> from vidgn.norms import make_norm
    >>> build_model("x3d_s", num_classes=10, norm=make_norm("gn"), width=8).spec.window
    5
    """
    if name not in MODELS:
        raise ValueError(f"model={name} is unknown; use one of {', '.join(MODELS)}.")
    row = MODELS[name]
    _check_norm(name, norm, weight_standardization)
    options: dict[str, Any] = {
        "num_classes": num_classes,
        "width": row.width if width is None else width,
        "dropout": row.dropout if dropout is None else dropout,
        "window": math.ceil((crop or row.clip.crop) / 32),
    }
    frames = {key: value for key, value in (("last", last), ("stride_1x1", stride_1x1)) if value is not None}
    _check_family_options(name, pool1=pool1, nonlocal_blocks=nonlocal_blocks, frames=frames)
    if row.pool1 is not None:
        net = row.build(pool1=pool1 or row.pool1, nonlocal_blocks=nonlocal_blocks, **options, norm=norm)
    else:
        net = row.build(NetSpec(name=name, **options), norm=norm, **frames)
    return with_standardization(net, weight_standardization, norm=norm)


def _check_family_options(
    name: str, *, pool1: str | None, nonlocal_blocks: int, frames: Mapping[str, str | bool]
) -> None:
    """Refuse options that only an I3D has, or only frames_r50, for another net."""
    row = MODELS[name]
    if pool1 is not None and row.pool1 is None:
        raise ValueError(f"model={name} has no choice of pool1 ({pool1}); leave it out, or use an i3d.")
    if nonlocal_blocks and row.pool1 is None:
        raise ValueError(
            f"model={name} has no non-local blocks (nonlocal={nonlocal_blocks}); use an i3d, or nonlocal=0."
        )
    if frames and row.build is not build_frames_r50:
        raise ValueError(f"model={name} has no option {min(frames)}; leave it out, or use model=frames_r50.")


def _check_norm(name: str, norm: NormFactory, standardization: bool | str) -> None:
    """Refuse what a network with norms of its own kind cannot have."""
    norms = MODELS[name].norms
    given = norm.name if isinstance(norm, ConfiguredNorm) else type(norm).__name__
    if norms is not None and given not in norms:
        raise ValueError(f"model={name} cannot have norm={given}; set norm={' or '.join(norms)}.")
    if norms is not None and find_standardization(standardization) is not None:
        raise ValueError(
            f"model={name} cannot have weight_standardization={standardization}; set "
            "model.weight_standardization=false."
        )


def with_standardization(net: VideoNet, choice: bool | str, *, norm: NormFactory) -> VideoNet:
    """Let a net built with `norm` standardize its kernels, unless `choice` is false; return it.

    With norm=mabn, which has no mean, false centres them all the same.

    Raises:
        ValueError: an unknown choice, or norm=wn.
    """
    name = norm.name if isinstance(norm, ConfiguredNorm) else None
    how = find_standardization(own_standardization(name, choice))
    if how is not None:
        check_kernels(net, name)
        standardize_weights(net, how)
    return net


def _build_i3d(*, depth: int, pool1: str, norm: NormFactory, **options: Any) -> VideoNet:
    stem = cast('Literal["nonlocal", "paper", "mmaction2", "pytorchvideo"]', pool1)
    return build_i3d(I3DSpec(depth=depth, pool1=stem, **options), norm=norm)


_ZOO = "pytorchvideo docs/source/model_zoo.md"

MODELS: Mapping[str, ModelRow] = {
    "i3d_r50": ModelRow(
        partial(_build_i3d, depth=50), Clip(32, 64, 224), 64, 0.5, "video-nonlocal-net, 32x2", pool1="nonlocal"
    ),
    "i3d_r101": ModelRow(
        partial(_build_i3d, depth=101), Clip(32, 64, 224), 64, 0.5, "video-nonlocal-net, 32x2", pool1="nonlocal"
    ),
    "i3d_r50_8x8": ModelRow(
        partial(_build_i3d, depth=50), Clip(8, 64, 224), 64, 0.5, f"{_ZOO}, 8x8", pool1="pytorchvideo"
    ),
    "c2d_r50": ModelRow(build_c2d_r50, Clip(8, 64, 224), 64, 0.5, f"{_ZOO}, 8x8"),
    "c2d_r101": ModelRow(build_c2d_r101, Clip(8, 64, 224), 64, 0.5, "Non-local Neural Networks, Table 1, 101 layers"),
    "slow_r50": ModelRow(build_slow_r50, Clip(8, 64, 224), 64, 0.5, f"{_ZOO}, 8x8"),
    "frames_r50": ModelRow(build_frames_r50, Clip(8, 40, 128), 64, 0.0, "ours; see models/builders/frames.py"),
    "slowfast_r50": ModelRow(build_slowfast_r50, Clip(32, 64, 224), 64, 0.5, f"{_ZOO}, 8x8: 8 and 32 frames of 64"),
    "r2plus1d_r50": ModelRow(build_r2plus1d_r50, Clip(16, 64, 224), 64, 0.5, f"{_ZOO}, 16x4"),
    "csn_r101": ModelRow(build_csn_r101, Clip(32, 64, 224), 64, 0.0, f"{_ZOO}, 32x2; dropout models/csn.py"),
    "x3d_s": ModelRow(build_x3d, Clip(13, 78, 160), 24, 0.5, f"{_ZOO}, 13x6; crop models/hub/x3d.py"),
    "x3d_xs": ModelRow(build_x3d, Clip(4, 48, 160), 24, 0.5, f"{_ZOO}, 4x12; crop models/hub/x3d.py"),
    "x3d_m": ModelRow(build_x3d, Clip(16, 80, 224), 24, 0.5, f"{_ZOO}, 16x5; crop models/hub/x3d.py"),
    "x3d_l": ModelRow(build_x3d_l, Clip(16, 80, 312), 24, 0.5, f"{_ZOO}, 16x5; crop models/hub/x3d.py"),
    "tsn_r50": ModelRow(build_tsn_r50, Clip(8, 64, 224), 64, 0.5, "arXiv 1608.00859; clip as tsm_r50"),
    "tsm_r50": ModelRow(build_tsm_r50, Clip(8, 64, 224), 64, 0.5, "arXiv 1811.08383, 8 frames, dense sampling"),
    "vgg16": ModelRow(build_vgg16, Clip(8, 64, 224), 64, 0.5, "arXiv 1409.1556, net D, on each frame of its clip"),
    "bit_r50": ModelRow(build_bit_r50, Clip(8, 64, 224), 64, 0.0, "arXiv 1912.11370, BiT-R50x1, frame by frame"),
    "mvit_b_16x4": ModelRow(build_mvit, Clip(16, 64, 224), 96, 0.5, "torchvision mvit_v1_b, 16x4", norms=("ln",)),
}  # fmt: skip

PUBLISHED_GROUPS, PUBLISHED_WIDTH = 32, 64  # groups of group norm, and channels of the stem they belong to


def build_net(*, model: Mapping[str, Any], norm: Mapping[str, Any], crop: int, num_classes: int) -> VideoNet:
    """Build a net with fresh weights from plain values, as a configuration or a checkpoint has them.

    Raises:
        ValueError: an unknown model or norm, or a value out of its range.
    """
    factory = make_norm(**norm_options(norm, model=model))
    names = {"nonlocal": "nonlocal_blocks"}  # a keyword of Python
    options = {names.get(key, key): value for key, value in model.items() if key != "name"}
    return build_model(model["name"], num_classes=num_classes, norm=factory, crop=crop, **options)


def model_options(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a model as a description has them: without those that are off and were not always there.

    Descriptions that are older than `weight_standardization` and `nonlocal` do not have them.

    >>> model_options({"name": "x3d_s", "width": 24, "weight_standardization": False})
    {'name': 'x3d_s', 'width': 24}
    """
    off = {"weight_standardization": False, "nonlocal": 0}
    return {key: value for key, value in model.items() if key not in off or value != off[key]}


def norm_options(norm: Mapping[str, Any], *, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `make_norm`; the default number of groups follows the width of the stem.

    >>> group_norm = {"name": "gn", "num_groups": None, "channels_per_group": None}
    >>> norm_options(group_norm, model={"name": "i3d_r50", "width": 16})["num_groups"]
    8
    """
    options = dict(norm)
    grouped = options["name"] in NORMS and "num_groups" in NORMS[options["name"]].options
    if grouped and options.get("num_groups") is None and options.get("channels_per_group") is None:
        published = MODELS[model["name"]].width if model["name"] in MODELS else PUBLISHED_WIDTH
        options["num_groups"] = max(1, PUBLISHED_GROUPS * model["width"] // published)
    return options
