"""The passport of a data set: what every file is, and whether each of its frames can be decoded.

scan("kinetics/train", "train.parquet")        vidgn scan DIR train.parquet
verify("train.parquet")                        vidgn scan --verify train.parquet
"""

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

from vidgn.curation.duplicates import find_twins
from vidgn.curation.figure import draw_histograms
from vidgn.curation.inspect_file import NOT_READ, inspect
from vidgn.curation.pool import Engine, spread
from vidgn.data.manifests.listing import list_videos
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.manifests.rows import VIDEO_SUFFIXES
from vidgn.data.passports.compare import compare_with, describe_differences
from vidgn.data.passports.passport import VideoFacts, check_target, read_passport, summary, write_passport
from vidgn.data.storage.local_copy import path_of, state_of
from vidgn.data.storage.remote import is_url
from vidgn.files.outputs import check_outputs
from vidgn.terminal.console import ProgressBar

CHANGED = "changed since the scan"
DEADLINE_SECONDS = 300.0  # for every frame of one video; a clip's deadline is 30 s


def scan(
    source: str | Path,
    target: str | Path,
    *,
    workers: int = 1,
    seconds: float = DEADLINE_SECONDS,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
    engine: Engine = "local",
) -> list[VideoFacts]:
    """Decode every video strictly and write the passport.

    Rows of an earlier or interrupted scan are kept where size and time of the file are the same.

    Args:
        source: a folder or address, read recursively, or a text file with one path a line (relative to its folder).
        target: the passport, NAME.parquet or NAME.jsonl.
        workers: processes.
        seconds: the longest that one video may take.
        progress: called with (videos done, videos in all).
        overwrite: replace a file of that name that is not a passport.
        engine: `ray` spreads the videos over a cluster, all of whose machines see them; `workers` may be 0 then.

    Raises:
        FileExistsError: there is a file of that name, and it is not a passport.
        ValueError: there are no videos, the passport is an input, or its name ends otherwise.
        ImportError: pyarrow is missing, for Parquet.
    """
    out = check_target(target)
    root, names = _find(str(source))
    _check_outputs(out, str(source), root, names, overwrite=overwrite)
    journal = _journal(out)
    known = {row.id: row for file in (out, journal) for row in _known(file, overwrite=overwrite)}
    done = {name: known[name] for name in names if name in known and _is_same(path_of(root, name), known[name])}
    todo = [name for name in names if name not in done]
    if progress is not None and done:
        progress(len(done), len(names))
    with journal.open("a") as file:
        for row in spread(partial(inspect, root, seconds=seconds), todo, workers=workers, engine=engine):
            done[row.id] = row
            file.write(json.dumps(row._asdict()) + "\n")
            file.flush()
            if progress is not None:
                progress(len(done), len(names))
    rows = [done[name] for name in names]
    write_passport(rows, out)
    journal.unlink()
    return rows


def verify(
    passport: str | Path,
    *,
    workers: int = 1,
    seconds: float = DEADLINE_SECONDS,
    progress: Callable[[int, int], None] | None = None,
    root: str | None = None,
) -> list[VideoFacts]:
    """Return the rows whose file is broken, missing or not what was scanned, with a new status.

    A changed checksum finds every kind of damage, also that which decodes without an error.

    Args:
        passport: of `scan`; a stranger's may name any path, so that only videos below one folder are opened.
        workers: processes.
        seconds: the longest that one video may take.
        progress: called with (videos done, videos in all).
        root: the folder; None: the one that the passport is of.

    Raises:
        ValueError: the passport names a file that is not a video by its name, or lies elsewhere.
    """
    rows = read_passport(passport)
    _check_paths(rows, root, passport)
    changed = []
    for count, row in enumerate(spread(partial(_compare, seconds), rows, workers=workers), 1):
        if row.status != "ok":
            changed.append(row)
        if progress is not None:
            progress(count, len(rows))
    return sorted(changed)


def run_scan(
    source: str, target: str, *, out: TextIO, workers: int, seconds: float = DEADLINE_SECONDS, as_json: bool = False,
    overwrite: bool = False, engine: Engine = "local",
) -> int:  # fmt: skip
    """Scan, print the summary and draw the histograms beside the passport; 1 where a video is not ok."""
    bar = ProgressBar("scanning")
    rows = scan(source, target, workers=workers, seconds=seconds, progress=bar, overwrite=overwrite, engine=engine)
    picture = draw_histograms(rows, Path(target).with_suffix(".png"))
    bad = [row for row in rows if row.status != "ok"]
    if as_json:
        print(json.dumps({"videos": len(rows), "bad": {row.id: row.status for row in bad}}), file=out)
    else:
        print(f"{summary(rows)}\n{Path(target).absolute()}\n{picture.absolute()}", file=out)
    return int(bool(bad))


def run_verify(
    passport: str, *, out: TextIO, workers: int, seconds: float = DEADLINE_SECONDS, as_json: bool = False,
    root: str | None = None,
) -> int:  # fmt: skip
    """Compare the files with a passport; 1 where one differs."""
    wrong = verify(passport, workers=workers, seconds=seconds, progress=ProgressBar("verifying"), root=root)
    if as_json:
        print(json.dumps({"wrong": {row.id: row.status for row in wrong}}), file=out)
    else:
        print("\n".join(f"{row.id}: {row.status}" for row in wrong) or "every file is what it was, and whole", file=out)
    return int(bool(wrong))


def run_compare_passports(first: str, second: str, *, out: TextIO, as_json: bool = False) -> int:
    """Say in what a passport differs from another one or from a published list; 1 where they differ."""
    differences = compare_with(read_passport(first), second)
    text = json.dumps(differences) if as_json else describe_differences(differences, first=first, second=second)
    print(text, file=out)
    return int(any(differences.values()))


def run_duplicates(source: str, *, out: TextIO, as_json: bool = False) -> int:
    """Print the pairs of videos of a folder or list that seem to be one; return 1 where there are some."""
    root, names = _find(source)
    manifest = Manifest.from_rows([(name, 0) for name in names], root=root, classes=["all"])
    twins = find_twins({"all": manifest}, looks=True, within=True)
    for twin in twins:
        row = {"video": twin.video, "other": twin.other, "why": twin.why, "sure": twin.sure}
        print(json.dumps(row) if as_json else f"{twin.sure}: {twin.video} and {twin.other}: {twin.why}", file=out)
    if not as_json:
        print(f"{len(names):,} videos, {len(twins):,} pairs that seem to be one", file=out)
    return 1 if twins else 0


def _find(source: str) -> tuple[str, list[str]]:
    if is_url(source) or os.path.isdir(source):
        root = source.rstrip("/") if is_url(source) else str(Path(source).resolve())
        names = list_videos(root)
    else:
        root = str(Path(source).resolve().parent)
        lines = Path(source).read_text(encoding="utf-8-sig").split("\n")
        names = list(dict.fromkeys(line.rstrip("\r") for line in lines if line.strip()))
    if not names:
        raise ValueError(f"there are no videos in {source}; give a folder of videos, or a list of paths.")
    return root, names


def _journal(passport: Path) -> Path:
    """Return the file of a scan that is under way."""
    return passport.with_name(f".{passport.name}.vidgn-scan")


def _check_outputs(passport: Path, source: str, root: str, names: list[str], *, overwrite: bool) -> None:
    inputs = [source] if is_url(root) else [source, *(path_of(root, name) for name in names)]
    picture = passport.with_suffix(".png")
    has_passport = passport.is_file()  # then the scan that wrote it drew the picture; `_known` checks what it is
    check_outputs(
        [passport, picture], option=f"passport {passport}", inputs=inputs, overwrite=overwrite,
        is_own=lambda file: has_passport,
    )  # fmt: skip


def _known(file: Path, *, overwrite: bool) -> list[VideoFacts]:
    if not file.exists():
        return []
    if file.suffix != ".vidgn-scan":
        try:
            return read_passport(file)
        except ValueError as err:
            if overwrite:
                return []
            raise FileExistsError(f"{err}, give another name, or replace the file with --overwrite") from err
    rows = []
    for line in file.read_text().splitlines():
        try:
            rows.append(VideoFacts(**json.loads(line)))
        except json.JSONDecodeError:
            continue  # the last line of a scan that was killed
    return rows


def _is_same(path: str, row: VideoFacts) -> bool:
    try:
        state = state_of(path)
    except OSError:
        return False
    return state == (row.bytes, row.mtime) and not row.status.startswith(NOT_READ)


def _check_paths(rows: Sequence[VideoFacts], root: str | None, passport: str | Path) -> None:
    """Require videos below one folder, before the first file is opened."""
    roots = {_root_of(row) for row in rows}
    for row in rows:
        parts = row.id.split("/")
        is_below = root is None or is_url(row.path) or Path(row.path).resolve().is_relative_to(Path(root).resolve())
        is_plain = row.path.endswith(row.id) and ".." not in parts and len(roots) == 1
        if not (row.path.lower().endswith(VIDEO_SUFFIXES) and is_plain and is_below):
            raise ValueError(
                f"{passport} names {row.path}, which is not a video below {root or min(roots)}; nothing was opened. "
                "Verify passports of one folder, and give it as --root DIR."
            )


def _root_of(row: VideoFacts) -> str:
    return row.path[: -len(row.id)].rstrip("/") or os.sep


def _compare(seconds: float, row: VideoFacts) -> VideoFacts:
    """Look at a file again: its checksum and every frame."""
    now = inspect(_root_of(row), row.id, seconds=seconds)
    if now.status == "ok" and now.sha256 != row.sha256:
        return now._replace(status=CHANGED)
    return now
