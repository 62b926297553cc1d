"""Re-encode videos for random access: small, a key frame every dozen frames, verified.

    prepare("kinetics", "kinetics_256", short_side=256, gop=12)

A training clip begins anywhere. With the usual 250 frames between keys, a decoder must begin far before the clip;
with 12 it decodes at most 11 frames too many. `vidgn prepare SRC DST` does the same.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vidgn.curation.encode import PrepareSpec, prepare_file
from vidgn.curation.pool import Engine, spread
from vidgn.data.faults.child_process import Helper, HelperDied, HelperTimeout
from vidgn.data.manifests.listing import list_videos
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.storage.local_copy import local_copy, path_of, state_of
from vidgn.data.storage.remote import RemoteError, is_url
from vidgn.files.outputs import check_outputs, folded

LEDGER = "prepared.jsonl"  # one line per video, in the destination


class Prepared(NamedTuple):
    """What became of one video: sizes in bytes, PSNR in dB of the luma, or the reason why there is no file."""

    name: str
    frames: int
    source_bytes: int
    bytes: int
    psnr: float
    error: str | None
    source_time: int | None = None  # of the source's last change (ns)


_Ledger = Mapping[str, tuple[dict[str, object], Prepared]]  # by name: what it was written with, and the row


def prepare(
    source: str | Path,
    target: str | Path,
    *,
    spec: PrepareSpec | None = None,
    workers: int = 1,
    engine: Engine = "local",
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], object] = lambda text: None,
    overwrite: bool = False,
) -> list[Prepared]:
    """Re-encode every video below a folder into another one, under the same names ending in .mp4.

    A file appears only when it is whole and verified. What the ledger `prepared.jsonl` of the target lists as done
    with the same spec and the same source (size and time) is not done again, so an interrupted run continues where it
    was. Files that the ledger lists and whose source is gone are removed.

    Args:
        source: folder or address, read recursively.
        target: folder of this machine, made if it is missing.
        spec: how to write.
        workers: processes; with Ray, videos at a time (0: one per core of the cluster).
        engine: `ray` spreads the videos over a cluster, all of whose machines see both folders.
        progress: called with (videos done, videos in all).
        note: called with each sentence about files that were replaced or removed.
        overwrite: replace files of the target that no earlier run wrote.

    Returns:
        One row per video, in the order of names.

    Raises:
        FileExistsError: the target holds a file that no earlier run wrote under the name of a new one.
        ValueError: the target is an address, or is or lies in the source, two videos would get one name, or there are
            no videos.
        RemoteError: the source cannot be listed.
    """
    spec = spec or PrepareSpec()
    base, out = _resolve(source, target)
    names = _plan(base, out)
    out.mkdir(parents=True, exist_ok=True)
    listed = _read_ledger(out)
    _drop_removed(out, listed, names, note)
    done = {name: listed[name][1] for name in names if _is_done(base, out, spec, name, listed, note)}
    todo = [name for name in names if name not in done]
    owned = {target_name(name) for name in listed} | {LEDGER}
    check_outputs(
        [out / LEDGER, *(out / target_name(name) for name in todo)], option=f"DST {target}", overwrite=overwrite,
        inputs=() if is_url(base) else (path_of(base, name) for name in names),
        is_own=lambda file: str(file.relative_to(out)) in owned,
    )  # fmt: skip
    # A cluster watches over its workers itself, and their threads forbid a fork.
    job = partial(prepare_one if engine == "ray" else _guarded, base, out, spec)
    for row in _recorded(spread(job, todo, workers=workers, engine=engine), out / LEDGER, spec):
        done[row.name] = row
        if progress is not None:
            progress(len(done), len(names))
    return [done[name] for name in names]


def prepare_one(base: str, out: Path, spec: PrepareSpec, name: str) -> Prepared:
    """Prepare one video of a folder or address; what is wrong with it is in the row."""
    source, target = path_of(base, name), out / target_name(name)
    size, time, copy = 0, 0, source
    try:
        size, time = state_of(source)  # before it is read: a source that changes meanwhile is done again
        with local_copy(source) as copy:
            frames, psnr = prepare_file(copy, target, spec=spec)
    except (VideoDecodeError, ValueError, FileNotFoundError, RemoteError) as err:
        return Prepared(name, 0, size, 0, 0.0, str(err).replace(copy, source), time)
    return Prepared(name, frames, size, target.stat().st_size, round(psnr, 2), None, time)


def _resolve(source: str | Path, target: str | Path) -> tuple[str, Path]:
    """Return the source, an address or an absolute path, and the folder to write to."""
    if is_url(str(target)):
        raise ValueError(f"{target} is an address; prepare writes to a folder of this machine: copy it from there")
    base = str(source).rstrip("/") if is_url(str(source)) else str(Path(source).resolve())
    return base, Path(target).resolve()


def _recorded(rows: Iterable[Prepared], ledger: Path, spec: PrepareSpec) -> Iterator[Prepared]:
    """Give each row once its line of the ledger is written."""
    with ledger.open("a") as file:
        for row in rows:
            file.write(json.dumps({"spec": asdict(spec), **row._asdict()}) + "\n")
            file.flush()
            yield row


def target_name(name: str) -> str:
    """Return the name of a prepared video; the suffix says what it is."""
    return str(Path(name).with_suffix(".mp4"))


def _plan(base: str, out: Path) -> list[str]:
    if not is_url(base) and Path(base) in (out, *out.parents):
        raise ValueError(f"the target {out} lies in the source {base}; give a folder beside it")
    names = list_videos(base)
    if not names:
        raise ValueError(f"there are no videos in {base}; give a folder of video files")
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(folded(target_name(name)), name)
        if first != name:
            raise ValueError(f"{first} and {name} would both become {target_name(name)}; rename one of them")
    return names


def _read_ledger(out: Path) -> dict[str, tuple[dict[str, object], Prepared]]:
    """Return the spec and the row of every video that the ledger lists as written, the last one of each name.

    Raises:
        ValueError: the ledger is another program's.
    """
    listed: dict[str, tuple[dict[str, object], Prepared]] = {}
    if not (out / LEDGER).exists():
        return listed
    lines = (out / LEDGER).read_text("utf-8", "replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line)
            spec, row = fields.pop("spec"), Prepared(**fields)
        except (ValueError, TypeError, KeyError, AttributeError) as err:
            if line.startswith('{"spec"') and number == len(lines):
                continue  # the last line of a run that was killed
            raise ValueError(f"{out / LEDGER}: line {number} was not written by vidgn prepare; move the file") from err
        if row.error is None:
            listed[row.name] = spec, row
    return listed


def _is_done(
    base: str, out: Path, spec: PrepareSpec, name: str, listed: _Ledger, note: Callable[[str], object]
) -> bool:
    """Tell whether a file is there as listed, written with this spec from this source."""
    if name not in listed:
        return False
    written_with, row = listed[name]
    file = out / target_name(name)
    if written_with != asdict(spec) or not file.is_file() or file.stat().st_size != row.bytes:
        return False
    same = state_of(path_of(base, name)) == (row.source_bytes, row.source_time)
    if not same:
        note(f"{name}: the source has changed since it was prepared; it is prepared again")
    return same


def _drop_removed(out: Path, listed: _Ledger, names: Sequence[str], note: Callable[[str], object]) -> None:
    """Remove the files that an earlier run wrote and whose source is gone."""
    kept = {target_name(name) for name in names}
    for name, (_, row) in listed.items():
        file = out / target_name(name)
        if target_name(name) not in kept and file.is_file() and file.stat().st_size == row.bytes:
            file.unlink()
            note(f"{name}: the source is gone; its prepared file is removed")


def _guarded(base: str, out: Path, spec: PrepareSpec, name: str) -> Prepared:
    """Prepare one video in a process that can be killed: what crashes the decoder costs one video."""
    try:
        _, row = _helper.call(base, out, spec, name, seconds=_DEADLINE_SECONDS)
    except (HelperTimeout, HelperDied) as err:
        what = "it takes too long" if isinstance(err, HelperTimeout) else f"its process died (signal {err.signal})"
        return Prepared(name, 0, 0, 0, 0.0, f"{path_of(base, name)}: {what}")
    assert isinstance(row, Prepared)
    return row


_DEADLINE_SECONDS = 3600.0
_helper = Helper(lambda *arguments: ((), prepare_one(*arguments)))  # one in each process, forked on first use
