"""Subcommands that answer about videos: predict, features, explain, serve."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import typer

from vidgn.cli.options import Ckpt, Device, Json, Overwrite, Videos, stdout

EngineOption = Annotated[str, typer.Option(help="local, or ray: one folder, on the machines of a cluster that see it.")]
PartWorkers = Annotated[int, typer.Option("--workers", help="Ray: parts at a time; 0: one per core of the cluster.")]
PartSize = Annotated[int, typer.Option(help="Ray: videos per Parquet file.")]


def predict_command(
    videos: Videos = None,
    *,
    ckpt: Ckpt,
    top: Annotated[int, typer.Option(help="Classes per video.")] = 5,
    threshold: Annotated[
        float | None, typer.Option(help="Several classes per video: all those of this score or more.")
    ] = None,
    num_clips: Annotated[
        int | None, typer.Option(help="Clips per video; the checkpoint's own test if left out.")
    ] = None,
    num_crops: Annotated[str | None, typer.Option(help="3, 1 or full.")] = None,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Say what happens when, in a video of any length.")
    ] = False,
    stride: Annotated[int | None, typer.Option(help="Timeline: raw frames between windows; default: touching.")] = None,
    overlay: Annotated[str | None, typer.Option(metavar="OUT.mp4", help="Timeline: write it into a copy.")] = None,
    camera: Annotated[int | None, typer.Option(help="Watch a camera of this machine: 0 is /dev/video0.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Camera: how long; until Ctrl-C if left out.")] = None,
    engine: EngineOption = "local",
    out: Annotated[str | None, typer.Option(metavar="URL", help="Ray: folder or address of the Parquet files.")] = None,
    part_size: PartSize = 256,
    workers: PartWorkers = 0,
    overwrite: Overwrite = False,
    device: Device = "auto",
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Name the action in videos: the best classes with their scores, the same numbers as eval.py."""
    given = _PredictOptions(
        windows=bool(timeline or overlay), views=num_clips is not None or num_crops is not None,
        threshold=threshold is not None, stride=stride is not None and not timeline, camera=camera is not None,
        seconds=seconds is not None, cluster=engine != "local", out=out is not None, as_json=as_json, as_csv=as_csv,
    )  # fmt: skip
    _check_predict(given)
    names, form = videos or [], "json" if as_json else "csv" if as_csv else "text"
    if given.cluster:
        from vidgn.inference.cluster import predict_job

        job = partial(predict_job, ckpt=ckpt, num_clips=num_clips, num_crops=_crops(num_crops), device=device)
        status = _on_cluster(
            names, job, engine=engine, out=out, part_size=part_size, workers=workers, as_json=as_json
        )  # fmt: skip
    elif camera is not None:
        status = _watch_camera(camera, names, given, ckpt=ckpt, top=top, seconds=seconds, device=device)
    elif _detects(names, given, ckpt=ckpt):
        from vidgn.detection.predict import run_detect

        status = run_detect(names, ckpt=ckpt, out=stdout(), device=device, form=form)
    elif given.windows:
        from vidgn.inference.predict_print import run_timeline

        status = run_timeline(
            names, ckpt=ckpt, out=stdout(), stride=stride, device=device, form=form, overlay=overlay,
            overwrite=overwrite,
        )  # fmt: skip
    else:
        from vidgn.inference.predict_print import run_predict

        status = run_predict(
            names, ckpt=ckpt, out=stdout(), top=top, num_clips=num_clips, num_crops=_crops(num_crops), device=device,
            form=form, threshold=threshold,
        )  # fmt: skip
    raise typer.Exit(status)


class _PredictOptions(NamedTuple):
    """Which options of `vidgn predict` were given, in the groups that exclude each other.

    Attributes:
        windows: --timeline or --overlay.
        views: --num-clips or --num-crops.
        threshold: --threshold.
        stride: --stride without --timeline.
        camera: --camera.
        seconds: --seconds.
        cluster: another engine than local.
        out: --out.
        as_json: --json.
        as_csv: --csv.
    """

    windows: bool
    views: bool
    threshold: bool
    stride: bool
    camera: bool
    seconds: bool
    cluster: bool
    out: bool
    as_json: bool
    as_csv: bool


def _check_predict(given: _PredictOptions) -> None:
    """Refuse options that do not go together, whatever is predicted from."""
    if given.as_json and given.as_csv:
        raise ValueError("--json and --csv are both given; choose one.")
    if given.stride:
        raise ValueError("--stride belongs to --timeline; add --timeline or leave it out.")
    if given.windows and given.views:
        raise ValueError(
            "--num-clips and --num-crops do not apply to --timeline, which slides one window; leave them out."
        )
    if given.threshold and (given.windows or given.camera):
        raise ValueError("--threshold does not apply to --timeline, --overlay and --camera; leave it out.")
    if given.seconds and not given.camera:
        raise ValueError("--seconds belongs to --camera; add --camera 0 or leave it out.")
    if given.cluster and (given.windows or given.camera or given.as_csv):
        raise ValueError("--engine goes with --num-clips, --num-crops, --out and --json; leave out the rest.")
    if given.out and not given.cluster:
        raise ValueError("--out belongs to --engine ray; add --engine ray or leave it out.")


def _watch_camera(
    camera: int, videos: list[str], given: _PredictOptions, *, ckpt: str, top: int, seconds: float | None, device: str
) -> int:
    if videos or given.windows or given.as_csv or given.views:
        raise ValueError("--camera takes --ckpt, --top, --seconds, --device and --json; leave out the rest.")
    from vidgn.inference.camera import run_camera

    return run_camera(camera, ckpt=ckpt, out=stdout(), top=top, seconds=seconds, device=device, as_json=given.as_json)


def _detects(paths: list[str], given: _PredictOptions, *, ckpt: str) -> bool:
    """Tell whether a checkpoint is a detector, which reads images."""
    from vidgn.detection.dispatch import detects

    is_detector = detects(paths, ckpt=ckpt)
    if is_detector and (given.windows or given.views):
        raise ValueError("--timeline, --overlay, --num-clips and --num-crops are for videos; leave them out.")
    return is_detector


def _on_cluster(
    videos: list[str],
    job: Callable[..., Any],
    *,
    engine: str,
    out: str | None,
    part_size: int,
    workers: int,
    as_json: bool,
) -> int:
    from vidgn.inference.cluster import run_cluster

    return run_cluster(
        videos, job, target=out, out=stdout(), part_size=part_size, workers=workers, engine=check_engine(engine),
        as_json=as_json,
    )  # fmt: skip


def features(
    videos: Videos = None,
    *,
    ckpt: Ckpt,
    layer: Annotated[str, typer.Option(help="res2, res3, res4, res5 or last.")] = "last",
    window: Annotated[
        int | None, typer.Option(help="Raw frames per window; the checkpoint's span if left out.")
    ] = None,
    stride: Annotated[int | None, typer.Option(help="Raw frames between windows; default: touching.")] = None,
    no_pool: Annotated[bool, typer.Option("--no-pool", help="Keep (C,T,H,W) instead of the mean.")] = False,
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder of the .npz files.")] = "features",
    engine: EngineOption = "local",
    part_size: PartSize = 256,
    workers: PartWorkers = 0,
    overwrite: Overwrite = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write features of each window of a video with its times, one .npz per video."""
    if engine != "local":
        if no_pool:
            raise ValueError("--engine ray writes the mean of each window; leave --no-pool out.")
        from vidgn.inference.cluster import features_job

        job = partial(features_job, ckpt=ckpt, layer=layer, window=window, stride=stride, device=device)
        status = _on_cluster(
            videos or [], job, engine=engine, out=out, part_size=part_size, workers=workers, as_json=as_json
        )
        raise typer.Exit(status)
    from vidgn.inference.features import run_features

    status = run_features(
        videos or [], ckpt=ckpt, folder=out, out=stdout(), layer=layer, window=window, stride=stride,
        pool=not no_pool, device=device, as_json=as_json, overwrite=overwrite,
    )  # fmt: skip
    raise typer.Exit(status)


def explain_command(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="One video file.")],
    *,
    ckpt: Ckpt,
    name: Annotated[str | None, typer.Option("--class", help="The class to explain; the best one if left out.")] = None,
    at: Annotated[float | None, typer.Option(help="Second in the middle; where the class scores highest.")] = None,
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder of the picture and the film.")] = "explained",
    overwrite: Overwrite = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Show where and when the net looks: Grad-CAM over space and time, as a film strip and an mp4."""
    from vidgn.inference.explain import run_explain

    status = run_explain(
        video, ckpt=ckpt, target=out, out=stdout(), name=name, at=at, device=device, as_json=as_json,
        overwrite=overwrite,
    )  # fmt: skip
    raise typer.Exit(status)


def serve(
    *,
    ckpt: Ckpt,
    host: Annotated[str, typer.Option(help="Address to listen at; the default is this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    limit: Annotated[int, typer.Option(help="Largest upload in MB.")] = 200,
    device: Device = "auto",
) -> None:
    """Open a page on this machine: drop a video, see classes, a timeline and where the net looked."""
    from vidgn.inference.serve import run_serve

    raise typer.Exit(run_serve(ckpt=ckpt, host=host, port=port, limit_mb=limit, out=stdout(), device=device))


def check_engine(name: str) -> Literal["ray"]:
    """Return the name of the engine.

    Raises:
        ValueError: there is no such engine.
    """
    if name != "ray":
        raise ValueError(f"--engine ({name}) must be local or ray.")
    return "ray"


def _crops(text: str | None) -> Any:
    """Return the option as the number it is; `check_view_spec` judges the rest."""
    return int(text) if text is not None and text.isdecimal() else text
