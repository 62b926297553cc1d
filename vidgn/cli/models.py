"""Subcommands about nets, runs and the machine: export, model, bench, report, convert-weights, replay, doctor."""

import sys
from typing import Annotated

import typer

from vidgn.cli.options import Ckpt, Device, Json, Overwrite, stdout


def export(
    videos: Annotated[list[str] | None, typer.Argument(metavar="VIDEO|DIR...", help="Compare on these.")] = None,
    *,
    ckpt: Ckpt,
    to: Annotated[str, typer.Option(help="onnx, torch-export or safetensors.")] = "onnx",
    out: Annotated[str | None, typer.Option(metavar="FILE", help="The file; default: beside the checkpoint.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write the net for other programs, pixels in and scores out; print the difference it makes."""
    from vidgn.inference.export import run_export

    status = run_export(
        ckpt=ckpt, to=to, target=out, videos=videos or [], out=stdout(), as_json=as_json, overwrite=overwrite
    )
    raise typer.Exit(status)


def model(
    *,
    summary: Annotated[bool, typer.Option("--summary", help="Print the summary (the default).")] = True,
    model: Annotated[str, typer.Option(help="A network of configs/model.")] = "i3d_r50",
    norm: Annotated[str, typer.Option(help="gn, bn, ln, ... as in configs/norm.")] = "gn",
    num_classes: Annotated[int, typer.Option(help="Classes.")] = 400,
    clip_len: Annotated[int | None, typer.Option(help="Frames of the clip; the net's own if left out.")] = None,
    crop: Annotated[int | None, typer.Option(help="Side in pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Channels of the stem.")] = None,
    kernels: Annotated[str, typer.Option(help="scale or fit: fit kernels to their new inputs, too.")] = "keep",
    num_groups: Annotated[int | None, typer.Option(help="Groups of gn; 32 at full width if left out.")] = None,
    channels_per_group: Annotated[int | None, typer.Option(help="Instead of --num-groups.")] = None,
    as_json: Json = False,
) -> None:
    """Count parameters, multiply-adds and activation memory per stage, beside the published numbers."""
    from vidgn.models.summary import run_summary

    status = run_summary(
        model=model, norm=norm, num_classes=num_classes, clip_len=clip_len, crop=crop, width=width, out=stdout(),
        as_json=as_json, num_groups=num_groups, channels_per_group=channels_per_group,
    )  # fmt: skip
    raise typer.Exit(status)


def bench(
    *,
    explain: Annotated[bool, typer.Option("--explain", help="Show which form of each convolution is taken.")] = False,
    model: Annotated[str, typer.Option(help="A network of configs/model.")] = "i3d_r50",
    norm: Annotated[str, typer.Option(help="gn, bn, ln, ... as in configs/norm.")] = "gn",
    clip_len: Annotated[int | None, typer.Option(help="Frames of the clip; the net's own if left out.")] = None,
    crop: Annotated[int | None, typer.Option(help="Side in pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Channels of the stem.")] = None,
    batch: Annotated[int, typer.Option(help="Clips at a time.")] = 1,
    device: Device = "auto",
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="Say instead which readers of these videos feed the device.")
    ] = None,
    step_ms: Annotated[
        float | None, typer.Option(help="With --data: milliseconds of a training step of --batch clips; else measured.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Time a net on this machine, as built and fused; measure, once, which form of each convolution is fastest."""
    if data is not None:
        raise typer.Exit(_bench_data(data, step_ms=step_ms, batch=batch, as_json=as_json))
    if step_ms is not None:
        raise ValueError(f"--step-ms {step_ms:g} belongs to --data DIR; give the folder of videos, too.")
    from vidgn.inference.bench import run_bench

    status = run_bench(
        model=model, norm=norm, clip_len=clip_len, crop=crop, width=width, batch=batch, device=device, out=stdout(),
        explained=explain, as_json=as_json,
    )  # fmt: skip
    raise typer.Exit(status)


def _bench_data(folder: str, *, step_ms: float | None, batch: int, as_json: bool) -> int:
    from functools import partial

    from vidgn.curation.encode import PrepareSpec, prepare_file
    from vidgn.doctor.feed import run_feed

    prepare = partial(prepare_file, spec=PrepareSpec())
    return run_feed(folder, step_ms=step_ms, batch=batch, prepare=prepare, out=stdout(), as_json=as_json)


def report(
    runs: Annotated[list[str] | None, typer.Argument(metavar="RUN...", help="Run folders of train.py.")] = None,
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder of the page and the pictures.")] = "report",
    videos: Annotated[
        str | None, typer.Option(metavar="DIR", help="Show frames of the run's videos, which lie below this folder.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Turn runs into one HTML page: error curves, Table 8, confusion, worst classes, calibration, examples."""
    from vidgn.detection.dispatch import are_detection_runs

    if are_detection_runs(runs or []):
        from vidgn.detection.report import run_detection_report

        status = run_detection_report(
            runs or [], target=out, out=stdout(), as_json=as_json, overwrite=overwrite, images=videos
        )
        raise typer.Exit(status)
    from vidgn.report.write import run_report

    raise typer.Exit(
        run_report(runs or [], target=out, out=stdout(), as_json=as_json, overwrite=overwrite, videos=videos)
    )


def convert_weights_command(
    source: Annotated[str, typer.Argument(metavar="RUN|FILE", help="Batch-norm weights: a run, a checkpoint, a file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="OPTION=VALUE...", help="data=, data.root=; of image weights model=.")
    ] = None,
    *,
    out: Annotated[str, typer.Option(metavar="FILE", help="The checkpoint to write.")],
    norm: Annotated[str, typer.Option(help="gn, ln or frozen_bn.")] = "gn",
    clips: Annotated[int, typer.Option(help="Clips to calibrate with.")] = 96,
    scales: Annotated[str, typer.Option(help="fit: scale kernels too; nearer, but hard to train on.")] = "keep",
    kernels: Annotated[str, typer.Option(help="scale or fit: fit kernels to their new inputs, too.")] = "keep",
    num_groups: Annotated[int | None, typer.Option(help="Groups of gn; 32 at full width if left out.")] = None,
    distill: Annotated[int | None, typer.Option(metavar="STEPS", help="Then imitate the old net in training.")] = None,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="Of the clips.")] = 0,
    as_json: Json = False,
    overwrite: Overwrite = False,
) -> None:
    """Turn batch-norm weights into a group-norm checkpoint, fitted layer by layer on clips."""
    from vidgn.conversion.command import run_convert

    status = run_convert(
        source, overrides or [], out=out, norm=norm, clips=clips, scales=scales, kernels=kernels,
        num_groups=num_groups, distill=distill, device=device, seed=seed, output=stdout(), as_json=as_json,
        overwrite=overwrite,
    )  # fmt: skip
    raise typer.Exit(status)


def replay_command(
    dump: Annotated[str, typer.Argument(metavar="DUMP", help="A file nonfinite-step*.pt of a run folder.")],
    *,
    as_json: Json = False,
) -> None:
    """Run again the training step that stopped a run: its loss, and where it is not finite. Status 1: it is not."""
    from vidgn.training.replay import run_replay

    raise typer.Exit(run_replay(dump, out=stdout(), as_json=as_json))


def doctor(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the measurement of speed.")] = False,
    as_json: Json = False,
) -> None:
    """Check this machine: versions, known-bad sets, a self-test, what limits training. Status 1: broken."""
    from vidgn.doctor.checks import run_doctor

    raise typer.Exit(run_doctor(out=sys.stdout, as_json=as_json, quick=quick))


def push(
    repo: Annotated[str, typer.Argument(metavar="USER/NAME", help="A repository of the Hugging Face hub.")],
    *,
    ckpt: Ckpt,
    folder: Annotated[
        str | None, typer.Option(metavar="DIR", help="Only write the files there, to look at; nothing is sent.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Share a checkpoint on the Hugging Face hub, with a model card made from its metrics."""
    from vidgn.inference.hub import run_push

    status = run_push(
        repo, ckpt=ckpt, folder=folder, private=private, out=stdout(), as_json=as_json, overwrite=overwrite
    )
    raise typer.Exit(status)


def pull(
    source: Annotated[str, typer.Argument(metavar="USER/NAME|DIR", help="What vidgn push made.")],
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="The run folder to make.")],
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit of the repository.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Fetch a shared checkpoint into a folder that --ckpt takes."""
    from vidgn.inference.hub import run_pull

    status = run_pull(source, target=out, revision=revision, out=stdout(), as_json=as_json, overwrite=overwrite)
    raise typer.Exit(status)
