"""From the options of a run to its parts: the net with its weights and loss, the videos, the description."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import lightning as L

from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.checkpoints.description import Description, TestViews
from vidgn.classifier import VideoClassifier
from vidgn.data.faults.quarantine import LEDGER
from vidgn.data.images.module import data_module
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.module import Split, VideoDataModule
from vidgn.data.transforms import Normalize
from vidgn.evaluation.published import open_checkpoint, respell
from vidgn.evaluation.restore import restore
from vidgn.files.run_folder import checkpoint_of
from vidgn.files.shipped import SHIPPED
from vidgn.models.drop_path import add_drop_path
from vidgn.models.net import VideoNet
from vidgn.models.registry import build_net, model_options, norm_options
from vidgn.models.stages import stages
from vidgn.models.weights.load import LoadReport, load_weights
from vidgn.objective.distillation import DistillSpec, Teacher, class_order
from vidgn.runs.config import ModelSpec, NormSpec, RunConfig, read_record
from vidgn.runs.defaults import check_task, fill_clip, fill_standardization, shape_from
from vidgn.runs.environment import versions
from vidgn.runs.manifests import find_videos, usable
from vidgn.runs.resume import job
from vidgn.runs.speed import speed_up
from vidgn.runs.split import earlier_split, split_of_run
from vidgn.training.label_kinds import build_loss, choose_loss
from vidgn.training.range_test import measure_rate
from vidgn.training.small_validation import choose_val_clips


class Start(NamedTuple):
    """A net and the pixels it wants."""

    net: VideoNet
    normalize: Normalize
    report: LoadReport | None


class Parts(NamedTuple):
    """What is trained, on what, from what, and the options with all that followed from these."""

    config: RunConfig
    classifier: VideoClassifier
    data: VideoDataModule
    start: Start


def build_parts(config: RunConfig, *, first: Path | None) -> Parts:
    """Build what is trained and what it is trained on.

    Args:
        config: of the run.
        first: checkpoint that the run resumes from.

    Raises:
        ValueError: options do not go together.
    """
    config = adopt_shape(config)
    check_task(config.task.name, config.data.name)
    config = fill_standardization(fill_clip(config))
    earlier = earlier_split(first, own_checkpoint(config.init))
    manifests = usable(find_videos(config.data, record=earlier))
    split = split_of_run(manifests, resume=first, earlier=earlier)
    classes, targets = manifests["train"].classes, manifests["train"].targets
    config = choose_loss(config, targets)
    start = start_net(config, classes)
    objective = build_loss(config.loss_spec, manifests["train"])
    config = choose_val_clips(config, manifests["val"], first=first)
    data = _data(config, manifests)
    if config.optim.lr == "auto":
        rate = measure_rate(config, start.net, start.normalize, objective, data, folder=config.folder)
        config = replace(config, optim=replace(config.optim, lr=rate))
    description = replace(
        describe(config, start, classes=classes), split=split.plain(), job=job(config, manifests), targets=targets
    )
    description.check_bounds("a checkpoint of this run", advice="it could not be read again, so change that option")
    classifier = VideoClassifier(
        start.net,
        normalize=start.normalize,
        optim=config.optim,
        classes=classes,
        batch=config.batch,
        view_batch=config.view_batch,
        loss=objective,
        stages=stages(start.net),
        teacher=find_teacher(config.distill, classes=classes),
        description=description,
        seed=config.seed,
        targets=targets,
    )
    return Parts(config, classifier, data, start)


def _data(config: RunConfig, manifests: Mapping[Split, Manifest]) -> VideoDataModule:
    assert config.val_clips is not None  # choose_val_clips gives a number
    return data_module(config.data.name)(
        manifests, spec=config.data, clip=config.clip, crop=config.crop_spec, test=config.view, batch=config.batch,
        seed=config.seed, ledger=config.folder / LEDGER, balanced=config.balanced, val_clips=config.val_clips,
        augment=config.augment,
    )  # fmt: skip


def start_net(config: RunConfig, classes: Sequence[str]) -> Start:
    """Seed the run, and build its net with the weights of `init` if there are any.

    The stages of `init_fresh` keep fresh weights. The normalization of the pixels is that of the weights; without
    weights it is 0.45 and 0.225.
    """
    L.seed_everything(config.seed, workers=True, verbose=False)
    net = build_net(
        model=config.model.plain(), norm=config.norm.plain(), crop=config.crop_spec.crop, num_classes=len(classes)
    )
    normalize, report = Normalize(), None
    if config.init is not None:
        report = load_weights(net, config.init, classes=tuple(classes), fresh=config.init_fresh)
        if report.input_mean is not None and report.input_std is not None:
            normalize = Normalize(mean=report.input_mean, std=report.input_std)
    elif config.init_fresh:
        fresh = ", ".join(config.init_fresh)
        raise ValueError(f"init_fresh ({fresh}) needs weights for the other stages; set init=FILE.")
    add_drop_path(net, config.drop_path)  # before the blocks are fused
    speed_up(net, config.speed, accelerator=config.trainer.accelerator)
    return Start(net, normalize, report)


def describe(config: RunConfig, start: Start, *, classes: Sequence[str]) -> Description:
    """Return the description that the checkpoints of a run carry."""
    mean, std = (
        tuple(round(value, 6) for value in values.flatten().tolist())
        for values in (start.normalize.mean, start.normalize.std)
    )
    view, model = config.view, config.model.plain()
    return Description(
        classes=tuple(classes),
        model=model_options(model),
        norm=norm_options(config.norm.plain(), model=model),
        clip_len=config.clip.clip_len,
        span=config.clip.span,
        crop=config.crop_spec.crop,
        mean=mean,
        std=std,
        test=TestViews(view.num_clips, view.num_crops, view.clip_rule, config.view_batch),
        data=dict(vars(config.data)),
        versions=versions(),
        config=config.yaml(),
        overrides=config.overrides,
    )


def find_teacher(spec: DistillSpec, *, classes: Sequence[str]) -> Teacher | None:
    """Return the net of `distill.ckpt`, None where there is none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint, or does not name the classes.
    """
    if spec.ckpt is None:
        return None
    checkpoint = open_checkpoint(Path(spec.ckpt).expanduser())
    order = class_order(classes, respell(checkpoint.description.classes, classes))
    teacher = restore(checkpoint)
    return Teacher(teacher.net, teacher.normalize, order=order, spec=spec)


def name_init(config: RunConfig) -> RunConfig:
    """Replace a run folder or a shipped name in `init` by its checkpoint."""
    init = config.init
    if init is None or not (init in SHIPPED or Path(init).expanduser().is_dir()):
        return config
    return replace(config, init=str(checkpoint_of(init, option="init=")))


def adopt_shape(config: RunConfig) -> RunConfig:
    """Give the net the shape and norm of the checkpoint it starts from, where vidgn wrote it.

    Raises:
        ValueError: the command line asks for another shape.
    """
    path = own_checkpoint(config.init)
    if path is None:
        return config
    theirs = read_checkpoint(path).description
    given = config.model.plain()
    shape = shape_from(theirs, given)
    for key, value in shape.items():
        option = "model" if key == "name" else f"model.{key}"
        if config.is_typed(option) and given.get(key) != value:
            raise ValueError(f"{option}={given.get(key)}, but init={path} has {value}; leave {option} out.")
    config = replace(config, model=read_record(ModelSpec, {**shape, "dropout": config.model.dropout}))
    if any(config.is_typed(name) for name in ("norm", "norm.num_groups", "norm.channels_per_group")):
        return config
    return replace(config, norm=read_record(NormSpec, theirs.norm))


def own_checkpoint(init: str | None) -> Path | None:
    """Return the file of `init` where it is a vidgn checkpoint."""
    path = None if init is None else Path(init).expanduser()
    if path is None or not path.is_file():
        return None
    try:
        read_checkpoint(path)
    except ValueError:
        return None  # other weights; load_weights reads them, or says what is wrong with them
    return path
