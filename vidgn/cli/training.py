"""Subcommands around training: show-batch, probe, search and compare."""

import sys
from typing import Annotated

import typer

from vidgn.cli.options import Device, Json, Overwrite


def show_batch(
    options: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="Options of training: data.root=DIR mixup=0.8.")
    ] = None,
    *,
    out: Annotated[str, typer.Option(metavar="FILE", help="The PNG file.")] = "batch.png",
    clips: Annotated[int, typer.Option(help="Film strips at most.")] = 16,
    epoch: Annotated[int, typer.Option(help="Whose first batch.")] = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Draw a training batch as the net sees it, augmented and mixed: film strips with their labels."""
    from vidgn.training.show_batch import run_show_batch

    status = run_show_batch(
        options or [], target=out, clips=clips, epoch=epoch, overwrite=overwrite, out=sys.stdout, as_json=as_json
    )
    raise typer.Exit(status)


def compare_command(
    first: Annotated[str, typer.Argument(metavar="RUN", help="A run folder with a finished test.")],
    second: Annotated[str, typer.Argument(metavar="RUN", help="Another one, on the same test videos.")],
    *,
    as_json: Json = False,
) -> None:
    """Tell whether one of two runs is better or whether it may be chance: difference, its interval, McNemar's test."""
    from vidgn.report.compare import run_compare

    raise typer.Exit(run_compare(first, second, out=sys.stdout, as_json=as_json))


def probe_command(
    options: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="ckpt=CKPT data=folder data.root=DIR.")
    ] = None,
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Where the features are kept for the next time.")] = "probe",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Tell how much a net knows of your classes: k-NN and logistic regression on its features, without training it."""
    from vidgn.evaluation.probe import run_probe
    from vidgn.inference.model import choose_device

    status = run_probe(options or [], folder=out, out=sys.stdout, device=choose_device(device), as_json=as_json)
    raise typer.Exit(status)


def search_command(
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE...", help="Options of training, some of them with several values."),
    ] = None,
    *,
    trials: Annotated[int, typer.Option(help="Trials of the search, with those that --out has already.")] = 20,
    out: Annotated[str, typer.Option(metavar="DIR", help="The study and a run folder for each trial.")] = "runs/search",
    prune: Annotated[bool, typer.Option(help="End a trial whose validation is worse than the median so far.")] = True,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    as_json: Json = False,
) -> None:
    """Search for good options with Optuna: values from lists, ranges and intervals; continues where it was."""
    from vidgn.training.search.search import run_search

    status = run_search(
        options or [], folder=out, trials=trials, prune=prune, seed=seed, out=sys.stdout, as_json=as_json
    )
    raise typer.Exit(status)
