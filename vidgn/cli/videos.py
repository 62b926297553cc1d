"""Subcommands that answer about videos: predict, features, explain, serve."""

from functools import partial
from typing import Annotated, Any, Literal

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
    if as_json and as_csv:
        raise ValueError("--json and --csv are both given; choose one.")
    if not timeline and stride is not None:
        raise ValueError("--stride belongs to --timeline; add --timeline or leave it out.")
    if (timeline or overlay) and (num_clips is not None or num_crops is not None):
        raise ValueError(
            "--num-clips and --num-crops do not apply to --timeline, which slides one window; leave them out."
        )
    if threshold is not None and (timeline or overlay or camera is not None):
        raise ValueError("--threshold does not apply to --timeline, --overlay and --camera; leave it out.")
    if camera is None and seconds is not None:
        raise ValueError("--seconds belongs to --camera; add --camera 0 or leave it out.")
    if engine != "local":
        if timeline or overlay or camera is not None or as_csv:
            raise ValueError("--engine goes with --num-clips, --num-crops, --out and --json; leave out the rest.")
        from vidgn.inference.cluster import predict_job, run_cluster

        job = partial(predict_job, ckpt=ckpt, num_clips=num_clips, num_crops=_crops(num_crops), device=device)
        raise typer.Exit(
            run_cluster(
                videos or [], job, target=out, out=stdout(), part_size=part_size, workers=workers,
                engine=check_engine(engine), as_json=as_json,
            )
        )  # fmt: skip
    if out is not None:
        raise ValueError("--out belongs to --engine ray; add --engine ray or leave it out.")
    if camera is not None:
        if videos or timeline or overlay or as_csv or num_clips is not None or num_crops is not None:
            raise ValueError("--camera takes --ckpt, --top, --seconds, --device and --json; leave out the rest.")
        from vidgn.inference.camera import run_camera

        raise typer.Exit(
            run_camera(camera, ckpt=ckpt, out=stdout(), top=top, seconds=seconds, device=device, as_json=as_json)
        )
    form = "json" if as_json else "csv" if as_csv else "text"
    from vidgn.detection.dispatch import detects

    if detects(videos or [], ckpt=ckpt):
        if timeline or overlay or num_clips is not None or num_crops is not None:
            raise ValueError("--timeline, --overlay, --num-clips and --num-crops are for videos; leave them out.")
        from vidgn.detection.predict import run_detect

        raise typer.Exit(run_detect(videos or [], ckpt=ckpt, out=stdout(), device=device, form=form))
    from vidgn.inference.predict_print import run_predict, run_timeline

    if timeline or overlay:
        status = run_timeline(
            videos or [], ckpt=ckpt, out=stdout(), stride=stride, device=device, form=form, overlay=overlay,
            overwrite=overwrite,
        )  # fmt: skip
    else:
        status = run_predict(
            videos or [], ckpt=ckpt, out=stdout(), top=top, num_clips=num_clips, num_crops=_crops(num_crops),
            device=device, form=form, threshold=threshold,
        )  # fmt: skip
    raise typer.Exit(status)


def features(
    videos: Videos = None,
    *,
    ckpt: Ckpt,
    layer: Annotated[str, typer.Option(help="res2, res3, res4 or res5.")] = "res5",
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
        from vidgn.inference.cluster import features_job, run_cluster

        job = partial(features_job, ckpt=ckpt, layer=layer, window=window, stride=stride, device=device)
        raise typer.Exit(
            run_cluster(
                videos or [], job, target=out, out=stdout(), part_size=part_size, workers=workers,
                engine=check_engine(engine), as_json=as_json,
            )
        )  # fmt: skip
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
