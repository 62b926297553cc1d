"""Train, then test the best checkpoint: what `train.py` does."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from torch import nn

from vidgn.callbacks.averaging import WeightAverage
from vidgn.callbacks.checkpointing import BEST, Keep
from vidgn.callbacks.early_stop import EarlyStop, monitor
from vidgn.callbacks.freeze import Freeze
from vidgn.callbacks.nonfinite import NonFiniteGuard
from vidgn.callbacks.precise_bn import PreciseBN
from vidgn.callbacks.preemption import Stop
from vidgn.checkpoint import read_checkpoint
from vidgn.classifier import VideoClassifier
from vidgn.console import say
from vidgn.data.augment import AugmentSpec
from vidgn.data.clips import ClipSpec
from vidgn.data.faults.quarantine import LEDGER
from vidgn.data.images.module import data_module
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.module import Split, VideoDataModule, mirror_changes
from vidgn.data.transforms import CropSpec
from vidgn.description import Description
from vidgn.distillation import DistillSpec, Teacher, class_order
from vidgn.evaluation.evaluate import Result, check_test_limit, score_test
from vidgn.evaluation.published import open_checkpoint, respell
from vidgn.evaluation.restore import restore
from vidgn.losses import LossSpec
from vidgn.models.drop_path import DropPathSum, add_drop_path
from vidgn.models.net import VideoNet
from vidgn.models.registry import model_options
from vidgn.models.stages import freeze_stages, frozen_names, stages
from vidgn.norms.weight_standardization import is_standardized
from vidgn.run_folder import check_run_inputs, checkpoint_of
from vidgn.runs.command_line import is_typed, run_folder, typed_words
from vidgn.runs.defaults import check_task, fill_clip, fill_standardization, shape_from
from vidgn.runs.environment import device_word, git_state, versions
from vidgn.runs.fsdp import check_clipping, check_sharding
from vidgn.runs.loggers import log_config
from vidgn.runs.manifests import find_videos, usable
from vidgn.runs.resume import bring_best, check_same_job, find_start, job, own_folder
from vidgn.runs.specs import check_view_spec, data_spec, optim_spec
from vidgn.runs.speed import Speed, check_compilable, kernels_line, speed_spec, speed_up
from vidgn.runs.split import earlier_split, split_of_run, write_split
from vidgn.runs.trainer import build_trainer, check_devices
from vidgn.shipped import SHIPPED
from vidgn.training.batch_strip import BatchStrip
from vidgn.training.cpu_time import long_job_note, training_hours
from vidgn.training.data_checks import check_data
from vidgn.training.drop_path import DropPathDraws
from vidgn.training.dry_run import dry_run
from vidgn.training.label_kinds import build_loss, choose_loss
from vidgn.training.own_data.choose import choose_for_own_data
from vidgn.training.own_data.run_fit import FITTED, check_fit_head, train_by_fit
from vidgn.training.range_test import keep_rate, measure_rate
from vidgn.training.small_validation import announce_best, best_by, choose_val_clips
from vidgn.training.start import Start, describe, start_net
from vidgn.training.watch import watchers


def run_training(config: DictConfig, *, extra: Sequence[L.Callback] = ()) -> Result | None:
    """Train with the options of `configs/train.yaml`; return the result of the final test, None without one.

    With `trainer=dry` nothing is trained; see `vidgn.training.dry_run`. `extra` watches the run, too, and is called
    before checkpoints are saved.
    """
    if config.init is not None and (str(config.init) in SHIPPED or Path(str(config.init)).expanduser().is_dir()):
        config.init = str(checkpoint_of(str(config.init), option="init="))
    if config.trainer.get("dry") is not None:
        config.optim.lr = None if config.optim.lr == "auto" else config.optim.lr  # not measured
        adopt_shape(config)
        dry_run(config)
        return None
    _check_options(config)
    folder = run_folder()
    keep = _checkpoints(config, folder)
    stop = Stop(keep if config.trainer.enable_checkpointing else None)
    check_run_inputs(folder, config)
    with stop.listening(), own_folder(folder, overwrite=config.overwrite):
        first = find_start(config.resume, folder)
        choose_for_own_data(config, first=first)
        keep_rate(config, first)
        classifier, data, start = _parts(config, first)
        keep.by = best_by(config, num_videos=len(data.manifests["val"]))
        callbacks = _callbacks(config, classifier, data, keep=keep, stop=stop, folder=folder, extra=extra)
        if first is not None:
            check_same_job(first, _described(classifier), force=config.resume_force)
            bring_best(first, folder)
        else:
            (folder / LEDGER).unlink(missing_ok=True)  # of an earlier run in the same folder
        trainer = build_trainer(
            config.trainer,
            loggers=config.logger.names,
            folder=folder,
            callbacks=callbacks,
            rank_timeout_minutes=config.rank_timeout_minutes,
        )
        _record_run(folder, config)
        _record_split(folder, data.manifests)
        _announce(config, start, data.manifests, trainer)
        if config.fit_head:
            one_label = data.manifests["train"].targets.kind == "one"
            check_fit_head(config, num_ranks=trainer.world_size, one_label=one_label)
        if trainer.is_global_zero:
            check_data(data.manifests, folder)
        log_config(trainer.loggers, _plain(config))
        if config.fit_head:
            best: Path | None = train_by_fit(trainer, classifier, data, keep=keep, first=first)
        else:
            trainer.fit(classifier, data, ckpt_path=None if first is None else str(first))
            best = _best(trainer, keep)
        return _test_best(config, trainer, classifier, data, keep=keep, best=best) if config.test else None


def _check_options(config: DictConfig) -> None:
    """Check what can be checked before anything is read or built.

    Raises:
        ValueError: an option does not fit this machine or another option.
    """
    check_devices(config.trainer)
    check_compilable(config.norm.name, speed_spec(config))
    check_clipping(config.optim.agc, strategy=str(config.trainer.strategy))
    if config.test:
        check_test_limit(config.trainer)
    check_sharding(str(config.trainer.strategy), precision=config.trainer.precision, speed=speed_spec(config))


def _checkpoints(config: DictConfig, folder: Path) -> Keep:
    return Keep(
        folder / "checkpoints",
        every_minutes=config.save_every_minutes,
        every_steps=config.save_every_steps,
        last=config.keep_last,
        by=monitor(config.best_by),
    )


def _callbacks(
    config: DictConfig, classifier: VideoClassifier, data: VideoDataModule, *, keep: Keep, stop: Stop, folder: Path,
    extra: Sequence[L.Callback],
) -> list[L.Callback]:  # fmt: skip
    """Return what watches the run. Lightning calls them in this order, and what is saved depends on it."""
    precise = []
    if config.precise_bn:
        precise = [PreciseBN(num_batches=config.precise_bn, only_resume=lambda: stop.asked is not None)]
    return [
        NonFiniteGuard(folder, video_name=data.manifests["train"].video_id, skip=config.skip_nonfinite),
        *averages(classifier.net, config),  # before keep, which saves the trained weights
        *([EarlyStop(config.early_stop, by=keep.by)] if config.early_stop is not None else []),  # before keep
        *extra,  # before keep
        *([keep] if config.trainer.enable_checkpointing else []),  # before all that log
        stop,
        *precise,
        Speed(speed_spec(config), clip=(config.clip_len, config.crop, config.batch)),
        *([LearningRateMonitor("step")] if config.logger.names else []),
        *regularizers(cast("VideoNet", classifier.net), config),
        *([BatchStrip(folder, classifier.classes)] if data.augment.is_on else []),
        *watchers(config, net=classifier.net, folder=folder),
    ]


def _test_best(
    config: DictConfig,
    trainer: L.Trainer,
    classifier: VideoClassifier,
    data: VideoDataModule,
    *,
    keep: Keep,
    best: Path | None,
) -> Result:
    """Score the best checkpoint on the test videos, and log the result."""
    if best is not None and not config.fit_head:
        announce_best(keep, num_videos=len(data.manifests["val"]), num_clips=config.val_clips)
    if best is not None:
        classifier.net.load_state_dict(read_checkpoint(best).net)
    result = score_test(trainer, classifier, data, folder=run_folder(), checkpoint=best)
    names = ("video_top1", "video_top5", "clip_top1", "clip_top5")
    metrics = {f"test/{name}": float(getattr(result, name)) for name in names}
    log_config(trainer.loggers, _plain(config), metrics=metrics)
    return result


def _parts(config: DictConfig, first: Path | None) -> tuple[VideoClassifier, VideoDataModule, Start]:
    """Build what is trained and what it is trained on."""
    adopt_shape(config)
    check_task(config)
    fill_clip(config)
    fill_standardization(config)
    clip, crop = ClipSpec(config.clip_len, config.span), CropSpec(config.crop)
    test = check_view_spec(config.num_clips, config.num_crops, config.clip_rule)
    augment = AugmentSpec(**{name: config[name] for name in AugmentSpec.__dataclass_fields__})
    spec = data_spec(_plain(config.data))
    earlier = earlier_split(first, _our_checkpoint(config))
    manifests = usable(find_videos(spec, record=earlier))
    split = split_of_run(manifests, resume=first, earlier=earlier)
    classes, targets = manifests["train"].classes, manifests["train"].targets
    choose_loss(config, targets)
    loss = LossSpec(**{name: _value(config[name]) for name in LossSpec.__dataclass_fields__})

    L.seed_everything(config.seed, workers=True, verbose=False)
    model, norm = _plain(config.model), _plain(config.norm)
    start = start_net(
        model=model, norm=norm, crop=crop.crop, classes=classes, init=config.init,
        init_fresh=config.init_fresh,
    )  # fmt: skip
    add_drop_path(start.net, config.drop_path)  # before the blocks are fused
    speed_up(start.net, speed_spec(config), accelerator=config.trainer.accelerator)
    objective = build_loss(loss, manifests["train"])
    choose_val_clips(config, manifests["val"], first=first)
    data = data_module(spec.name)(
        manifests, spec=spec, clip=clip, crop=crop, test=test, batch=config.batch, seed=config.seed,
        ledger=run_folder() / LEDGER, balanced=config.balanced,
        val_clips=config.val_clips, augment=augment,
    )  # fmt: skip
    if config.optim.lr == "auto":
        config.optim.lr = measure_rate(config, start.net, start.normalize, objective, data, folder=run_folder())
    description = describe(
        start=start, classes=classes, clip=clip, crop=crop, test=test, view_batch=config.view_batch,
        model=model, norm=norm, data=spec, config=config, words=typed_words(),
    )  # fmt: skip
    classifier = VideoClassifier(
        start.net,
        normalize=start.normalize,
        optim=optim_spec(_plain(config.optim)),
        classes=classes,
        batch=config.batch,
        view_batch=config.view_batch,
        loss=objective,
        stages=stages(start.net),
        teacher=find_teacher(DistillSpec(**_plain(config.distill)), classes=classes),
        description=replace(
            description, split=split.plain(), job=job(config, manifests, optim=_plain(config.optim)), targets=targets
        ),
        seed=config.seed,
        targets=targets,
    )
    return classifier, data, start


def averages(net: nn.Module, config: DictConfig) -> list[L.Callback]:
    """Return what averages the weights, by the options `ema` and `swa`.

    Raises:
        ValueError: both are given, or one beside an option that it does not go with.
    """
    if config.ema is None and config.swa is None:
        return []
    for option, value in (("precise_bn", config.precise_bn), ("trainer.strategy", config.trainer.strategy)):
        if (option == "precise_bn" and value) or value == "fsdp":
            raise ValueError(
                f"ema ({config.ema}) and swa ({config.swa}) do not go with {option}={value}; leave one of them out."
            )
    return [WeightAverage(net, decay=config.ema, swa=config.swa)]


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


def regularizers(net: VideoNet, config: DictConfig) -> list[L.Callback]:
    """Freeze what the options say, and return the callbacks that keep it frozen and draw the dropped paths."""
    frozen = freeze_stages(net, frozen_names(list(config.freeze), config.train_only))
    sums = [module for module in net.modules() if isinstance(module, DropPathSum)]
    return [
        *([Freeze(frozen)] if frozen else []),
        *([DropPathDraws(sums, seed=config.seed)] if sums else []),
    ]


def _described(classifier: VideoClassifier) -> Description:
    assert classifier.description is not None  # _parts gives it one
    return classifier.description


def adopt_shape(config: DictConfig) -> None:
    """Give the net the shape and norm of the checkpoint it starts from, where vidgn wrote it.

    Raises:
        ValueError: the command line asks for another shape.
    """
    path = _our_checkpoint(config)
    if path is None:
        return
    theirs = read_checkpoint(path).description
    shape = shape_from(theirs, config.model)
    for key, value in shape.items():
        word = "model" if key == "name" else f"model.{key}"
        if is_typed(word) and config.model.get(key) != value:
            raise ValueError(f"{word}={config.model.get(key)}, but init={path} has {value}; leave {word} out.")
    config.model = OmegaConf.create({**shape, "dropout": config.model.dropout})
    if not any(is_typed(word) for word in ("norm", "norm.num_groups", "norm.channels_per_group")):
        config.norm = OmegaConf.create(dict(theirs.norm))


def _announce(config: DictConfig, start: Start, manifests: Mapping[Split, Manifest], trainer: L.Trainer) -> None:
    counts = ", ".join(f"{len(manifest):,} {split}" for split, manifest in manifests.items())
    parameters = sum(parameter.numel() for parameter in start.net.parameters())
    say(
        f"net {_net_words(config)}: {parameters:,} parameters, on {device_word(trainer)}\n"
        f"data {config.data.name}: {counts} videos, {len(manifests['train'].classes)} classes; "
        f"clips {config.clip_len} frames x stride {config.span // config.clip_len}, crop {config.crop}, "
        f"batch {config.batch} x {trainer.world_size}\n"
        + (FITTED if config.fit_head else f"optim {_chosen_recipe(config)}: {_rate(config, trainer)}")
    )
    if (kernels := kernels_line(speed_spec(config), accelerator=config.trainer.accelerator)) is not None:
        say(kernels)
    _announce_time(config, num_videos=len(manifests["train"]), trainer=trainer)
    sided = mirror_changes(manifests["train"].classes)
    if config.data.flip is None and sided:
        say(f"note: clips are not mirrored, since that would change {', '.join(sided[:5])}; data.flip=true forces it")
    if is_standardized(start.net) and config.init is None and not is_typed("model.weight_standardization"):
        say(
            "note: kernels are standardized, the default of norm=gn from random weights;"
            " model.weight_standardization=false is the paper's net"
        )
    if start.report is not None:
        head = "new classifier" if start.report.replaced_head else "classifier kept"
        say(f"init {config.init} ({start.report.source_format}): {start.report.loaded} tensors, {head}")
        for note in start.report.notes:
            say(f"note: {note}")
    recipe = _chosen_recipe(config)
    if config.fit_head:
        return
    if recipe == "scratch" and config.init is not None:
        say("note: optim=scratch has a high rate meant for random weights, but init= is given; see optim=finetune")
    if recipe in ("paper", "finetune") and config.init is None:
        say(f"note: optim={recipe} is meant for weights to start from, but init= is not given; see optim=scratch")


def _announce_time(config: DictConfig, *, num_videos: int, trainer: L.Trainer) -> None:
    """Print a note where the job takes many hours on a CPU."""
    if (
        trainer.strategy.root_device.type != "cpu"
        or config.fit_head
        or trainer.max_steps > 0
        or config.task.name == "image"
    ):
        return
    hours = training_hours(
        num_videos=num_videos, epochs=config.epochs, width=config.model.width, clip_len=config.clip_len,
        crop=config.crop, num_threads=torch.get_num_threads() * trainer.world_size,
        frozen=config.train_only == "head",
    )  # fmt: skip
    note = long_job_note(hours)
    if note is not None:
        say(note)


def _net_words(config: DictConfig) -> str:
    """Say which net it is, such as `i3d with gn (depth 50, width 16, dropout 0.0, pool1 nonlocal)`."""
    details = ", ".join(f"{key} {value}" for key, value in model_options(_plain(config.model)).items() if key != "name")
    return f"{config.model.name} with {config.norm.name} ({details})"


def _rate(config: DictConfig, trainer: L.Trainer) -> str:
    """Say the highest rate of the run and how it follows from optim.lr."""
    recipe = optim_spec(_plain(config.optim))
    clips = config.batch * trainer.world_size * trainer.accumulate_grad_batches
    return (
        f"rate {recipe.learning_rate(clips):.4g} at {clips} clips per step (optim.lr {recipe.lr:g} is for "
        f"{recipe.lr_clips} clips), schedule {recipe.schedule}"
    )


def _chosen_recipe(config: DictConfig) -> str:
    from hydra.core.hydra_config import HydraConfig

    if "optim" in config.chosen:
        return str(config.chosen.optim)
    return str(HydraConfig.get().runtime.choices.get("optim"))


def _best(trainer: L.Trainer, keep: Keep) -> Path | None:
    """Return the best checkpoint; where none was written (a run of a few steps) write the last state."""
    if trainer.fast_dev_run or keep not in trainer.callbacks:  # type: ignore[attr-defined]
        return None
    return keep.folder / BEST if keep.best is not None else keep.save_end(trainer)


@rank_zero_only
def _record_run(folder: Path, config: DictConfig) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True), encoding="utf-8")
    state = {"words": typed_words(), "versions": versions(), "git": git_state(Path(__file__).parent)}
    (folder / "environment.json").write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")


@rank_zero_only
def _record_split(folder: Path, manifests: Mapping[Split, Manifest]) -> None:
    write_split(folder, manifests)


def _our_checkpoint(config: DictConfig) -> Path | None:
    """Return the file of `init` where it is a vidgn checkpoint."""
    path = Path(str(config.init)).expanduser() if config.init is not None else None
    return path if path is not None and path.is_file() and _is_ours(path) else None


def _is_ours(path: Path) -> bool:
    try:
        read_checkpoint(path)
    except ValueError:
        return False  # other weights; load_weights reads them, or says what is wrong with them
    return True


def _value(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _plain(node: DictConfig) -> dict[str, Any]:
    return cast("dict[str, Any]", OmegaConf.to_container(node, resolve=True))
