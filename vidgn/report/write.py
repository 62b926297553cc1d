"""Turn runs into one page to look at: `vidgn report RUN...`."""

import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from matplotlib.figure import Figure

from vidgn.data.module import cache_folder
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.synthetic.motions import MotionsSpec
from vidgn.data.video import open_video
from vidgn.files.outputs import check_outputs, replacing
from vidgn.report import curves, figures
from vidgn.report.folds import FoldRun, FoldSummary, summarize_folds
from vidgn.report.intervals import class_precision, figure_text
from vidgn.report.page import GENERATOR, PageFigure, Section, html_table, page, paragraph, runs_table, table_8
from vidgn.report.read_run import Run, Scored, class_accuracy, confusion, num_names, read_run, reliability
from vidgn.report.run_files import parsed
from vidgn.report.theme import as_png

MAX_CONFUSED = 2_000  # classes of a confusion matrix, which has their square
_STRIPS = 3  # right and wrong videos each


def run_report(
    folders: Sequence[str],
    *,
    target: str,
    out: TextIO,
    as_json: bool = False,
    overwrite: bool = False,
    videos: str | None = None,
) -> int:
    """Write TARGET/index.html, which needs nothing beside it, and each picture as a PNG.

    A run folder may be a stranger's: frames are shown of videos below `videos` alone, wherever the folder says that
    its videos are. Those of drawn data sets lie in the cache, and need no `videos`.

    Raises:
        ValueError: no run was given, or a file of one is damaged.
        FileNotFoundError: a folder is not a run folder.
    """
    if not folders:
        raise ValueError("no run was given; give one or more run folders of train.py, such as runs/NAME.")
    if videos is not None and not Path(videos).expanduser().is_dir():
        raise FileNotFoundError(f"--videos {videos} is not a folder; give the folder that is data.root of the run.")
    runs = [read_run(folder) for given in dict.fromkeys(folders) for folder in _run_folders(given)]
    page_folder = Path(target)
    pictures: dict[str, bytes] = {}
    draw = _Drawer(pictures)
    folds = summarize_folds([FoldRun(run.folder, run.config, run.metrics) for run in runs])
    sections = [Section("Runs", [runs_table(runs), table_8(runs)]), *map(_folds, folds), *_curves(runs, draw)]
    for number, run in enumerate(runs, 1):
        sections += training_sections(run, number, draw)
        if run.predictions:
            sections += _run_sections(run, number, draw, videos=videos)
    files = {**pictures, "index.html": page(sections).encode()}
    is_ours = _is_report(page_folder / "index.html")
    check_outputs(
        [page_folder / name for name in files], option=f"--out {target}", overwrite=overwrite,
        inputs=[file for run in runs for file in run.folder.iterdir()],
        is_own=lambda file: is_ours,
    )  # fmt: skip
    for name, content in files.items():
        with replacing(page_folder / name) as part:
            part.write_bytes(content)
    if as_json:
        record = {
            "page": str(page_folder / "index.html"), "runs": [_record(run) for run in runs],
            "folds": [summary.record() for summary in folds],
        }  # fmt: skip
        print(json.dumps(record, indent=1), file=out)
    else:
        print(f"{page_folder / 'index.html'}: {len(runs)} runs, {draw.count} pictures", file=out)
        for summary in folds:
            print(summary.text, file=out)
    return 0


def _run_folders(given: str) -> list[str]:
    """Return the run folders of a folder that holds some, such as `runs/`, or the folder itself."""
    folder = Path(given).expanduser()
    if (folder / "config.yaml").is_file() or not folder.is_dir():
        return [given]
    below = sorted(str(file.parent) for file in folder.glob("*/config.yaml") if (file.parent / "metrics.csv").is_file())
    return below or [given]


def _is_report(file: Path) -> bool:
    """Tell a page that an earlier report wrote."""
    return file.is_file() and GENERATOR.encode() in file.read_bytes()[:4096]


class _Drawer:
    """Draws each figure once, as a file and for the page."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.count = 0

    def __call__(self, name: str, alt: str, figure: Callable[[], Figure], *, has_frames: bool = False) -> PageFigure:
        """Draw `figure()`, and return it for the page."""
        image = as_png(figure())
        self.files[f"{name}.png"] = image
        self.count += 1
        return PageFigure(alt, image, has_frames=has_frames)


def _curves(runs: Sequence[Run], draw: _Drawer) -> list[Section]:
    """Return a panel per norm, BN first, all with one error axis."""
    shown = [run for run in runs if run.train or run.val]
    if not shown:
        return []
    norms = sorted({run.norm for run in shown}, key=lambda norm: (norm != "bn", norm != "gn", norm))
    highest = max(value for run in shown for values in (run.train, run.val) for value in values.values())
    top = min(100.0, 10 * np.ceil(highest / 10))
    panels = []
    for norm in norms:
        panel = partial(curves.curves, [run for run in shown if run.norm == norm], top=top)
        panels.append(draw(f"curves-{norm}", f"error curves of {norm.upper()}", panel))
    note = paragraph(
        "Dashed: training error. Solid: validation error of one random clip per video. As Figures 5 and 7."
    )
    return [Section("Error curves", [note, *panels])]


def _folds(summary: FoldSummary) -> Section:
    rows = [[fold, f"{value:.2f}"] for fold, value in summary.values.items()]
    table = html_table(("fold", f"{summary.figure} %"), rows)
    return Section(f"Cross-validation: {summary.title}", [paragraph(f"{summary.text}."), table])


def training_sections(run: Run, number: int, draw: Callable[..., PageFigure]) -> list[Section]:
    """Return speed and memory over time, and the percentiles of a layer where they were recorded."""
    pictures = []
    for name, label in {**curves.PACE, **curves.PACE_GPU}.items():
        if run.pace.get(name):
            file = f"run{number}-{name.replace('/', '-')}"
            pictures.append(draw(file, label, partial(curves.pace, run.pace[name], label=label)))
    missing = [label for name, label in curves.PACE.items() if not run.pace.get(name)]
    note = paragraph(f"not recorded: {', '.join(missing)}") if missing else ""
    sections = [Section(f"{run.title}: speed and memory", [*pictures, note])]
    if run.percentiles:
        text = paragraph(
            f"What the last convolution of {run.layer} puts out, before norm and ReLU, on the same validation clips "
            "after each epoch. As Figure 6."
        )
        picture = draw(f"run{number}-percentiles", "percentiles 1, 20, 80, 99", partial(curves.percentiles, run))
        sections.append(Section(f"{run.title}: features", [text, picture]))
    return sections


def _run_sections(run: Run, number: int, draw: _Drawer, *, videos: str | None) -> list[Section]:
    test = run.metrics
    protocol = f"{test['protocol']}; n = {test['videos_scored']} of {test['videos_expected']} videos" if test else ""
    figures_of_test = parsed(run.folder / "metrics.json", lambda: figure_text(test))
    sentences = [paragraph(protocol), *_split_notes(run), *map(paragraph, figures_of_test)]
    strips = _strips(run, number, draw, root=_root(run, videos))
    examples = [Section(f"{run.title}: examples", strips)] if strips else []
    if "map" in test:  # a video has several classes: none is confused with another
        table = class_precision(run.folder / "classes.csv")
        return [Section(f"{run.title}: classes", [*sentences, table]), *examples]
    accuracies = class_accuracy(run.predictions)
    bins, error = reliability(run.predictions)
    pictures = [draw(f"run{number}-classes", "lowest accuracies", partial(figures.worst_classes, accuracies))]
    if num_names(run.predictions) <= MAX_CONFUSED:
        matrix = partial(figures.confusion_matrix, *confusion(run.predictions))
        pictures.insert(0, draw(f"run{number}-confusion", "confusion matrix", matrix))
    if bins:
        diagram = partial(figures.reliability_diagram, bins, error)
        pictures.append(draw(f"run{number}-reliability", "reliability diagram", diagram))
    return [Section(f"{run.title}: classes", [*sentences, *pictures]), *examples]


def _split_notes(run: Run) -> list[str]:
    """Return what the split of the run says about its test."""
    counts = {part: sum(value == part for value in run.parts.values()) for part in ("train", "val", "test")}
    split = ", ".join(f"{count:,} {part}" for part, count in counts.items())
    notes = [paragraph(f"The split was drawn: {split} (split.csv).")] if run.parts else []
    if run.trained_on:
        notes.append(
            paragraph(
                f"WARNING: {run.trained_on:,} of the {len(run.predictions):,} test videos were trained on: the test "
                "says nothing about new videos."
            )
        )
    return notes


def _strips(run: Run, number: int, draw: _Drawer, *, root: Path | None) -> list[str | PageFigure]:
    """Return film strips of the surest right and wrong answers, of videos below `root` alone."""
    if root is None:
        return [paragraph("Frames are shown with --videos DIR, the folder of the videos on this machine.")]
    sure = sorted((row for row in run.predictions if row.best), key=lambda row: -row.score)
    rows = [row for row in sure if row.right][:_STRIPS] + [row for row in sure if not row.right][:_STRIPS]
    items: list[str | PageFigure] = []
    for index, row in enumerate(rows):
        path = root / row.video
        if not path.is_file() or not path.resolve().is_relative_to(root.resolve()):
            return [paragraph(f"The videos of this run are not below {root} (looked for {row.video}).")]
        try:
            frames, times = _frames(path)
        except VideoDecodeError as err:
            items.append(paragraph(str(err)))
            continue
        strip = partial(figures.film_strip, frames, times)
        items.append(draw(f"run{number}-strip{index + 1}", _caption(row), strip, has_frames=True))
    return items


def _caption(row: Scored) -> str:
    verdict = "right" if row.right else f"wrong: it is {row.label}"
    return f"{row.best} {row.score:.0%} ({verdict}), {row.video}"


def _frames(path: Path) -> tuple[Any, list[str]]:
    """Return eight frames spread over the video, and when they are shown."""
    with open_video(path) as reader:
        index = np.linspace(0, len(reader) - 1, 8).astype(np.int64)
        seconds = reader.seconds()[index]
        times = [
            f"{second:.2f} s" if math.isfinite(second) else f"frame {at}"
            for at, second in zip(index.tolist(), seconds.tolist(), strict=True)
        ]
        return reader.read(index), times


def _root(run: Run, videos: str | None) -> Path | None:
    """Return the folder of the videos: what the user names, or of a drawn data set its place in the cache."""
    if videos is not None:
        return Path(videos).expanduser()
    data = run.config["data"]
    if data["name"] != "motions":
        return None
    sizes = {name: data[name] for name in ("train", "val", "test", "seed") if type(data.get(name)) is int}
    return cache_folder() / MotionsSpec(**sizes).folder_name


def _record(run: Run) -> dict[str, Any]:
    worst = [{"class": name, "top1": value, "videos": count} for name, value, count in class_accuracy(run.predictions)]
    figures = {
        name: run.metrics.get(name) for name in ("video_top1", "video_top5", "clip_top1", "protocol", "videos_scored")
    }
    error = reliability(run.predictions)[1] if run.predictions else None
    figures["trained_on"] = run.trained_on if run.predictions else None
    return {"folder": str(run.folder), "title": run.title, **figures, "calibration_error": error, "worst": worst[:10]}
