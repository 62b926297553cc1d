"""What a training run prints at its start: net, data, rate, and notes on what may surprise."""

from collections.abc import Iterator, Mapping

import lightning as L
import torch

from vidgn.data.manifests.manifest import Manifest
from vidgn.data.module import Split, mirror_changes
from vidgn.models.registry import model_options
from vidgn.norms.weight_standardization import is_standardized
from vidgn.runs.config import RunConfig
from vidgn.runs.environment import device_word
from vidgn.runs.speed import kernels_line
from vidgn.terminal.console import say
from vidgn.training.cpu_time import long_job_note, training_hours
from vidgn.training.own_data.run_fit import FITTED
from vidgn.training.parts import Start


def announce(config: RunConfig, start: Start, manifests: Mapping[Split, Manifest], trainer: L.Trainer) -> None:
    """Print what is trained, on what and how, with the notes that belong to it."""
    counts = ", ".join(f"{len(manifest):,} {split}" for split, manifest in manifests.items())
    parameters = sum(parameter.numel() for parameter in start.net.parameters())
    clip = config.clip
    say(
        f"net {_net_text(config)}: {parameters:,} parameters, on {device_word(trainer)}\n"
        f"data {config.data.name}: {counts} videos, {len(manifests['train'].classes)} classes; "
        f"clips {clip.clip_len} frames x stride {clip.stride}, crop {config.crop}, "
        f"batch {config.batch} x {trainer.world_size}\n"
        + (FITTED if config.fit_head else f"optim {config.recipe}: {_rate(config, trainer)}")
    )
    kernels = kernels_line(config.speed, accelerator=config.trainer.accelerator)
    time = _time_note(config, num_videos=len(manifests["train"]), trainer=trainer)
    for line in (kernels, time, *_notes(config, start, manifests)):
        if line is not None:
            say(line)


def _notes(config: RunConfig, start: Start, manifests: Mapping[Split, Manifest]) -> Iterator[str]:
    sided = mirror_changes(manifests["train"].classes)
    if config.data.flip is None and sided:
        yield f"note: clips are not mirrored, since that would change {', '.join(sided[:5])}; data.flip=true forces it"
    if is_standardized(start.net) and config.init is None and not config.is_typed("model.weight_standardization"):
        yield (
            "note: kernels are standardized, the default of norm=gn from random weights;"
            " model.weight_standardization=false is the paper's net"
        )
    if start.report is not None:
        head = "new classifier" if start.report.replaced_head else "classifier kept"
        yield f"init {config.init} ({start.report.source_format}): {start.report.loaded} tensors, {head}"
        yield from (f"note: {note}" for note in start.report.notes)
    if config.fit_head:
        return
    if config.recipe == "scratch" and config.init is not None:
        yield "note: optim=scratch has a high rate meant for random weights, but init= is given; see optim=finetune"
    if config.recipe in ("paper", "finetune") and config.init is None:
        yield (
            f"note: optim={config.recipe} is meant for weights to start from, but init= is not given; see optim=scratch"
        )


def _time_note(config: RunConfig, *, num_videos: int, trainer: L.Trainer) -> str | None:
    """Return a note where the job takes many hours on a CPU."""
    is_on_cpu = trainer.strategy.root_device.type == "cpu"
    if not is_on_cpu or config.fit_head or trainer.max_steps > 0 or config.task.name == "image":
        return None
    hours = training_hours(
        num_videos=num_videos, epochs=config.epochs, width=config.model.width, clip_len=config.clip.clip_len,
        crop=config.crop_spec.crop, num_threads=torch.get_num_threads() * trainer.world_size,
        frozen=config.train_only == "head",
    )  # fmt: skip
    return long_job_note(hours)


def _net_text(config: RunConfig) -> str:
    """Return which net it is, such as `i3d with gn (depth 50, width 16, dropout 0.0, pool1 nonlocal)`."""
    options = model_options(config.model.plain())
    details = ", ".join(f"{name} {value}" for name, value in options.items() if name != "name")
    return f"{config.model.name} with {config.norm.name} ({details})"


def _rate(config: RunConfig, trainer: L.Trainer) -> str:
    """Return the highest rate of the run and how it follows from optim.lr."""
    recipe = config.optim
    clips = config.batch * trainer.world_size * trainer.accumulate_grad_batches
    return (
        f"rate {recipe.learning_rate(clips):.4g} at {clips} clips per step (optim.lr {recipe.peak:g} is for "
        f"{recipe.lr_clips} clips), schedule {recipe.schedule}"
    )
