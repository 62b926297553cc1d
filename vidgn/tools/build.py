"""From the words to the parts: the net, the data, the trainer."""

import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from vidgn.callbacks.keep import WholeCheckpoints
from vidgn.checkpoint import FORMAT
from vidgn.data.clips import ClipSpec
from vidgn.data.module import DataSpec, ViewSpec
from vidgn.data.transforms import CropSpec, Normalize
from vidgn.models.resnet3d import I3DSpec, VideoNet, build_i3d
from vidgn.models.table import MODELS, build_model
from vidgn.models.weights import LoadReport, load_weights
from vidgn.norms import make_norm
from vidgn.optim import OptimSpec
from vidgn.tools.history import Events, History
from vidgn.tools.ranks import find_strategy, limit_waiting
from vidgn.tools.speed import default_precision

PUBLISHED_GROUPS, PUBLISHED_WIDTH = 32, 64  # groups of group norm, and channels of the stem they belong to


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
) -> Start:
    """Build the net of the words `model`, `norm` and `crop`, with the weights of `init` if there are any.

    The normalization of the pixels is that of the weights; without weights it is 0.45 and 0.225.
    """
    net = build_net(model=model, norm=norm, crop=crop, num_classes=len(classes))
    if init is None:
        return Start(net, Normalize(), None)
    report = load_weights(net, init, classes=tuple(classes))
    mean, std = report.input_mean, report.input_std
    return Start(net, Normalize() if mean is None or std is None else Normalize(mean=mean, std=std), report)


def build_net(*, model: Mapping[str, Any], norm: Mapping[str, Any], crop: int, num_classes: int) -> VideoNet:
    """Build a net with fresh weights from plain values, as a configuration or a checkpoint has them.

    Raises:
        ValueError: an unknown model or norm, or a value out of its range.
    """
    factory = make_norm(**norm_options(norm, model=model))
    if model["name"] != "i3d" and model["name"] not in MODELS:
        raise ValueError(f"model.name ({model['name']}) is unknown; use one of i3d, {', '.join(MODELS)}.")
    if model["name"] != "i3d":
        options = {key: value for key, value in model.items() if key != "name"}
        return build_model(model["name"], num_classes=num_classes, norm=factory, crop=crop, **options)
    spec = I3DSpec(
        num_classes=num_classes,
        depth=model["depth"],
        width=model["width"],
        dropout=model["dropout"],
        pool1=model["pool1"],
        window=math.ceil(crop / 32),
    )
    return build_i3d(spec, norm=factory)


def norm_options(norm: Mapping[str, Any], *, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `make_norm`; the default number of groups follows the width of the stem.

    >>> group_norm = {"name": "gn", "num_groups": None, "channels_per_group": None}
    >>> norm_options(group_norm, model={"name": "i3d", "width": 16})["num_groups"]
    8
    """
    options = dict(norm)
    if options["name"] == "gn" and options.get("num_groups") is None and options.get("channels_per_group") is None:
        published = MODELS[model["name"]].width if model["name"] in MODELS else PUBLISHED_WIDTH
        options["num_groups"] = max(1, PUBLISHED_GROUPS * model["width"] // published)
    return options


def data_spec(data: Mapping[str, Any]) -> DataSpec:
    """Return the words `data.*` as a record; an unknown one is an error that lists the choices."""
    _check_known(DataSpec, data, group="data")
    return DataSpec(**data)


def optim_spec(optim: Mapping[str, Any]) -> OptimSpec:
    """Return the words `optim.*` as a record."""
    _check_known(OptimSpec, optim, group="optim")
    return OptimSpec(**{**optim, "drops": tuple(optim["drops"])})


def check_view_spec(num_clips: int, num_crops: object, clip_rule: str) -> ViewSpec:
    """Check the words of the test."""
    if num_clips < 1:
        raise ValueError(f"num_clips ({num_clips}) must be at least 1; the paper's is 10.")
    if num_crops not in (1, 3, "full"):
        raise ValueError(f"num_crops ({num_crops}) must be 3, 1 or full.")
    if clip_rule not in ("nonlocal", "linspace"):
        raise ValueError(f"clip_rule ({clip_rule}) must be nonlocal or linspace.")
    return ViewSpec(num_clips, num_crops, cast("Literal['nonlocal', 'linspace']", clip_rule))


def build_trainer(
    words: DictConfig,
    *,
    loggers: Sequence[str],
    folder: Path,
    callbacks: Sequence[L.Callback] = (),
    rank_timeout_minutes: float = 10.0,
) -> L.Trainer:
    """Build the Lightning Trainer of the words `trainer.*`.

    Args:
        words: arguments of the Trainer; `enable_checkpointing` decides about our own checkpoints (callbacks.keep),
            Lightning's are never used.
        loggers: names of `logger.names`.
        folder: of the run.
        callbacks: what watches the run.
        rank_timeout_minutes: that processes wait for each other.
    """
    strategy = find_strategy(str(words.strategy))
    arguments = cast("dict[str, Any]", OmegaConf.to_container(words, resolve=True))
    arguments["precision"] = arguments["precision"] or default_precision(arguments["accelerator"])
    trainer = L.Trainer(
        **{**arguments, "strategy": strategy, "enable_checkpointing": False},
        logger=[_logger(name, folder) for name in loggers] or False,
        callbacks=list(callbacks),
        plugins=[WholeCheckpoints()],
    )
    limit_waiting(trainer, minutes=rank_timeout_minutes)
    return trainer


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
) -> dict[str, Any]:
    """Return what a checkpoint says of itself: plain containers and primitives only."""
    return {
        "format": FORMAT,
        "classes": list(classes),
        "model": dict(model),
        "norm": norm_options(norm, model=model),
        "clip": {"clip_len": clip.clip_len, "span": clip.span},
        "crop": crop.crop,
        "normalize": {
            name: [round(value, 6) for value in values.flatten().tolist()]
            for name, values in (("mean", start.normalize.mean), ("std", start.normalize.std))
        },
        "test": {
            "num_clips": test.num_clips,
            "num_crops": test.num_crops,
            "clip_rule": test.clip_rule,
            "view_batch": view_batch,
        },
        "data": dict(vars(data)),
        "versions": versions(),
        "config": OmegaConf.to_yaml(config, resolve=True),
        "words": list(words),
    }


def versions() -> dict[str, str]:
    """Return the versions that decide a result."""
    packages = (
        "vidgn",
        "torch",
        "torchvision",
        "pytorchvideo",
        "av",
        "decord",
        "torchcodec",
        "lightning",
        "torchmetrics",
        "numpy",
    )
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_state(folder: Path) -> dict[str, str]:
    """Return the commit of the repository around `folder` and the files changed since; empty where there is none."""
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit, "changes": changes}


def _check_known(kind: type[DataSpec] | type[OptimSpec], words: Mapping[str, Any], *, group: str) -> None:
    known = kind.__dataclass_fields__
    unknown = [name for name in words if name not in known]
    if unknown:
        raise ValueError(f"{group}.{unknown[0]} is no word; use one of {', '.join(known)}.")


def _logger(name: str, folder: Path) -> Logger:
    if name == "csv":
        return History(folder)
    if name == "tensorboard":
        return Events(folder)
    if name == "wandb":
        from lightning.pytorch.loggers import WandbLogger

        return WandbLogger(save_dir=folder, project="vidgn", name=folder.name)
    raise ValueError(f"logger.names ({name}) is unknown; use csv, tensorboard or wandb.")


def device_word(trainer: L.Trainer) -> str:
    """Return where the run computes, for people."""
    device = trainer.strategy.root_device
    threads = torch.get_num_threads()
    on_cpu = f"cpu, {threads} thread{'s' * (threads > 1)}"
    return torch.cuda.get_device_name(device) if device.type == "cuda" else on_cpu
