"""Train a detector, then score its last weights: task=detect of `vidgn train`."""

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple, cast

import lightning as L
from lightning.pytorch.callbacks import LearningRateMonitor

from vidgn.callbacks.checkpointing import Keep
from vidgn.callbacks.early_stop import Monitor
from vidgn.callbacks.epoch_lines import EpochLines
from vidgn.callbacks.nonfinite import NonFiniteGuard
from vidgn.callbacks.preemption import Stop
from vidgn.callbacks.throughput import Bar, Pace
from vidgn.checkpoints.description import Description, TestViews
from vidgn.data.transforms import Normalize
from vidgn.detection.config import DetectionConfig
from vidgn.detection.data.images import AnnotatedImages
from vidgn.detection.data.module import PARTS, DetectionData
from vidgn.detection.evaluate import score_detector
from vidgn.detection.metric import require_metric
from vidgn.detection.module import DetectionModule
from vidgn.detection.network import build_detector
from vidgn.detection.results import PrecisionResult
from vidgn.detection.weights import Loaded, load_detector_weights
from vidgn.files.run_folder import check_run_inputs, checkpoint_of
from vidgn.runs.environment import device_word, record_run, versions
from vidgn.runs.loggers import History, log_config
from vidgn.runs.resume import check_same_job, find_start, init_content, own_folder
from vidgn.runs.trainer import build_trainer, check_devices
from vidgn.terminal.console import say

NO_CHOICE = Monitor("none", larger=False)  # a metric that nothing logs: no checkpoint becomes the best one


class DetectionJob(NamedTuple):
    """What is trained, on what, and from what."""

    module: DetectionModule
    data: DetectionData
    loaded: Loaded | None


def run_detection(config: DetectionConfig) -> PrecisionResult | None:
    """Run the options of `vidgn/detection/configs/train.yaml`; return the result of the final test.

    The last weights are tested, as Detectron does; a validation chooses nothing. With `trainer=dry` nothing is trained;
    see `vidgn.detection.dry_run`.
    """
    if config.trainer.dry is not None:
        from vidgn.detection.dry_run import dry_run_detection

        dry_run_detection(config, config.trainer.dry)
        return None
    require_metric()
    check_devices(config.trainer)
    folder = config.folder
    keep = Keep(
        folder / "checkpoints",
        every_minutes=config.save_every_minutes,
        every_steps=config.save_every_steps,
        last=config.keep_last,
        by=NO_CHOICE,
    )
    stop = Stop(keep if config.trainer.enable_checkpointing else None)
    check_run_inputs(folder, (config.init, config.data.train, config.data.val))
    with stop.listening(), own_folder(folder, overwrite=config.overwrite):
        first = find_start(config.resume, folder)
        job = build_job(config)
        if first is not None:
            check_same_job(first, cast("Description", job.module.description), force=config.resume_force)
        trainer = detection_trainer(config, job, folder=folder, keep=keep, stop=stop)
        record_run(folder, config=config.yaml(), overrides=config.overrides)
        _announce(job, trainer)
        log_config(trainer.loggers, config.plain())
        trainer.fit(job.module, job.data, ckpt_path=None if first is None else str(first))
        last = None
        if config.trainer.enable_checkpointing and not config.trainer.fast_dev_run:
            last = keep.save_end(trainer)
        if not config.test:
            return None
        result = score_detector(trainer, job.module, job.data, folder=folder, checkpoint=last)
        metrics = {f"test/{name}": value for name, value in result.precision.items()}
        log_config(trainer.loggers, config.plain(), metrics=metrics)
        return result


def build_job(config: DetectionConfig) -> DetectionJob:
    """Build what is trained and what it is trained on."""
    images, spec = config.data, config.model
    wanted = [part for part in PARTS if getattr(images, part) is not None and (part != "test" or config.test)]
    parts = {part: images.open(part) for part in wanted}
    classes = parts["train"].classes
    for part, split in parts.items():
        if split.classes != classes:
            raise ValueError(
                f"data.{part} has other classes than data.train: {', '.join(split.classes[:8])}; use one set."
            )
    L.seed_everything(config.seed, workers=True, verbose=False)
    net = build_detector(spec, num_classes=len(classes))
    loaded = None
    if config.init is not None:
        given = Path(config.init).expanduser()
        source = str(checkpoint_of(given, option="init=")) if given.is_dir() else config.init
        loaded = load_detector_weights(net, source, classes=classes)
    elif "frozen_bn" in (spec.backbone_norm, spec.fpn_norm, spec.box_norm, spec.mask_norm):
        say("note: frozen_bn from random weights only passes its input on; set init=, or another norm")
    normalize = Normalize() if loaded is None else loaded.normalize
    module = DetectionModule(
        net,
        normalize=normalize,
        optim=config.optim,
        batch=config.batch,
        description=describe_detector(config, classes=classes, normalize=normalize, train=parts["train"]),
        seed=config.seed,
    )
    return DetectionJob(module, DetectionData(parts, spec=images, batch=config.batch, seed=config.seed), loaded)


def describe_detector(
    config: DetectionConfig, *, classes: tuple[str, ...], normalize: Normalize, train: AnnotatedImages
) -> Description:
    """Return the description that the checkpoints of a run carry: an image is a clip of one frame."""
    spec, images, optim = config.model, config.data, config.optim
    mean, std = (
        tuple(round(value, 6) for value in values.flatten().tolist()) for values in (normalize.mean, normalize.std)
    )
    about = Description(
        classes=classes, model=asdict(spec), norm={"name": spec.backbone_norm}, clip_len=1, span=1,
        crop=images.shorter_side, mean=mean, std=std, test=TestViews(1, 1, "linspace", 1), data=asdict(images),
        versions=versions(), config=config.yaml(), overrides=config.overrides,
    )  # fmt: skip
    names = "\n".join(train.name(index) for index in range(len(train)))
    return replace(
        about,
        job={
            "batch": config.batch,
            "accumulate_grad_batches": config.trainer.accumulate_grad_batches,
            "seed": config.seed,
            "init": init_content(config.init),
            "precision": config.trainer.precision,
            "optim": {**asdict(optim), "drops": list(optim.drops)},
            **{f"data.{name}": getattr(images, name) for name in ("seed", "flip", "shorter_side", "longest_side")},
            "images": f"{len(train)} images, {hashlib.sha256(names.encode()).hexdigest()[:16]}",
        },
    )


def detection_trainer(config: DetectionConfig, job: DetectionJob, *, folder: Path, keep: Keep, stop: Stop) -> L.Trainer:
    """Build the trainer of a run, whose length is that of the recipe unless trainer.max_steps says another."""
    pace = Pace(folder / "pace.csv", but_not=(History,))
    callbacks: list[L.Callback] = [
        NonFiniteGuard(folder, video_name=job.data.parts["train"].name, skip=config.skip_nonfinite),
        *([keep] if config.trainer.enable_checkpointing else []),
        stop,
        *([LearningRateMonitor("step")] if config.logger.names else []),
        EpochLines(),
        pace,
        *([Bar(pace)] if config.trainer.enable_progress_bar else []),
    ]
    options = replace(
        config.trainer, precision=config.trainer.precision or "32-true"
    )  # the paper's; bf16-mixed by choice
    if "val" not in job.data.parts:
        options = replace(options, limit_val_batches=0)
    trainer = build_trainer(
        options, loggers=config.logger.names, folder=folder, callbacks=callbacks,
        rank_timeout_minutes=config.rank_timeout_minutes,
    )  # fmt: skip
    if trainer.max_steps == -1:
        images = config.batch * trainer.world_size * trainer.accumulate_grad_batches
        trainer.fit_loop.epoch_loop.max_steps = job.module.optim.total_steps(images)
        trainer.fit_loop.max_epochs = -1
    return trainer


def _announce(job: DetectionJob, trainer: L.Trainer) -> None:
    spec, module = job.module.net.spec, job.module
    learned = sum(parameter.numel() for parameter in module.net.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in module.net.parameters())
    images = module.batch * trainer.world_size * trainer.accumulate_grad_batches
    counts = ", ".join(f"{len(split):,} {part}" for part, split in job.data.parts.items())
    say(
        f"net {spec.name}: {total:,} parameters, {learned:,} learn; norms: body {spec.backbone_norm}, pyramid "
        f"{spec.fpn_norm}, box head {spec.box_norm}, mask head {spec.mask_norm}; on {device_word(trainer)}\n"
        f"data {job.data.spec.name}: {counts} images, {len(job.data.parts['train'].classes)} classes\n"
        f"optim: rate {module.optim.learning_rate(images):g} at {images} images per step, {trainer.max_steps:,} steps"
    )
    if job.loaded is not None:
        say(f"init ({job.loaded.source}): {job.loaded.tensors} tensors")
        for note in job.loaded.notes:
            say(f"note: {note}")
