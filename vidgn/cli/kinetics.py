"""The subcommand about the paper's table: reproduce."""

import sys
from typing import Annotated

import typer

from vidgn.cli.options import Json


def reproduce(
    words: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="data.root=DIR, ...")] = None,
    *,
    check: Annotated[bool, typer.Option("--check", help="Look at the data instead of printing the commands.")] = False,
    sample: Annotated[int, typer.Option(help="Videos of each split to open where data.passport is not given.")] = 200,
    as_json: Json = False,
) -> None:
    """Print the commands of Table 8; --check: what in a copy of Kinetics-400 makes its numbers others (then 1)."""
    from vidgn.curation.kinetics_check import run_reproduce

    raise typer.Exit(run_reproduce(words or [], check=check, sample=sample, out=sys.stdout, as_json=as_json))
