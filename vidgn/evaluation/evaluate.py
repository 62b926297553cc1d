"""Test a net on many views per video and write down what came out: the end of `train.py`, all of `eval.py`."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from vidgn.callbacks.preemption import Stop
from vidgn.checkpoints.description import TestViews
from vidgn.classifier import VideoClassifier
from vidgn.data.clips import ClipSpec
from vidgn.data.images.module import PictureDataModule, data_module
from vidgn.data.images.module import image_protocol as picture_protocol
from vidgn.data.manifests.drawn_split import SplitRecord
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.module import DataSpec, VideoDataModule, target_rows
from vidgn.data.passports.subset import subset_words
from vidgn.data.transforms import CropSpec
from vidgn.evaluation.figures import figures
from vidgn.evaluation.interrupted import open_journal, shown_differences
from vidgn.evaluation.journal import Journal
from vidgn.evaluation.published import open_checkpoint, respell
from vidgn.evaluation.reachable import ReachableRoot
from vidgn.evaluation.restore import restore
from vidgn.evaluation.results import Result, print_result, write_result
from vidgn.files.run_folder import check_run_inputs, checkpoint_of
from vidgn.objective.target_tensors import answer_ranks
from vidgn.objective.targets import ONE, Targets
from vidgn.runs.config import EvalConfig, TrainerSpec, check_view_spec, data_spec
from vidgn.runs.environment import device_word
from vidgn.runs.manifests import find_videos, usable
from vidgn.runs.resume import own_folder
from vidgn.runs.speed import Speed, kernels_line, speed_up
from vidgn.runs.split import described_split, trained_videos
from vidgn.runs.trainer import build_trainer, check_devices, check_numbers
from vidgn.scores.predictions import Begun, Prediction, Ranks, accuracies, gather_predictions, merge_predictions
from vidgn.terminal.console import say

__all__ = ["Result", "evaluate_checkpoint", "match_classes", "protocol", "score_test"]


def score_test(
    trainer: L.Trainer,
    classifier: VideoClassifier,
    data: VideoDataModule,
    *,
    folder: Path,
    checkpoint: str | Path | None,
) -> Result:
    """Score every view of every test video, print the result and write metrics.json and predictions.csv.

    Args:
        trainer: runs the test.
        classifier: the net, with the weights to test.
        data: has the test videos.
        folder: where the files go.
        checkpoint: the file that the weights are from; an interrupted test of it is resumed.

    Raises:
        RuntimeError: a video or a view is missing, or was scored twice.
    """
    manifest = data.manifests["test"]
    classifier.test_ranks = ranks = _ranks(manifest)
    scheme = protocol(data, targets=classifier.targets)
    began = time.monotonic()
    limited = trainer.fast_dev_run or trainer.limit_test_batches != 1.0  # type: ignore[attr-defined]
    journal = None
    if checkpoint is not None and not limited:
        journal = open_journal(trainer, classifier, data, folder=folder, checkpoint=checkpoint, protocol=scheme)
    predictions = _score(trainer, classifier, data, journal)
    seconds = time.monotonic() - began
    _check(predictions, num_videos=None if limited else len(manifest), num_views=data.test.num_views)
    part = _part(trainer, num_scored=len(predictions), num_videos=len(manifest))
    failed = [prediction for prediction in predictions if prediction.error is not None]
    trained_on = _trained_on(classifier, manifest)
    result = Result(
        **{name: round(value, 4) for name, value in accuracies(predictions, ranks=ranks).items()},
        videos_expected=len(manifest),
        videos_scored=len(predictions) - len(failed),
        videos_failed=len(failed),
        protocol="; ".join([scheme, *part]),
        folder=folder,
    )
    numbers = figures(predictions, manifest) if trainer.is_global_zero else {}
    write_result(
        result, predictions, manifest,
        checkpoint=checkpoint, seconds=seconds, device=device_word(trainer), trained_on=trained_on, part=part,
        numbers=numbers,
    )  # fmt: skip
    if journal is not None and trainer.is_global_zero:
        journal.remove()
    print_result(result, failed, manifest, numbers=numbers, trained_on=trained_on)
    return result


def _ranks(manifest: Manifest) -> Ranks | None:
    """Return what ranks the answers for videos that have several classes; None where each has one."""
    rows = target_rows(manifest)
    if rows is None:
        return None
    return lambda scores, videos: answer_ranks(manifest.targets, scores, rows(videos).to(scores.device))


def check_test_limit(trainer: TrainerSpec) -> None:
    """Check before a run that its test will score something.

    Raises:
        ValueError: trainer.limit_test_batches is 0.
    """
    limit = trainer.limit_test_batches
    if limit is not None and limit == 0 and not trainer.fast_dev_run:
        raise ValueError(
            f"trainer.limit_test_batches ({limit}) leaves no video to score; use a number of batches from 1 on, a "
            "fraction above 0, or null for all (in training, test=false leaves the test out)."
        )


def _part(trainer: L.Trainer, *, num_scored: int, num_videos: int) -> list[str]:
    """Return as text which part of the test a limit left; empty where it is all of it.

    Raises:
        ValueError: no video was scored.
    """
    fast = trainer.fast_dev_run  # type: ignore[attr-defined]
    limit = f"trainer.fast_dev_run={fast}" if fast else f"trainer.limit_test_batches={trainer.limit_test_batches}"
    if num_scored == 0:
        raise ValueError(f"the test scored 0 of {num_videos} videos with {limit}; allow at least one batch.")
    return [] if num_scored == num_videos else [f"only {num_scored:,} of {num_videos:,} test videos ({limit})"]


def _trained_on(classifier: VideoClassifier, manifest: Manifest) -> list[str] | None:
    """Return the test videos that the weights were trained on; None where their checkpoint does not say."""
    record = described_split(classifier.description)
    return None if record is None else trained_videos(record, manifest)


def _score(
    trainer: L.Trainer, classifier: VideoClassifier, data: VideoDataModule, journal: Journal | None
) -> list[Prediction]:
    """Return a prediction of every video, those of an interrupted test from its journal."""
    before: dict[int, Prediction] = {}
    begun: dict[int, Begun] = {}

    def done() -> dict[int, Prediction]:
        """Read the journal when the test begins on all ranks and none has written yet."""
        if journal is not None:
            before.update(journal.read())
            if differing := journal.others():
                shown = shown_differences(differing)
                say(f"note: an interrupted test in this folder had other settings and starts again: {shown}")
            begun.update({video: part for video, part in journal.read_begun().items() if video not in before})
        if before or begun:
            num_videos, parts = len(data.manifests["test"]), f", {len(begun)} in part" if begun else ""
            say(f"resuming the test: {len(before)} of {num_videos} videos are scored{parts}")
        return before

    data.done, data.begun = done, lambda: {video: part.views for video, part in begun.items()}
    watch = ReachableRoot(data.manifests["test"])

    def record(prediction: Prediction) -> None:
        if journal is not None:
            journal.add(prediction)
        watch(prediction)

    classifier.record = record
    classifier.record_begun = journal.add_begun if journal is not None else lambda part: None
    classifier.predictions, classifier.earlier, classifier.begun = [], before, begun
    classifier.num_views = len(data.manifests["test"]) * data.test.num_views
    trainer.test(classifier, data, verbose=False)
    return merge_predictions([list(before.values()), gather_predictions(classifier.predictions)])


def _check(predictions: Sequence[Prediction], *, num_videos: int | None, num_views: int) -> None:
    """Require each video once, with all of its views; `num_videos` is None where only some were asked for."""
    found = [item.video for item in predictions]
    if num_videos is not None and found != list(range(num_videos)):
        missing = sorted(set(range(num_videos)) - set(found))
        raise RuntimeError(
            f"{num_videos} test videos but {len(found)} predictions, without rows {missing[:10]} of the manifest; "
            "start the same command again, and please report this"
        )
    wrong = [(item.video, item.views) for item in predictions if item.scores is not None and item.views != num_views]
    if wrong:
        raise RuntimeError(
            f"video {wrong[0][0]} of the manifest has {wrong[0][1]} scored views instead of {num_views}; please report "
            "this"
        )


def protocol(data: VideoDataModule, *, targets: Targets = ONE) -> str:
    """Return the protocol as text: how a video is scored. A number is never printed without it."""
    if isinstance(data, PictureDataModule):
        return picture_protocol(data)
    clip, test, side = data.clip, data.test, data.crop.test_side
    cut = subset_words(data.manifests["test"]) if "test" in data.manifests else ()  # predict has no data set
    crops = (
        "the full frame" if test.num_crops == "full" else f"{test.num_crops} crop{'s' * (test.num_crops > 1)} of {side}"
    )
    stride = "one of each equal part" if test.clip_rule == "segments" else f"x stride {clip.stride}"
    return (
        f"{test.num_clips} clip{'s' * (test.num_clips > 1)} ({test.clip_rule}) x {crops}, "
        f"{clip.clip_len} frames {stride}, {_rate(data)}, short side {side}, "
        f"{_MEAN[targets.kind]} averaged over positions and views"
        f"{''.join(f'; {part}' for part in cut)}"
    )


_MEAN = {"one": "softmax", "many": "sigmoid", "heads": "softmax of each head"}


def _rate(data: VideoDataModule) -> str:
    """Return as text which frames a stride counts."""
    if data.spec.time == "frames":
        return "native fps"
    return f"resampled to {data.spec.fps:g} fps" if data.spec.fps else "resampled to the mean fps of each video"


def evaluate_checkpoint(config: EvalConfig) -> Result:
    """Run `vidgn eval` with the options of `configs/eval.yaml`; those that are null come from the checkpoint."""
    stop = Stop()
    with stop.listening():
        return _evaluate_checkpoint(config, stop)


def _evaluate_checkpoint(config: EvalConfig, stop: Stop) -> Result:
    check_test_limit(config.trainer)
    check_devices(config.trainer)
    check_numbers(config.trainer)
    path = checkpoint_of(config.ckpt)
    checkpoint = open_checkpoint(path, network=config.network, classes=config.classes)
    described = checkpoint.description
    clip = ClipSpec(_chosen(config.clip_len, described.clip_len), _chosen(config.span, described.span))
    crop = CropSpec(_chosen(config.crop, described.crop))
    test = check_view_spec(
        _chosen(config.num_clips, described.test.num_clips),
        _chosen(config.num_crops, described.test.num_crops),
        _chosen(config.clip_rule, described.test.clip_rule),
    )
    views = TestViews(
        test.num_clips, test.num_crops, test.clip_rule, _chosen(config.view_batch, described.test.view_batch)
    )
    asked = dataclasses.replace(described, clip_len=clip.clip_len, span=clip.span, crop=crop.crop, test=views)
    asked.check_bounds("this test", advice="change that option")
    record = described_split(described)
    spec = data_of(config, described.data, record)
    checkpoint = dataclasses.replace(checkpoint, net=checkpoint.weights(config.weights))
    classifier = restore(checkpoint, view_batch=views.view_batch)
    fast = config.speed
    speed_up(classifier.net, fast, accelerator=config.trainer.accelerator)
    if (kernels := kernels_line(fast, accelerator=config.trainer.accelerator)) is not None:
        say(kernels)
    found = find_videos(spec, splits=("test",), num_classes=len(classifier.classes), record=record)["test"]
    if record is None and found.drawn_seed is not None and described.data_name == spec.name:
        say(f"warning: {path} does not say which videos it was trained on: some of the drawn test may be among them")
    (manifest,) = usable({"test": match_classes(found, classifier.classes, targets=classifier.targets)}).values()
    data = data_module(spec.name)(
        {"test": manifest},
        spec=spec,
        clip=clip,
        crop=crop,
        test=test,
        batch=1,
        test_batch=config.batch,
        seed=config.seed,
    )
    folder = config.folder
    check_run_inputs(folder, config.inputs)
    with own_folder(folder, overwrite=config.overwrite):
        speed = Speed(spec=fast, clip=(clip.clip_len, crop.test_side, classifier.view_batch), frozen=True)
        trainer = build_trainer(config.trainer, loggers=config.logger.names, folder=folder, callbacks=[stop, speed])
        return score_test(trainer, classifier, data, folder=folder, checkpoint=checkpoint.path)


def match_classes(manifest: Manifest, classes: Sequence[str], *, targets: Targets = ONE) -> Manifest:
    """Return the manifest with its labels in the order of `classes`: by name, never by index.

    Names are the same if they differ in `_` for a space and in capitals alone.

    Raises:
        ValueError: one has several classes per video and the other does not, the manifest has classes that the
            checkpoint does not know, or two that are one to it.
    """
    if manifest.targets.kind != targets.kind:
        raise ValueError(
            f"a video has {_KINDS[manifest.targets.kind]} in {manifest.root}, but {_KINDS[targets.kind]} in the "
            "checkpoint; leave data.label_separator and data.columns.label as the run had them."
        )
    if manifest.classes == tuple(classes):
        return dataclasses.replace(manifest, targets=targets)
    spelled = respell(manifest.classes, classes)
    for name in {name for name in spelled if spelled.count(name) > 1}:
        same = [given for given, known in zip(manifest.classes, spelled, strict=True) if known == name]
        raise ValueError(
            f"the classes {' and '.join(map(repr, same))} in {manifest.root} differ in capitals, spaces or _ alone and "
            f"are one to the checkpoint ({name!r}); rename or join them."
        )
    manifest = dataclasses.replace(manifest, classes=spelled)
    index = {name: number for number, name in enumerate(classes)}
    unknown = [name for name in manifest.classes if name not in index]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of the {len(manifest.classes)} classes in {manifest.root} are unknown to the checkpoint "
            f"({', '.join(unknown[:10])}); it knows {', '.join(list(classes)[:10])}"
            f"{', ...' if len(classes) > 10 else ''}"
        )
    here = np.array([*(index[name] for name in manifest.classes), -1], np.int64)
    sets = None if manifest.sets is None else here[manifest.sets]
    return dataclasses.replace(
        manifest, labels=here[manifest.labels], classes=tuple(classes), sets=sets, targets=targets
    )


_KINDS = {"one": "one class", "many": "several classes", "heads": "a class of each head"}


def data_of(config: EvalConfig, described: Mapping[str, Any], record: SplitRecord | None) -> DataSpec:
    """Return the data set of the command line, or the checkpoint's with what the command line changes.

    Raises:
        ValueError: the command line asks for another split than the checkpoint's.
    """
    spec, seed = config.data, described["seed"]
    if spec is None:
        of_the_run = {"passport": None, "intersect": None}  # files of that machine
        return data_spec({**described, **of_the_run, **config.data_changes})
    if spec.name != described["name"] or spec.seed == seed:
        return spec
    drawn = record is not None and record.seed is not None
    if drawn and config.is_typed("data.seed"):
        raise ValueError(
            f"data.seed ({spec.seed}) must be the checkpoint's ({seed}), whose split keeps the test videos out "
            "of training; leave data.seed out."
        )
    return spec if config.is_typed("data.seed") else dataclasses.replace(spec, seed=seed)


def _chosen(given: Any, described: Any) -> Any:
    return described if given is None else given
