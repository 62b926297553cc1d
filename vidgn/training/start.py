"""The net that a run starts from, and the description that its checkpoints carry."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from vidgn.data.clips import ClipSpec
from vidgn.data.module import DataSpec, ViewSpec
from vidgn.data.transforms import CropSpec, Normalize
from vidgn.description import Description, TestViews
from vidgn.models.net import VideoNet
from vidgn.models.registry import build_net, model_options, norm_options
from vidgn.models.weights.load import LoadReport, load_weights
from vidgn.runs.environment import versions


class Start(NamedTuple):
    """A net and the pixels it wants."""

    net: VideoNet
    normalize: Normalize
    report: LoadReport | None


def start_net(
    *,
    model: Mapping[str, Any],
    norm: Mapping[str, Any],
    crop: int,
    classes: Sequence[str],
    init: str | None,
    init_fresh: Sequence[str] = (),
) -> Start:
    """Build the net of the options `model`, `norm` and `crop`, with the weights of `init` if there are any.

    The stages of `init_fresh` keep fresh weights.

    The normalization of the pixels is that of the weights; without weights it is 0.45 and 0.225.
    """
    net = build_net(model=model, norm=norm, crop=crop, num_classes=len(classes))
    if init is None and init_fresh:
        raise ValueError(f"init_fresh ({', '.join(init_fresh)}) needs weights for the other stages; set init=FILE.")
    if init is None:
        return Start(net, Normalize(), None)
    report = load_weights(net, init, classes=tuple(classes), fresh=tuple(init_fresh))
    mean, std = report.input_mean, report.input_std
    return Start(net, Normalize() if mean is None or std is None else Normalize(mean=mean, std=std), report)


def describe(
    *,
    start: Start,
    classes: Sequence[str],
    clip: ClipSpec,
    crop: CropSpec,
    test: ViewSpec,
    view_batch: int,
    model: Mapping[str, Any],
    norm: Mapping[str, Any],
    data: DataSpec,
    config: DictConfig,
    words: Sequence[str],
) -> Description:
    """Return the description that the checkpoints of a run carry."""
    mean, std = (
        tuple(round(value, 6) for value in values.flatten().tolist())
        for values in (start.normalize.mean, start.normalize.std)
    )
    return Description(
        classes=tuple(classes),
        model=model_options(model),
        norm=norm_options(norm, model=model),
        clip_len=clip.clip_len,
        span=clip.span,
        crop=crop.crop,
        mean=mean,
        std=std,
        test=TestViews(test.num_clips, test.num_crops, test.clip_rule, view_batch),
        data=dict(vars(data)),
        versions=versions(),
        config=OmegaConf.to_yaml(config, resolve=True),
        overrides=tuple(words),
    )
