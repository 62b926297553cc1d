"""Name what happens in videos: `vidgn predict`. Scores come from the same code as those of `eval.py`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from vidgn.data.array import as_reader
from vidgn.data.batches import ViewBatch
from vidgn.data.loading.loader import VideoLoader, patience
from vidgn.data.loading.workers import end_with_parent
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.module import VideoDataModule, ViewSpec, default_workers
from vidgn.data.readers.excerpt import ExcerptReader
from vidgn.data.readers.types import Reader
from vidgn.data.storage.excerpt import Excerpt
from vidgn.data.views import ViewDataset
from vidgn.evaluation.answers import top_answers
from vidgn.evaluation.evaluate import protocol
from vidgn.inference.model import ScoringModel, refuse_heads
from vidgn.inference.windows import moment, read_windows, window_starts
from vidgn.objective.targets import ONE, Targets
from vidgn.runs.config import check_view_spec, data_spec
from vidgn.scores.predictions import Prediction


class Answer(NamedTuple):
    """What the net says of one video; `scores` (Q,) is None where it could not be read."""

    video: str
    scores: tuple[float, ...] | None
    error: str | None

    def top(
        self, classes: Sequence[str], count: int, *, targets: Targets = ONE, threshold: float | None = None
    ) -> list[tuple[str, float]]:
        """Return the best classes with their scores, ties by index; of heads the best combinations.

        Args:
            classes: names, index = label.
            count: at most so many.
            targets: what the scores stand for.
            threshold: the smallest score; None: any.
        """
        best = top_answers(self.scores, classes, targets, count) if self.scores else []
        return [pair for pair in best if threshold is None or pair[1] >= threshold]


class WindowAnswer(NamedTuple):
    """What the net says of frames start..end-1 of a video."""

    start: int
    end: int
    scores: tuple[float, ...]


class Segment(NamedTuple):
    """Windows after one another with the same best class; `score` is their mean."""

    start: int
    end: int
    start_seconds: float | None
    end_seconds: float | None
    name: str
    score: float


def choose_test(
    model: ScoringModel, *, num_clips: int | None = None, num_crops: int | Literal["full"] | None = None
) -> ViewSpec:
    """Return the views of the checkpoint's own test, with what was asked for instead.

    Raises:
        ValueError: a number out of its range.
    """
    own = model.description.test
    return check_view_spec(
        own.num_clips if num_clips is None else num_clips,
        own.num_crops if num_crops is None else num_crops,
        own.clip_rule,
    )


def predict(
    videos: Sequence[str], model: ScoringModel, *, test: ViewSpec, num_workers: int | None = None
) -> Iterator[Answer]:
    """Score videos one by one; one that cannot be read is an answer with an error.

    The reading processes begin at once, before a progress bar has threads: a lock that a thread holds when a process is
    forked is held for ever in the new one.

    Args:
        videos: absolute paths.
        model: as `open_model` gives it.
        test: clips and crops.
        num_workers: reading processes; None: none for a single video.

    Raises:
        WorkerDied: one of them was killed, crashed, or does not answer.
    """
    manifest = Manifest.from_rows([(path, 0) for path in videos], root="/", classes=model.classes)
    manifest = replace(manifest, fps=_rate(model))
    views = ViewDataset(
        manifest, clip=model.clip, crop=model.crop, num_clips=test.num_clips, num_crops=test.num_crops,
        rule=test.clip_rule, backend=model.description.backend,
    )  # fmt: skip
    workers = (default_workers() if len(videos) > 1 else 0) if num_workers is None else num_workers
    loader = VideoLoader(
        views, batch_size=1, collate_fn=ViewBatch.collate, num_workers=workers,
        timeout=patience(views.deadline_seconds, num_workers=workers), worker_init_fn=end_with_parent,
    )  # fmt: skip
    return _answers(videos, model, cast("Iterator[ViewBatch]", iter(loader)), num_views=test.num_views)


def _answers(
    videos: Sequence[str], model: ScoringModel, batches: Iterator[ViewBatch], *, num_views: int
) -> Iterator[Answer]:
    scorer = model.classifier.scorer(len(videos) * num_views)
    done: dict[int, Prediction] = {}  # a video may be done before an earlier one, whose group is not full yet
    next_video = 0
    for batch in chain(batches, [None]):
        with torch.inference_mode():
            scored = scorer.finish() if batch is None else scorer.add(batch.to(model.device).items)
            done |= {prediction.video: prediction for prediction in scored}
        while next_video in done:
            said = done.pop(next_video)
            next_video += 1
            yield Answer(videos[said.video], None if said.scores is None else tuple(said.scores), said.error)


def predict_open(reader: Reader, model: ScoringModel, *, test: ViewSpec) -> tuple[float, ...]:
    """Return the scores (Q,) of one video that is open already, or of an array (`vidgn.data.array.ArrayReader`).

    Raises:
        OSError, VideoDecodeError: a frame cannot be read.
    """
    manifest = Manifest.from_rows([(reader.path, 0)], root="/", classes=model.classes)
    views = ViewDataset(
        manifest, clip=model.clip, crop=model.crop, num_clips=test.num_clips, num_crops=test.num_crops,
        rule=test.clip_rule,
    )  # fmt: skip
    scorer = model.classifier.scorer(test.num_views)
    with torch.inference_mode():
        scored = [*scorer.add(views.views_of(reader)), *scorer.finish()]
    (prediction,) = scored
    assert prediction.scores is not None
    return tuple(float(score) for score in prediction.scores)


def protocol_of(model: ScoringModel, test: ViewSpec) -> str:
    """Return the protocol as text: how a video is scored."""
    spec = data_spec(model.description.data)
    module = VideoDataModule({}, spec=spec, clip=model.clip, crop=model.crop, test=test, batch=1)
    return protocol(module, targets=model.description.targets)


def _rate(model: ScoringModel) -> float | None:
    """Return the frame rate that the checkpoint was trained at; None: frame by frame."""
    spec = data_spec(model.description.data)
    return (spec.fps or 0.0) if spec.time == "seconds" else None


def timeline(video: str | Reader, model: ScoringModel, *, stride: int | None = None) -> Iterator[WindowAnswer]:
    """Score a window that slides over the video, one crop in the middle, in memory that does not grow.

    Args:
        video: a path or an open video.
        model: as `open_model` gives it.
        stride: raw frames from window to window; None: the span of a clip, so that windows touch.

    Raises:
        OSError, VideoDecodeError: the file cannot be read.
        ValueError: the checkpoint has several heads.
    """
    refuse_heads(model, "a timeline")
    path = Excerpt.of(video, fps=_rate(model)) if isinstance(video, str) else video
    with as_reader(path, backend=model.description.backend) as reader:
        numbers = reader.sources.tolist() if isinstance(reader, ExcerptReader) else range(len(reader))
        starts = window_starts(len(reader), span=model.clip.span, stride=model.clip.span if stride is None else stride)
        for window in read_windows(reader, clip=model.clip, side=model.crop.test_side, starts=starts):
            with torch.inference_mode():
                clip = model.classifier.normalize(window.clip[None].to(model.device))
                scores = model.classifier.net.scores(clip)[0]  # type: ignore[operator]
            start, end = numbers[window.start], numbers[window.end - 1] + 1
            yield WindowAnswer(start, end, tuple(scores.double().tolist()))


def segments(windows: Sequence[WindowAnswer], classes: Sequence[str], *, seconds: NDArray[np.float64]) -> list[Segment]:
    """Join windows with the same best class; where they overlap, a segment ends where the next begins.

    Args:
        windows: Of one video, in order.
        classes: Names, by label.
        seconds: When frames are shown; see `vidgn.data.readers.types.Reader.seconds`.
    """
    runs: list[tuple[int, list[WindowAnswer]]] = []
    for window in windows:
        best = max(range(len(classes)), key=lambda label: window.scores[label])
        if not runs or runs[-1][0] != best:
            runs.append((best, []))
        runs[-1][1].append(window)
    ends = [items[0].start for _, items in runs[1:]] + [windows[-1].end] if runs else []
    return [
        Segment(
            items[0].start, end, moment(items[0].start, seconds), moment(end, seconds), classes[best],
            sum(item.scores[best] for item in items) / len(items),
        )
        for (best, items), end in zip(runs, ends, strict=True)
    ]  # fmt: skip


def as_record(
    answer: Answer, classes: Sequence[str], count: int, *, targets: Targets = ONE, threshold: float | None = None
) -> dict[str, Any]:
    """Return an answer as plain values for `--json`."""
    best = answer.top(classes, count, targets=targets, threshold=threshold)
    top = [{"class": name, "score": round(score, 6)} for name, score in best]
    return {"video": answer.video, "error": answer.error, "top": top}
