"""A training run with `fit_head`: descriptors, one fit, an ordinary checkpoint."""

import json
from pathlib import Path

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

from vidgn.callbacks.checkpointing import BEST, Keep
from vidgn.classifier import VideoClassifier
from vidgn.data.module import VideoDataModule
from vidgn.files.whole_files import copy_whole
from vidgn.runs.allocator import give_back_memory, keep_memory
from vidgn.runs.config import RunConfig
from vidgn.terminal.console import say
from vidgn.training.own_data.fit_head import STRENGTHS, HeadFit, fit_head

FITTED = "fit_head: the classifier is fitted to descriptors of the frozen net; no steps are trained"
RECORD = "fit_head.json"  # of the run folder
_BESIDE = (  # mean nothing beside fit_head
    "ema", "swa", "early_stop", "train_only", "precise_bn", "class_weights", "freeze", "balanced", "mixup", "cutmix",
    "videomix",
)  # fmt: skip


def check_fit_head(config: RunConfig, *, num_ranks: int, one_label: bool = True) -> None:
    """Check what does not go with `fit_head`.

    Raises:
        ValueError: it is given, or there are several processes, or videos have several labels.
    """
    if not one_label:
        raise ValueError("fit_head=true fits one class per video, but the videos have several labels; leave it out.")
    options = {**config.plain(), "distill": config.distill.ckpt}
    others = [name for name in (*_BESIDE, "distill") if options[name]]
    if others:
        raise ValueError(
            f"fit_head=true trains no steps, so that {others[0]}={options[others[0]]} has no effect; leave one of them "
            "out."
        )
    if num_ranks > 1:
        raise ValueError(f"fit_head=true runs in one process, not in {num_ranks}; set trainer.devices=1.")


def train_by_fit(
    trainer: L.Trainer, classifier: VideoClassifier, data: VideoDataModule, *, keep: Keep, first: Path | None
) -> Path | None:
    """Fit the classifier and save it as the best and the last checkpoint; return the best one.

    A run that resumes from a checkpoint has it already.
    """
    best = keep.folder / BEST
    if first is not None:
        say("the classifier is fitted already")
        if not best.is_file() and trainer.is_global_zero:
            copy_whole(first, best)
        return best
    device = trainer.strategy.root_device
    classifier.to(device).eval()
    keeps = device.type == "cpu" and keep_memory()
    try:
        fit = fit_head(classifier, data, device=device)
    finally:
        if keeps:
            give_back_memory()
    say(describe_fit(fit))
    _record(keep.folder.parent, fit)
    if fit.accuracy is not None:
        for log in trainer.loggers:
            log.log_metrics({"train/cross_validated_error": 100 - fit.accuracy}, step=0)
            log.save()
    if keep not in trainer.callbacks:  # type: ignore[attr-defined]
        return None
    trainer.strategy.connect(classifier)
    keep.save(trainer, "validated", best=True)
    return best


def describe_fit(fit: HeadFit) -> str:
    """Return the line about a fit."""
    views = f"{fit.num_views:,} views of {fit.num_videos:,} videos in {fit.seconds:,.0f} s"
    if fit.accuracy is None:
        return (
            f"classifier fitted to {views}, C={fit.strength:g}, since there are too few videos for a cross-validation"
        )
    return (
        f"classifier fitted to {views}: C={fit.strength:g} has {fit.accuracy:.1f} % top-1 in a cross-validation over "
        f"the training videos ({fit.num_groups:,} recordings kept together)"
    )


@rank_zero_only
def _record(folder: Path, fit: HeadFit) -> None:
    """Write what was fitted into the run folder."""
    record = fit._asdict() | {"strengths": STRENGTHS}
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
