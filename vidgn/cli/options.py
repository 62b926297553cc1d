"""Options that several subcommands of `vidgn` share."""

import sys
from typing import Annotated, TextIO

import typer

from vidgn.terminal.escape import escaped

Videos = Annotated[
    list[str] | None,
    typer.Argument(metavar="VIDEO|DIR|URL...", help="Files, folders, http(s) addresses."),
]
Ckpt = Annotated[
    str, typer.Option(metavar="PATH", help="A checkpoint, a run folder, or motions, which comes with the package.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing files that this command did not write; inputs never.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def stdout() -> TextIO:
    """Return where a command prints: names of files and classes are escaped."""
    return escaped(sys.stdout)
