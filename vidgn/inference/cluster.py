"""`vidgn predict|features DIR --engine ray --out URL`: many videos on a Ray cluster, as Parquet parts."""

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, TextIO

from vidgn.curation.parts import PartJob, PartsReport, Rows, make_parts
from vidgn.curation.pool import Engine
from vidgn.data.manifests.listing import list_videos
from vidgn.data.readers.types import VideoDecodeError
from vidgn.inference.features import extract, stage_name, window_clip
from vidgn.inference.model import ScoringModel, find_checkpoint, open_model
from vidgn.inference.predict import choose_test, predict
from vidgn.terminal.console import ProgressBar

PREDICT_COLUMNS = {"video": "text", "label": "text", "score": "number", "scores": "numbers", "error": "text"}
FEATURE_COLUMNS = {
    "video": "text", "start_frame": "integer", "end_frame": "integer", "start_seconds": "number",
    "end_seconds": "number", "features": "numbers", "scores": "numbers", "error": "text",
}  # fmt: skip


def run_cluster(
    videos: Sequence[str], make_job: Callable[[str], PartJob], *, target: str | None, out: TextIO, part_size: int,
    workers: int, engine: Engine = "ray", as_json: bool = False,
) -> int:  # fmt: skip
    """Make the parts of every video below a folder, print what is there; return 1 where a video has an error.

    Args:
        videos: one folder, which every machine sees.
        make_job: of the folder.
        target: folder or address of the parts.
        out: where the summary goes.
        part_size: videos per part.
        workers: parts at a time; 0: one per core of the cluster.
        engine: of `vidgn.curation.pool.spread`.
        as_json: print one JSON object.

    Raises:
        ValueError, OSError, ImportError: what was given cannot be used; one sentence.
    """
    if target is None:
        raise ValueError("--engine ray writes Parquet parts; add --out DIR, or an address such as s3://bucket/folder.")
    if len(videos) != 1 or not Path(videos[0]).is_dir():
        raise ValueError(f"--engine ray takes one folder that every machine sees, not {' '.join(videos) or 'nothing'}.")
    root = str(Path(videos[0]).resolve())
    names = sorted(list_videos(root))
    if not names:
        raise ValueError(f"there are no videos in {root}; give a folder of videos.")
    report = make_parts(
        make_job(root), names, target, part_size=part_size, workers=workers, engine=engine,
        progress=ProgressBar("videos"),
    )  # fmt: skip
    print_report(report, target, out=out, as_json=as_json)
    return int(report.failed > 0)


def print_report(report: PartsReport, target: str, *, out: TextIO, as_json: bool) -> None:
    """Print how many videos and parts there are."""
    if as_json:
        import json

        print(json.dumps({"out": target, **report._asdict()}), file=out)
        return
    print(
        f"{target}: {report.videos:,} videos in {report.parts:,} parts ({report.kept:,} were there before),"
        f" {report.failed:,} videos with an error",
        file=out,
    )


def predict_job(
    root: str, *, ckpt: str, num_clips: int | None = None, num_crops: int | Literal["full"] | None = None,
    device: str = "auto",
) -> PartJob:  # fmt: skip
    """Return the job that scores videos as `vidgn predict` does, one row per video."""
    path = find_checkpoint(ckpt).resolve()
    options = {"num_clips": num_clips, "num_crops": num_crops}
    rows = partial(_predicted, root, str(path), device, options)
    return PartJob(rows, PREDICT_COLUMNS, {"task": "predict", "ckpt": file_digest(path), **options})


def features_job(
    root: str, *, ckpt: str, layer: str = "last", window: int | None = None, stride: int | None = None,
    device: str = "auto",
) -> PartJob:  # fmt: skip
    """Return the job that extracts features as `vidgn features` does, one row per window."""
    path = find_checkpoint(ckpt).resolve()
    model = _opened(str(path), "cpu")  # a mistake is found before anything is written
    options = {"layer": stage_name(model, layer), "window": window, "stride": stride}
    window_clip(model, window)
    rows = partial(_extracted, root, str(path), device, options)
    return PartJob(rows, FEATURE_COLUMNS, {"task": "features", "ckpt": file_digest(path), **options})


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=1)
def _opened(ckpt: str, device: str) -> ScoringModel:
    return open_model(ckpt, device=device)


def _predicted(root: str, ckpt: str, device: str, options: dict[str, Any], names: Sequence[str]) -> Rows:
    model = _opened(ckpt, device)
    test = choose_test(model, **options)
    rows: Rows = []
    answers = predict([f"{root}/{name}" for name in names], model, test=test, num_workers=0)
    for name, answer in zip(names, answers, strict=True):
        best = answer.top(model.classes, 1)
        label, score = best[0] if best else (None, None)
        error = answer.error and answer.error.replace(f"{root}/", "")
        rows.append({"video": name, "label": label, "score": score, "scores": answer.scores, "error": error})
    return rows


def _extracted(root: str, ckpt: str, device: str, options: dict[str, Any], names: Sequence[str]) -> Rows:
    model = _opened(ckpt, device)
    clip = window_clip(model, options["window"])
    rows: Rows = []
    for name in names:
        try:
            arrays = extract(
                f"{root}/{name}", model, layer=options["layer"], clip=clip, stride=options["stride"] or clip.span
            )
        except (VideoDecodeError, OSError) as err:
            empty: dict[str, Any] = dict.fromkeys(FEATURE_COLUMNS)
            rows.append(empty | {"video": name, "error": str(err).replace(f"{root}/", "")})
            continue
        keys = [key for key in FEATURE_COLUMNS if key in arrays]
        columns = [arrays[key].tolist() for key in keys]
        rows += [
            {"video": name, **dict(zip(keys, row, strict=True)), "error": None} for row in zip(*columns, strict=True)
        ]
    return rows
