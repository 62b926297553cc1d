"""Subcommands about a data set: scan and prepare."""

import os
import sys
from typing import Annotated, Literal, cast

import typer

from vidgn.cli.options import Json, Overwrite, stdout

Workers = Annotated[int, typer.Option(help="Processes; 0: one per core.")]


def scan_command(
    source: Annotated[
        str, typer.Argument(metavar="DIR|LIST|PASSPORT", help="Videos (a folder may be an address), or a passport.")
    ],
    passport: Annotated[str, typer.Argument(metavar="PASSPORT", help="NAME.parquet or NAME.jsonl.")] = (
        "passport.parquet"
    ),
    *,
    verify: Annotated[bool, typer.Option("--verify", help="Compare the files with the passport SOURCE.")] = False,
    root: Annotated[str | None, typer.Option(metavar="DIR", help="Verify: open no file outside this folder.")] = None,
    compare: Annotated[
        str | None, typer.Option(metavar="FILE", help="Another passport, a Kinetics csv or a list: what differs.")
    ] = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="List videos that seem to be one, and write no passport.")
    ] = False,
    workers: Workers = 0,
    engine: Annotated[
        str, typer.Option(help="local, or ray: the machines of a cluster that see the videos.")
    ] = "local",
    deadline: Annotated[float, typer.Option(help="Seconds that one video may take.")] = 300.0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write the passport of a data set: what every file is, whether every frame decodes. Status 1: not all is well."""
    from vidgn.curation import scan as tool

    if engine not in ("local", "ray"):
        raise ValueError(f"--engine ({engine}) must be local or ray.")

    if root is not None and not verify:
        raise ValueError("--root belongs to --verify; add --verify or leave it out.")
    if verify and compare is not None:
        raise ValueError("--verify and --compare are both given; choose one.")
    if duplicates:
        if verify or compare is not None:
            raise ValueError("--duplicates goes without --verify and --compare; leave them out.")
        raise typer.Exit(tool.run_duplicates(source, out=stdout(), as_json=as_json))
    if compare is not None:
        raise typer.Exit(tool.run_compare_passports(source, compare, out=stdout(), as_json=as_json))
    if engine != "local" and verify:
        raise ValueError(f"--engine ({engine}) is for a scan; leave it out of --verify.")
    count = workers if engine == "ray" else workers_or_cores(workers)
    if verify:
        status = tool.run_verify(source, out=stdout(), workers=count, seconds=deadline, as_json=as_json, root=root)
    else:
        status = tool.run_scan(
            source, passport, out=stdout(), workers=count, seconds=deadline, as_json=as_json, overwrite=overwrite,
            engine=cast("Literal['local', 'ray']", engine),
        )  # fmt: skip
    raise typer.Exit(status)


def prepare_command(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Folder of videos, or an address.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="Folder of the new files.")],
    *,
    short_side: Annotated[int, typer.Option(help="px; smaller videos keep their size.")] = 256,
    gop: Annotated[int, typer.Option(help="Frames from one key frame to the next.")] = 12,
    crf: Annotated[int, typer.Option(help="x264's constant rate factor.")] = 23,
    engine: Annotated[str, typer.Option(help="local, or ray: the machines of a cluster that see both folders.")] = (
        "local"
    ),
    shards: Annotated[
        float | None, typer.Option(metavar="MB", help="Pack them into WebDataset tars of MB in DST_shards too.")
    ] = None,
    workers: Workers = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Re-encode videos for random access, verified and restartable. Status 1: a video failed."""
    from vidgn.curation.encode import PrepareSpec
    from vidgn.curation.prepare_print import run_prepare

    spec = PrepareSpec(short_side=short_side, gop=gop, crf=crf)
    count = workers if engine == "ray" else workers_or_cores(workers)
    status = run_prepare(
        source, target, spec=spec, out=stdout(), workers=count, engine=engine, as_json=as_json, overwrite=overwrite
    )
    if shards is not None:
        from vidgn.curation.pack import run_pack

        run_pack(target, megabytes=shards, out=sys.stderr if as_json else stdout(), overwrite=overwrite)
    raise typer.Exit(status)


def workers_or_cores(workers: int) -> int:
    """Return the number of processes; 0 stands for one per core.

    Raises:
        ValueError: it is negative.
    """
    if workers < 0:
        raise ValueError(f"--workers ({workers}) must be 0 or more.")
    return workers or len(os.sched_getaffinity(0))
