"""Choose the options of a run on a person's own videos that were not given, and print which."""

import math
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.readers.types import Backend, VideoDecodeError
from vidgn.data.transforms import resize, scaled_size
from vidgn.data.video import open_video
from vidgn.files.shipped import SHIPPED, shipped_checkpoint
from vidgn.runs.command_line import parse_config
from vidgn.runs.config import RunConfig
from vidgn.runs.manifests import find_videos
from vidgn.terminal.console import say
from vidgn.terminal.overrides import option_name
from vidgn.training.own_data.rule import ChosenOptions, Facts, choose
from vidgn.training.own_data.weights import HOW, describe_weights, find_weights

OWN = ("folder", "csv", "frames")  # values of data.name whose videos are a person's own
_START = ("model", "norm", "init", "init_fresh", "preset", "distill", "fit_head")  # with one of these nothing is chosen
_STEPS = (  # each needs steps of training; start and clips are still chosen, for steps
    "optim", "epochs", "train_only", "freeze", "trainer.max_steps", "trainer.max_epochs", "loss", "mixup", "cutmix",
    "videomix",
)  # fmt: skip
_LOOKED_AT = 24  # videos opened to know their length and size
_FRAMES_SIDE = 224  # pixels of the frames that show where weights halve the image


class _Look(NamedTuple):
    """Typical length and short side of some videos, and a frame of each, uint8 (N, S, S, 3)."""

    num_frames: int
    short_side: int
    frames: NDArray[np.uint8]


def choose_for_own_data(config: RunConfig, *, first: Path | None) -> RunConfig:
    """Set the options that the user left open, by `vidgn.training.own_data.rule`, and print them.

    What is chosen is in `chosen` of the result. A run that resumes from a checkpoint takes what that one chose. With an
    option of training such as `optim.lr` the classifier is not fitted in one pass, and with one about the net or its
    start nothing is chosen.

    Args:
        config: of the run.
        first: checkpoint that the run resumes from.
    """
    if config.choose not in ("auto", "off"):
        raise ValueError(f"choose ({config.choose}) must be auto or off.")
    if config.choose == "off" or config.data.name not in OWN or config.task.name != "video":
        return config
    given = [name for name in _START if is_given(name, config.overrides)]
    reasons: tuple[str, ...]
    if first is not None:
        recorded = parse_config(read_checkpoint(first).description.config)
        options, reasons = recorded.get("chosen") or {}, ("as the checkpoint's run chose",)
    elif given:
        say(
            f"note: {given[0]} is given, so that start, net, recipe and clips are not chosen from the data: what is "
            f"left open has the defaults of configs/train.yaml; leave {' and '.join(given)} out for the choice"
        )
        return config
    else:
        options, reasons = _choose(config)
    kept = [text for text in config.overrides if option_name(text) in options or _needs_steps([text])]
    options = {name: value for name, value in options.items() if not config.is_typed(name)}
    _agree(config, options)
    if not options:
        return config
    shown = ", ".join(f"{name}={_shown(value)}" for name, value in options.items())
    lines = [f"chosen from the data and this machine ({shown}):", *(f"  {reason}" for reason in reasons)]
    lines += [f"  given, and kept: {', '.join(kept)}"] if kept else []
    say("\n".join([*lines, f"  {_CHANGE}"]))
    complete = config.with_options(options)
    if options.get("init") in SHIPPED:
        return replace(complete, init=str(shipped_checkpoint(options["init"])))
    return complete


_CHANGE = "give any of these options to set it yourself, or choose=off for the defaults of configs/train.yaml"


def is_given(name: str, arguments: Iterable[str]) -> bool:
    """Tell whether an option, or one of its group, is among the arguments of a command line.

    >>> is_given("optim", ["optim.lr=0.1"]), is_given("model", ["data=folder"])
    (True, False)
    """
    names = [option_name(word) for word in arguments]
    return any(given == name or given.startswith(f"{name}.") for given in names)


def _needs_steps(arguments: Iterable[str]) -> bool:
    return any(is_given(name, arguments) for name in _STEPS)


def _choose(config: RunConfig) -> ChosenOptions:
    """Look at the data and the machine, and apply the rule."""
    manifests = find_videos(config.data)
    if manifests["train"].targets.kind != "one":
        return ChosenOptions({}, ())  # several labels of a video: the rule knows nothing of them
    look = _look(manifests["train"], backend=config.data.backend)
    if look is None:
        return ChosenOptions({}, ())  # no video can be read; training says why
    init = find_weights()
    facts = Facts(
        num_train=len(manifests["train"]), num_test=len(manifests["test"]),
        num_classes=len(manifests["train"].classes), num_frames=look.num_frames, short_side=look.short_side,
        num_threads=len(os.sched_getaffinity(0)), has_gpu=_has_gpu(config.trainer.accelerator),
        weights=None if init is None else describe_weights(init, look.frames[::3]),
        by_steps=_needs_steps(config.overrides), epochs=config.epochs if config.is_typed("epochs") else None,
    )  # fmt: skip
    chosen = choose(facts)
    if init is None:
        say(f"note: {HOW}")
    return chosen


def _agree(config: RunConfig, options: dict[str, Any]) -> None:
    """Let a chosen span be a multiple of a given clip_len, or a chosen clip_len divide a given span."""
    if "span" in options and "clip_len" not in options:
        assert config.clip_len is not None  # whoever gives one of the two gives a number
        options["span"] = max(config.clip_len, options["span"] // config.clip_len * config.clip_len)
    elif "clip_len" in options and "span" not in options:
        assert config.span is not None
        options["clip_len"] = math.gcd(options["clip_len"], config.span)


def _has_gpu(accelerator: str) -> bool:
    return accelerator != "cpu" and (torch.cuda.is_available() or torch.backends.mps.is_available())


def _look(manifest: Manifest, *, backend: Backend) -> _Look | None:
    """Open some videos, evenly over the manifest; None where none can be read."""
    rows = sorted({int(row) for row in np.linspace(0, len(manifest) - 1, _LOOKED_AT)})
    lengths, sides, frames = [], [], []
    for row in rows:
        try:
            with open_video(manifest.path(row), backend=backend) as reader:
                lengths.append(len(reader))
                sides.append(min(reader.height, reader.width))
                frames.append(_square(reader.read(np.array([len(reader) // 2]))))
        except (OSError, VideoDecodeError):
            continue
    if not lengths:
        return None
    return _Look(int(np.median(lengths)), int(np.median(sides)), np.stack(frames))


def _square(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the middle square of a frame (1, H, W, 3), scaled to (S, S, 3)."""
    height, width = scaled_size(*frame.shape[1:3], short_side=_FRAMES_SIDE)
    scaled = resize(frame, size=(height, width))[:, 0]  # (3,h,w)
    top, left = (height - _FRAMES_SIDE) // 2, (width - _FRAMES_SIDE) // 2
    square: NDArray[np.uint8] = scaled[:, top : top + _FRAMES_SIDE, left : left + _FRAMES_SIDE].permute(1, 2, 0).numpy()
    return square


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
