"""The command `vidgn`: one subcommand per question; what a subcommand needs is imported when it runs.

Exit status: 0 all is well; 1 the answer is "no" (a video failed, a check found something broken); 2 the command
cannot be carried out as it was typed, and one sentence says why.
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

USAGE_ERROR = 2  # exit status
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Video classification with group normalization: from weights to answers. Training is train.py.",
    epilog="Start with: vidgn doctor",
)


@app.callback()
def _commands() -> None:
    """Keep subcommands by name even where there is only one."""


Videos = Annotated[list[str] | None, typer.Argument(metavar="VIDEO|DIR...", help="Video files, or folders of them.")]
Ckpt = Annotated[str, typer.Option(metavar="PATH", help="A checkpoint of train.py, or its run folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line `words` (default: the process's own) and exit.

    A user's mistake is one sentence on stderr and status 2; VIDGN_TRACEBACK=1 shows where it was noticed.
    """
    try:
        app(args=None if words is None else list(words), prog_name="vidgn")
    except BrokenPipeError:  # `vidgn ... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except _users_errors() as err:
        if os.environ.get("VIDGN_TRACEBACK") == "1":
            raise
        print(f"error: {_sentence(err)}", file=sys.stderr)
        sys.exit(USAGE_ERROR)


@app.command(epilog="Example: vidgn predict clip.mp4 --ckpt runs/NAME")
def predict(
    videos: Videos = None,
    *,
    ckpt: Ckpt,
    top: Annotated[int, typer.Option(help="Classes per video.")] = 5,
    num_clips: Annotated[
        int | None, typer.Option(help="Clips per video; the checkpoint's own test if left out.")
    ] = None,
    num_crops: Annotated[str | None, typer.Option(help="3, 1 or full.")] = None,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Say what happens when, in a video of any length.")
    ] = False,
    stride: Annotated[int | None, typer.Option(help="Timeline: raw frames between windows; default: touching.")] = None,
    overlay: Annotated[str | None, typer.Option(metavar="OUT.mp4", help="Timeline: write it into a copy.")] = None,
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
    from vidgn.tools.predict_print import run_predict, run_timeline

    form = "json" if as_json else "csv" if as_csv else "text"
    if timeline or overlay:
        status = run_timeline(
            videos or [], ckpt=ckpt, out=sys.stdout, stride=stride, device=device, form=form, overlay=overlay
        )
    else:
        status = run_predict(
            videos or [], ckpt=ckpt, out=sys.stdout, top=top, num_clips=num_clips, num_crops=_crops(num_crops),
            device=device, form=form,
        )  # fmt: skip
    raise typer.Exit(status)


@app.command(epilog="Example: vidgn doctor")
def doctor(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the measurement of speed.")] = False,
    as_json: Json = False,
) -> None:
    """Check this machine: versions, known-bad sets, a self-test, what limits training. Status 1: broken."""
    from vidgn.tools.doctor import run_doctor

    raise typer.Exit(run_doctor(out=sys.stdout, as_json=as_json, quick=quick))


@app.command(epilog="Example: vidgn features clip.mp4 --ckpt runs/NAME --layer res5 --window 64 --stride 32")
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
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write features of each window of a video with its times, one .npz per video."""
    from vidgn.tools.features import run_features

    status = run_features(
        videos or [], ckpt=ckpt, folder=out, out=sys.stdout, layer=layer, window=window, stride=stride,
        pool=not no_pool, device=device, as_json=as_json,
    )  # fmt: skip
    raise typer.Exit(status)


@app.command(epilog="Example: vidgn report runs/gn runs/bn --out report")
def report(
    runs: Annotated[list[str] | None, typer.Argument(metavar="RUN...", help="Run folders of train.py.")] = None,
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder of the page and the pictures.")] = "report",
    as_json: Json = False,
) -> None:
    """Turn runs into one HTML page: error curves, Table 8, confusion, worst classes, calibration, examples."""
    from vidgn.tools.report import run_report

    raise typer.Exit(run_report(runs or [], target=out, out=sys.stdout, as_json=as_json))


@app.command(epilog="Example: vidgn explain clip.mp4 --ckpt runs/NAME --out explained")
def explain(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="One video file.")],
    *,
    ckpt: Ckpt,
    name: Annotated[str | None, typer.Option("--class", help="The class to explain; the best one if left out.")] = None,
    at: Annotated[float | None, typer.Option(help="Second in the middle; where the class scores highest.")] = None,
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder of the picture and the film.")] = "explained",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Show where and when the net looks: Grad-CAM over space and time, as a film strip and an mp4."""
    from vidgn.tools.explain import run_explain

    status = run_explain(video, ckpt=ckpt, target=out, out=sys.stdout, name=name, at=at, device=device, as_json=as_json)
    raise typer.Exit(status)


@app.command(epilog="Example: vidgn export --ckpt runs/NAME --to onnx clip.mp4")
def export(
    videos: Annotated[list[str] | None, typer.Argument(metavar="VIDEO|DIR...", help="Compare on these.")] = None,
    *,
    ckpt: Ckpt,
    to: Annotated[str, typer.Option(help="onnx, torch-export or safetensors.")] = "onnx",
    out: Annotated[str | None, typer.Option(metavar="FILE", help="The file; default: beside the checkpoint.")] = None,
    as_json: Json = False,
) -> None:
    """Write the net for other programs, pixels in and scores out; print the difference it makes."""
    from vidgn.tools.export import run_export

    raise typer.Exit(run_export(ckpt=ckpt, to=to, target=out, videos=videos or [], out=sys.stdout, as_json=as_json))


@app.command(epilog="Example: vidgn model --summary --model i3d_r50 --clip-len 64")
def model(
    *,
    summary: Annotated[bool, typer.Option("--summary", help="Print the summary (also without this word).")] = True,
    model: Annotated[str, typer.Option(help="A network of configs/model.")] = "i3d_r50",
    norm: Annotated[str, typer.Option(help="gn, bn, ln, ... as in configs/norm.")] = "gn",
    num_classes: Annotated[int, typer.Option(help="Classes.")] = 400,
    clip_len: Annotated[int | None, typer.Option(help="Frames of the clip; the net's own if left out.")] = None,
    crop: Annotated[int | None, typer.Option(help="Side in pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Channels of the stem.")] = None,
    as_json: Json = False,
) -> None:
    """Count parameters, multiply-adds and activation memory per stage, beside the published numbers."""
    from vidgn.tools.summary import run_summary

    status = run_summary(
        model=model, norm=norm, num_classes=num_classes, clip_len=clip_len, crop=crop, width=width, out=sys.stdout,
        as_json=as_json,
    )  # fmt: skip
    raise typer.Exit(status)


@app.command(epilog="Example: vidgn serve --ckpt runs/NAME")
def serve(
    *,
    ckpt: Ckpt,
    host: Annotated[str, typer.Option(help="Address to listen at; the default is this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    limit: Annotated[int, typer.Option(help="Largest upload in MB.")] = 200,
    device: Device = "auto",
) -> None:
    """Open a page on this machine: drop a video, see classes, a timeline and where the net looked."""
    from vidgn.tools.serve import run_serve

    raise typer.Exit(run_serve(ckpt=ckpt, host=host, port=port, limit_mb=limit, out=sys.stdout, device=device))


def _crops(text: str | None) -> Any:
    """Return the option as the number it is; `check_view_spec` judges the rest."""
    return int(text) if text is not None and text.isdecimal() else text


def _sentence(err: BaseException) -> str:
    if isinstance(err, OSError) and err.filename is not None and err.strerror is not None:
        return f"{err.filename}: {err.strerror}"
    return str(err)


def _users_errors() -> tuple[type[Exception], ...]:
    from vidgn.data.video import VideoDecodeError

    return (ValueError, OSError, ImportError, VideoDecodeError)
