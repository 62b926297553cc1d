"""Train, then test the best checkpoint: what `train.py` does."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import lightning as L
from lightning.pytorch.callbacks import LearningRateMonitor
from torch import nn

from vidgn.callbacks.averaging import WeightAverage
from vidgn.callbacks.checkpointing import BEST, Keep
from vidgn.callbacks.early_stop import EarlyStop, monitor
from vidgn.callbacks.freeze import Freeze
from vidgn.callbacks.nonfinite import NonFiniteGuard
from vidgn.callbacks.precise_bn import PreciseBN
from vidgn.callbacks.preemption import Stop
from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.data.faults.quarantine import LEDGER
from vidgn.evaluation.evaluate import Result, check_test_limit, score_test
from vidgn.files.run_folder import check_run_inputs
from vidgn.models.drop_path import DropPathSum
from vidgn.models.net import VideoNet
from vidgn.models.stages import freeze_stages, frozen_names
from vidgn.runs.config import RunConfig
from vidgn.runs.environment import record_run
from vidgn.runs.fsdp import check_clipping, check_sharding
from vidgn.runs.loggers import log_config
from vidgn.runs.resume import bring_best, check_same_job, find_start, own_folder
from vidgn.runs.speed import Speed, check_compilable
from vidgn.runs.split import write_split
from vidgn.runs.trainer import build_trainer, check_devices, check_numbers
from vidgn.terminal.console import say
from vidgn.training.announce import announce
from vidgn.training.batch_strip import BatchStrip
from vidgn.training.data_checks import check_data
from vidgn.training.drop_path import DropPathDraws
from vidgn.training.dry_run import dry_run
from vidgn.training.own_data.choose import choose_for_own_data
from vidgn.training.own_data.run_fit import check_fit_head, train_by_fit
from vidgn.training.parts import Parts, adopt_shape, build_parts, name_init
from vidgn.training.range_test import keep_rate
from vidgn.training.small_validation import announce_best, best_by
from vidgn.training.watch import watchers


def run_training(config: RunConfig, *, extra: Sequence[L.Callback] = ()) -> Result | None:
    """Train with the options of `configs/train.yaml`; return the result of the final test, None without one.

    With `trainer=dry` nothing is trained; see `vidgn.training.dry_run`. `extra` watches the run, too, and is called
    before checkpoints are saved.
    """
    config = name_init(config)
    if config.trainer.dry is not None:
        optim = replace(config.optim, lr=None) if config.optim.lr == "auto" else config.optim  # not measured
        dry_run(adopt_shape(replace(config, optim=optim)), config.trainer.dry)
        return None
    check_options(config)
    keep = Keep(
        config.folder / "checkpoints",
        every_minutes=config.save_every_minutes,
        every_steps=config.save_every_steps,
        last=config.keep_last,
        by=monitor(config.best_by),
    )
    stop = Stop(keep if config.trainer.enable_checkpointing else None)
    check_run_inputs(config.folder, config.inputs)
    with stop.listening(), own_folder(config.folder, overwrite=config.overwrite):
        first = find_start(config.resume, config.folder)
        config = keep_rate(choose_for_own_data(config, first=first), first)
        parts = build_parts(config, first=first)
        keep.by = best_by(parts.config, num_videos=len(parts.data.manifests["val"]))
        trainer = _prepare(parts, keep=keep, stop=stop, first=first, extra=extra)
        best = _fit(parts, trainer, keep=keep, first=first)
        return _test_best(parts, trainer, keep=keep, best=best) if config.test else None


def check_options(config: RunConfig) -> None:
    """Check what can be checked before anything is read or built.

    Raises:
        ValueError: an option does not fit this machine or another option.
    """
    check_devices(config.trainer)
    check_numbers(config.trainer)
    check_compilable(config.norm.name, config.speed)
    check_clipping(config.optim.agc, strategy=config.trainer.strategy)
    if config.test:
        check_test_limit(config.trainer)
    check_sharding(config.trainer.strategy, precision=config.trainer.precision, speed=config.speed)


def _prepare(parts: Parts, *, keep: Keep, stop: Stop, first: Path | None, extra: Sequence[L.Callback]) -> L.Trainer:
    """Build the trainer, record the run in its folder and print what it is."""
    config, folder, manifests = parts.config, parts.config.folder, parts.data.manifests
    if first is None:
        (folder / LEDGER).unlink(missing_ok=True)  # of an earlier run in the same folder
    else:
        assert parts.classifier.description is not None  # build_parts gives it one
        check_same_job(first, parts.classifier.description, force=config.resume_force)
        bring_best(first, folder)
    trainer = build_trainer(
        config.trainer,
        loggers=config.logger.names,
        folder=folder,
        callbacks=_callbacks(parts, keep=keep, stop=stop, extra=extra),
        rank_timeout_minutes=config.rank_timeout_minutes,
    )
    record_run(folder, config=config.yaml(), overrides=config.overrides)
    if trainer.is_global_zero:
        write_split(folder, manifests)
    announce(config, parts.start, manifests, trainer)
    if config.fit_head:
        one_label = manifests["train"].targets.kind == "one"
        check_fit_head(config, num_ranks=trainer.world_size, one_label=one_label)
    if trainer.is_global_zero:
        check_data(manifests, folder)
    log_config(trainer.loggers, config.plain())
    return trainer


def _callbacks(parts: Parts, *, keep: Keep, stop: Stop, extra: Sequence[L.Callback]) -> list[L.Callback]:
    """Return what watches the run. Lightning calls them in this order, and what is saved depends on it."""
    config, data, folder = parts.config, parts.data, parts.config.folder
    net = cast("VideoNet", parts.classifier.net)
    precise = []
    if config.precise_bn:
        precise = [PreciseBN(num_batches=config.precise_bn, only_resume=lambda: stop.asked is not None)]
    return [
        NonFiniteGuard(folder, video_name=data.manifests["train"].video_id, skip=config.skip_nonfinite),
        *averages(net, config),  # before keep, which saves the trained weights
        *([EarlyStop(config.early_stop, by=keep.by)] if config.early_stop is not None else []),  # before keep
        *extra,  # before keep
        *([keep] if config.trainer.enable_checkpointing else []),  # before all that log
        stop,
        *precise,
        Speed(config.speed, clip=(config.clip.clip_len, config.crop_spec.crop, config.batch)),
        *([LearningRateMonitor("step")] if config.logger.names else []),
        *regularizers(net, config),
        *([BatchStrip(folder, parts.classifier.classes)] if data.augment.is_on else []),
        *watchers(config, net=net, folder=folder),
    ]


def averages(net: nn.Module, config: RunConfig) -> list[L.Callback]:
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


def regularizers(net: VideoNet, config: RunConfig) -> list[L.Callback]:
    """Freeze what the options say, and return the callbacks that keep it frozen and draw the dropped paths."""
    frozen = freeze_stages(net, frozen_names(config.freeze, config.train_only))
    sums = [module for module in net.modules() if isinstance(module, DropPathSum)]
    return [
        *([Freeze(frozen)] if frozen else []),
        *([DropPathDraws(sums, seed=config.seed)] if sums else []),
    ]


def _fit(parts: Parts, trainer: L.Trainer, *, keep: Keep, first: Path | None) -> Path | None:
    """Train; return the best checkpoint. Where none was written (a run of a few steps) write the last state."""
    if parts.config.fit_head:
        return train_by_fit(trainer, parts.classifier, parts.data, keep=keep, first=first)
    trainer.fit(parts.classifier, parts.data, ckpt_path=None if first is None else str(first))
    if trainer.fast_dev_run or keep not in trainer.callbacks:  # type: ignore[attr-defined]
        return None
    return keep.folder / BEST if keep.best is not None else keep.save_end(trainer)


def _test_best(parts: Parts, trainer: L.Trainer, *, keep: Keep, best: Path | None) -> Result:
    """Score the best checkpoint on the test videos, and log the result."""
    config, classifier, data = parts.config, parts.classifier, parts.data
    if best is not None and not config.fit_head:
        announce_best(keep, num_videos=len(data.manifests["val"]), num_clips=data.val_clips)
    if trainer.global_step == 0 and not config.fit_head:
        say("warning: no step was trained: the test scores the weights that the run began with")
    if best is not None:
        classifier.net.load_state_dict(read_checkpoint(best).net)
    result = score_test(trainer, classifier, data, folder=config.folder, checkpoint=best)
    names = ("video_top1", "video_top5", "clip_top1", "clip_top5")
    metrics = {f"test/{name}": float(getattr(result, name)) for name in names}
    log_config(trainer.loggers, config.plain(), metrics=metrics)
    return result
