"""What `vidgn predict` prints: lines for people, JSON and CSV for programs."""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray
from rich import markup
from rich.console import Console
from rich.progress import Progress, track

from vidgn.data.manifests.drawn_split import Part
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.video import open_video
from vidgn.files.outputs import check_outputs
from vidgn.inference.fetch import Given, local_videos
from vidgn.inference.model import ScoringModel, find_checkpoint, open_model
from vidgn.inference.predict import (
    Answer,
    Segment,
    WindowAnswer,
    as_record,
    choose_test,
    predict,
    protocol_of,
    segments,
    timeline,
)
from vidgn.runs.split import described_split, parts_of_files
from vidgn.terminal.escape import plain_cell, printable

_progress = Console(stderr=True)


def run_predict(
    videos: Sequence[str],
    *,
    ckpt: str,
    out: TextIO,
    top: int = 5,
    num_clips: int | None = None,
    num_crops: int | Literal["full"] | None = None,
    device: str = "auto",
    form: str = "text",
    threshold: float | None = None,
) -> int:
    """Predict and print; return 1 where a video could not be read, else 0.

    Raises:
        ValueError, OSError: what was given cannot be used; one sentence.
    """
    if top < 1:
        raise ValueError(f"--top ({top}) must be at least 1 class.")
    with local_videos(videos) as given:
        model = open_model(ckpt, device=device)
        _check_threshold(threshold, model)
        test = choose_test(model, num_clips=num_clips, num_crops=num_crops)
        answered = predict(given.paths, model, test=test)
        total = len(given.paths)
        bar = track(answered, "scoring", total=total, console=_progress, transient=True, disable=total < 3)
        answers = [_named(answer, given) for answer in bar]
        parts = _parts(model, given)
    protocol = protocol_of(model, test)
    count = min(top, len(model.classes)) if threshold is None else len(model.classes)
    if form == "json":
        targets = model.description.targets
        records = [
            {**as_record(answer, model.classes, count, targets=targets, threshold=threshold), "part": part}
            for answer, part in zip(answers, parts, strict=True)
        ]
        print(json.dumps({"checkpoint": str(model.path), "protocol": protocol, "videos": records}, indent=1), file=out)
    elif form == "csv":
        _write_csv(answers, model, count, out, threshold)
    else:
        _write_text(answers, model, count, protocol, out, threshold)
    return int(any(answer.error for answer in answers))


def run_timeline(
    videos: Sequence[str], *, ckpt: str, out: TextIO, stride: int | None, device: str = "auto", form: str = "text",
    overlay: str | None = None, overwrite: bool = False,
) -> int:  # fmt: skip
    """Print what happens when in each video; return 1 where one could not be read to its end.

    Raises:
        ValueError, OSError: what was given cannot be used; one sentence.
    """
    records: list[dict[str, Any]] = []
    with local_videos(videos) as given:
        if overlay is not None:
            _check_overlay(overlay, given.paths, ckpt=ckpt, overwrite=overwrite)
        model = open_model(ckpt, device=device)
        for path in given.paths:
            windows, fps, seconds, error = _scored(path, model, stride)
            joined = segments(windows, model.classes, seconds=seconds) if windows else []
            name, error = given.name(path), error and error.replace(path, given.name(path))
            records.append({"video": name, "error": error, "fps": fps, "segments": [item._asdict() for item in joined]})
            if form == "text":
                _write_segments(name, joined, error, out)
            if overlay is not None and error is None:
                from vidgn.inference.overlay import write_overlay

                write_overlay(path, joined, Path(overlay))
                print(f"{overlay}: written", file=_beside(form, out))
    if form == "json":
        print(json.dumps({"checkpoint": str(model.path), "videos": records}, indent=1), file=out)
    elif form == "csv":
        writer = csv.writer(out)
        writer.writerow(["video", *Segment._fields, "error"])
        for record in records:
            rows = [[record["video"], *item.values(), ""] for item in record["segments"]]
            rows += [[record["video"], *[""] * len(Segment._fields), record["error"]]] if record["error"] else []
            writer.writerows([plain_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return int(any(record["error"] for record in records))


def _check_overlay(target: str, videos: Sequence[str], *, ckpt: str, overwrite: bool) -> None:
    if len(videos) != 1:
        raise ValueError(f"--overlay writes one video, but {len(videos)} were given; give one.")
    if Path(target).suffix.lower() != ".mp4":
        raise ValueError(f"--overlay {target} must be an .mp4 file; use {Path(target).with_suffix('.mp4').name}.")
    inputs: list[str | Path] = [*videos, find_checkpoint(ckpt)]
    check_outputs([target], option="--overlay", inputs=inputs, overwrite=overwrite)


def _parts(model: ScoringModel, given: Given) -> list[Part | None]:
    """Return which part of the checkpoint's run each video belongs to, and note those that it was trained on."""
    record = described_split(model.description)
    if record is None:
        return [None] * len(given.paths)
    parts = parts_of_files(record, given.paths)
    trained = [given.name(path) for path, part in zip(given.paths, parts, strict=True) if part == "train"]
    if trained:
        first = ", ".join(trained[:3]) + (", ..." if len(trained) > 3 else "")
        print(
            printable(
                f"note: the checkpoint was trained on {len(trained):,} of the {len(parts):,} videos ({first}); their "
                "scores say nothing about new videos"
            ),
            file=sys.stderr,
        )
    return parts


def _named(answer: Answer, given: Given) -> Answer:
    name = given.name(answer.video)
    return answer._replace(video=name, error=answer.error and answer.error.replace(answer.video, name))


def _beside(form: str, out: TextIO) -> TextIO:
    """Return where notes go: programs that read JSON or CSV get nothing else."""
    return out if form == "text" else sys.stderr


class _Scored(NamedTuple):
    """The windows of a video, its rate and times, and what stopped the reading."""

    windows: list[WindowAnswer]
    fps: float
    seconds: NDArray[np.float64]
    error: str | None


def _scored(path: str, model: ScoringModel, stride: int | None) -> _Scored:
    windows: list[WindowAnswer] = []
    try:
        with open_video(path) as reader:
            fps, length, seconds = reader.fps, len(reader), reader.seconds()
        with Progress(console=_progress, transient=True) as bar:
            task = bar.add_task(markup.escape(printable(Path(path).name)), total=length)
            for window in timeline(path, model, stride=stride):
                windows.append(window)
                bar.update(task, completed=window.end)
    except (VideoDecodeError, OSError) as err:
        return _Scored(windows, fps, seconds, str(err)) if windows else _Scored([], 0.0, np.empty(0), str(err))
    return _Scored(windows, fps, seconds, None)


def _check_threshold(threshold: float | None, model: ScoringModel) -> None:
    if threshold is None:
        return
    if not 0 <= threshold <= 1:
        raise ValueError(f"--threshold ({threshold:g}) must be from 0 to 1; 0.5 is usual.")
    if model.description.targets.kind != "many":
        raise ValueError(
            f"--threshold ({threshold:g}) is for nets that give several classes, and {model.path} gives one; use --top."
        )


def _write_text(
    answers: Sequence[Answer], model: ScoringModel, count: int, protocol: str, out: TextIO, threshold: float | None
) -> None:
    targets = model.description.targets
    best = [answer.top(model.classes, count, targets=targets, threshold=threshold) for answer in answers]
    wide = max([len(printable(name)) for row in best for name, _ in row], default=0)
    if targets.kind == "one":
        wide = max(len(printable(name)) for name in model.classes)
    for answer, row in zip(answers, best, strict=True):
        print(printable(answer.video), file=out)
        if answer.error:
            print(f"  error: {_reason(answer.error, answer.video)}", file=out)
        for name, score in row:
            print(f"  {score:8.2%}  {printable(name):{wide}}  {'#' * round(24 * score)}".rstrip(), file=out)
    failed = sum(answer.error is not None for answer in answers)
    print(f"{len(answers) - failed} scored / {failed} failed; {protocol}", file=out)


def _write_csv(
    answers: Sequence[Answer], model: ScoringModel, count: int, out: TextIO, threshold: float | None
) -> None:
    writer = csv.writer(out)
    writer.writerow(["video", *(f"{part}{k}" for k in range(1, count + 1) for part in ("class", "score")), "error"])
    for answer in answers:
        best = answer.top(model.classes, count, targets=model.description.targets, threshold=threshold)
        cells = [cell for name, score in best for cell in (name, f"{score:.6f}")]
        cells += [""] * (2 * count - len(cells))
        writer.writerow(map(plain_cell, [answer.video, *cells, answer.error or ""]))


def _write_segments(path: str, joined: Sequence[Segment], error: str | None, out: TextIO) -> None:
    print(printable(path), file=out)
    for item in joined:
        print(f"  {_clock(item.start_seconds)} - {_clock(item.end_seconds)}  {item.score:7.2%}  {printable(item.name)}"
              f"  (frames {item.start}..{item.end - 1})", file=out)  # fmt: skip
    if error:
        print(f"  error: {_reason(error, path)}", file=out)


def _clock(moment: float | None) -> str:
    """Return hours, minutes and seconds.

    >>> _clock(3723.5)
    '1:02:03.50'
    """
    if moment is None:
        return "?"
    minutes, rest = divmod(round(moment, 2), 60)
    return f"{int(minutes // 60)}:{int(minutes % 60):02d}:{rest:05.2f}"


def _reason(error: str, path: str) -> str:
    """Return what is wrong without the name, which stands above."""
    return error.removeprefix(f"{path}: ")
