"""Test a net on many views per video and write down what came out: the end of `train.py`, all of `eval.py`."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from omegaconf import DictConfig

from vidgn.callbacks.preemption import Stop
from vidgn.checkpoint import sum_of
from vidgn.classifier import VideoClassifier
from vidgn.console import say
from vidgn.data.clips import ClipSpec
from vidgn.data.images.module import PictureDataModule, data_module
from vidgn.data.images.module import protocol as picture_protocol
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.module import DataSpec, VideoDataModule
from vidgn.data.passports.subset import subset_words
from vidgn.data.transforms import CropSpec
from vidgn.evaluation.journal import Journal
from vidgn.evaluation.published import open_checkpoint, respell
from vidgn.evaluation.restore import restore
from vidgn.evaluation.results import Result, print_result, write_result
from vidgn.predictions import Begun, Prediction, accuracies, gather, merge_predictions
from vidgn.runs.command_line import run_folder
from vidgn.runs.environment import device_word, versions
from vidgn.runs.manifests import find_videos, usable
from vidgn.runs.resume import fingerprint, own_folder
from vidgn.runs.specs import check_view_spec, data_spec
from vidgn.runs.speed import Speed, speed_spec, speed_up
from vidgn.runs.trainer import build_trainer

__all__ = ["Result", "evaluate", "evaluate_checkpoint", "match_classes", "protocol"]


def evaluate(
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
        checkpoint: the file that the weights are from; an interrupted test with it goes on.

    Raises:
        RuntimeError: a video or a view is missing, or was scored twice.
    """
    manifest = data.manifests["test"]
    began = time.monotonic()
    limited = trainer.fast_dev_run or trainer.limit_test_batches != 1.0  # type: ignore[attr-defined]
    journal = None
    if checkpoint is not None and not limited:
        journal = _journal(trainer, data, folder=folder, checkpoint=checkpoint, view_batch=classifier.view_batch)
    predictions = _score(trainer, classifier, data, journal)
    seconds = time.monotonic() - began
    _check(predictions, num_videos=None if limited else len(manifest), num_views=data.test.num_views)
    failed = [prediction for prediction in predictions if prediction.error is not None]
    result = Result(
        **{name: round(value, 4) for name, value in accuracies(predictions).items()},
        videos_expected=len(predictions),
        videos_scored=len(predictions) - len(failed),
        videos_failed=len(failed),
        protocol=protocol(data),
        folder=folder,
    )
    write_result(result, predictions, manifest, checkpoint=checkpoint, seconds=seconds, device=device_word(trainer))
    if journal is not None and trainer.is_global_zero:
        journal.remove()
    print_result(result, failed, manifest)
    return result


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
            begun.update({video: part for video, part in journal.read_begun().items() if video not in before})
        if before or begun:
            num_videos, parts = len(data.manifests["test"]), f", {len(begun)} in part" if begun else ""
            say(f"going on with the test: {len(before)} of {num_videos} videos are scored{parts}")
        return before

    data.done, data.begun = done, lambda: {video: part.views for video, part in begun.items()}
    classifier.record = journal.add if journal is not None else lambda prediction: None
    classifier.record_begun = journal.add_begun if journal is not None else lambda part: None
    classifier.predictions, classifier.earlier, classifier.begun = [], before, begun
    classifier.num_views = len(data.manifests["test"]) * data.test.num_views
    trainer.test(classifier, data, verbose=False)
    return merge_predictions([list(before.values()), gather(classifier.predictions)])


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


def _journal(
    trainer: L.Trainer, data: VideoDataModule, *, folder: Path, checkpoint: str | Path, view_batch: int
) -> Journal:
    key = {
        "checkpoint": sum_of(Path(checkpoint)),
        "protocol": protocol(data),
        "view_batch": view_batch,
        "videos": fingerprint(data.manifests["test"]),
        "precision": str(trainer.precision),
        "versions": versions(),
    }
    return Journal(folder, rank=trainer.global_rank, key=key)


def protocol(data: VideoDataModule) -> str:
    """Return in words how a video is scored; a number is never printed without it."""
    if isinstance(data, PictureDataModule):
        return picture_protocol(data)
    clip, test, side = data.clip, data.test, data.crop.test_side
    cut = subset_words(data.manifests["test"]) if "test" in data.manifests else ()  # predict has no data set
    crops = (
        "the full frame" if test.num_crops == "full" else f"{test.num_crops} crop{'s' * (test.num_crops > 1)} of {side}"
    )
    return (
        f"{test.num_clips} clip{'s' * (test.num_clips > 1)} ({test.clip_rule}) x {crops}, "
        f"{clip.clip_len} frames x stride {clip.stride}, native fps, short side {side}, "
        "softmax averaged over positions and views"
        f"{''.join(f'; {part}' for part in cut)}"
    )


def evaluate_checkpoint(config: DictConfig) -> Result:
    """Run the words of `configs/eval.yaml`: everything they leave open is taken from the checkpoint."""
    path = Path(str(config.ckpt)).expanduser()
    checkpoint = open_checkpoint(path, network=config.network, classes=config.classes)
    told = checkpoint.describe
    clip = ClipSpec(_chosen(config.clip_len, told["clip"]["clip_len"]), _chosen(config.span, told["clip"]["span"]))
    crop = CropSpec(_chosen(config.crop, told["crop"]))
    test = check_view_spec(
        *(_chosen(config[name], told["test"][name]) for name in ("num_clips", "num_crops", "clip_rule"))
    )
    spec = _data_of(config.data, told["data"])
    classifier = restore(checkpoint, view_batch=_chosen(config.view_batch, told["test"]["view_batch"]))
    fast = speed_spec(config)
    speed_up(classifier.net, fast, accelerator=config.trainer.accelerator)
    found = find_videos(spec, splits=("test",), num_classes=len(classifier.classes))["test"]
    (manifest,) = usable({"test": match_classes(found, classifier.classes)}).values()
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
    folder = run_folder()
    with own_folder(folder):
        speed = Speed(spec=fast, clip=(clip.clip_len, crop.test_side, classifier.view_batch), frozen=True)
        trainer = build_trainer(config.trainer, loggers=config.logger.names, folder=folder, callbacks=[Stop(), speed])
        return evaluate(trainer, classifier, data, folder=folder, checkpoint=checkpoint.path)


def match_classes(manifest: Manifest, classes: Sequence[str]) -> Manifest:
    """Return the manifest with its labels in the order of `classes`: by name, never by index.

    Names are the same if they differ in `_` for a space and in capitals alone.

    Raises:
        ValueError: the manifest has classes that the checkpoint does not know.
    """
    if manifest.classes == tuple(classes):
        return manifest
    manifest = dataclasses.replace(manifest, classes=respell(manifest.classes, classes))
    index = {name: number for number, name in enumerate(classes)}
    unknown = [name for name in manifest.classes if name not in index]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of the {len(manifest.classes)} classes in {manifest.root} are unknown to the checkpoint "
            f"({', '.join(unknown[:10])}); it knows {', '.join(list(classes)[:10])}"
            f"{', ...' if len(classes) > 10 else ''}"
        )
    labels = np.array([index[name] for name in manifest.classes], np.int64)[manifest.labels]
    return dataclasses.replace(manifest, labels=labels, classes=tuple(classes))


def _data_of(words: DictConfig, told: dict[str, Any]) -> DataSpec:
    """Return the data set of the command line, or the checkpoint's with what the command line changes."""
    given = {name: value for name, value in words.items() if value is not None}
    if "name" in given:
        return data_spec({str(name): value for name, value in words.items()})
    of_the_run = {"passport": None, "intersect": None}  # files of that machine
    return data_spec({**told, **of_the_run, **{str(name): value for name, value in given.items()}})


def _chosen(word: Any, told: Any) -> Any:
    return told if word is None else word
