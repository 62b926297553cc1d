"""The passport of a data set: what every file is, and whether each of its frames can be decoded.

scan("kinetics/train", "train.parquet")        python -m vidgn.tools.scan DIR train.parquet
verify("train.parquet")                        python -m vidgn.tools.scan --verify train.parquet
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from vidgn.data.manifest_rows import VIDEO_SUFFIXES
from vidgn.data.readers.pyav import PyavReader
from vidgn.data.video import VideoDecodeError, open_video
from vidgn.tools.passport import VideoFacts, check_target, read_passport, summary, write_passport

CHANGED = "changed since the scan"


def scan(
    source: str | Path,
    target: str | Path,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[VideoFacts]:
    """Decode every video strictly and write the passport.

    Rows of an earlier or interrupted scan are kept where size and time of the file are the same.

    Args:
        source: a folder, read recursively, or a text file with one path a line (relative to its folder).
        target: the passport, NAME.parquet or NAME.jsonl.
        workers: processes.
        progress: called with (videos done, videos in all).

    Raises:
        ValueError: there are no videos, or the name of the passport ends otherwise.
        ImportError: pyarrow is missing, for Parquet.
    """
    out = check_target(target)
    root, names = _find(Path(source))
    journal = out.with_name(out.name + ".part")  # lines of a scan that is under way
    known = {row.id: row for file in (out, journal) for row in _known(file)}
    done = {name: known[name] for name in names if name in known and _is_same(root / name, known[name])}
    todo = [name for name in names if name not in done]
    with journal.open("a") as file:
        for row in _run(partial(inspect, root), todo, workers=workers):
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
    passport: str | Path, *, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> list[VideoFacts]:
    """Return the rows whose file is broken, missing or not what was scanned, with a new status.

    A changed checksum finds every kind of damage, also that which decodes without an error.
    """
    rows = read_passport(passport)
    found = []
    for count, row in enumerate(_run(_compare, rows, workers=workers), 1):
        if row.status != "ok":
            found.append(row)
        if progress is not None:
            progress(count, len(rows))
    return sorted(found)


def inspect(root: Path, name: str) -> VideoFacts:
    """Read one file whole: checksum, facts, and every frame by a strict decode."""
    path = root / name
    try:
        state = path.stat()
        with path.open("rb") as file:
            checksum = _checksum(file)
    except OSError as err:
        return _failed(root, name, f"{type(err).__name__}: {err.strerror}")
    row = _failed(root, name, "")._replace(bytes=state.st_size, mtime=state.st_mtime_ns, sha256=checksum)
    promised = 0
    try:
        with open_video(path) as video:
            assert isinstance(video, PyavReader)
            facts = video.source.facts
            promised = int(video.source.stream.frames)
            row = row._replace(codec=facts.codec, fps=round(video.fps, 3), frames_promised=promised)
            row = row._replace(width=facts.width, height=facts.height)
            count, rotation = _count(video)
            upright = (video.width, video.height)
            duration = round(count / video.fps, 3) if video.fps else 0.0
    except VideoDecodeError as err:
        return row._replace(status=err.reason or "damaged")
    return row._replace(
        width=upright[0], height=upright[1], rotation=rotation, frames=count, duration=duration, status="ok"
    )


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 1 where a video is not ok."""
    parser = argparse.ArgumentParser(prog="vidgn scan", description="Write or check the passport of a data set.")
    parser.add_argument("source", metavar="DIR|LIST", help="with --verify: a passport")
    parser.add_argument("target", metavar="PASSPORT", nargs="?", default="passport.parquet")
    parser.add_argument("--verify", action="store_true", help="compare the files with a passport")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    given = parser.parse_args(words)
    if given.verify:
        wrong = verify(given.source, workers=given.workers, progress=_say_progress)
        print("\n".join(f"{row.id}: {row.status}" for row in wrong) or "every file is what it was, and whole")
        return int(bool(wrong))
    rows = scan(given.source, given.target, workers=given.workers, progress=_say_progress)
    print(summary(rows))
    return int(any(row.status != "ok" for row in rows))


def _find(source: Path) -> tuple[Path, list[str]]:
    if source.is_dir():
        root = source.resolve()
        found = (p for p in root.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and not p.is_dir())
        names = sorted(str(path.relative_to(root)) for path in found)
    else:
        root = source.resolve().parent
        lines = source.read_text(encoding="utf-8-sig").split("\n")
        names = list(dict.fromkeys(line.rstrip("\r") for line in lines if line.strip()))
    if not names:
        raise ValueError(f"there are no videos in {source}; give a folder of videos, or a list of paths.")
    return root, names


def _known(file: Path) -> list[VideoFacts]:
    if not file.exists():
        return []
    if file.suffix != ".part":
        return read_passport(file)
    rows = []
    for line in file.read_text().splitlines():
        try:
            rows.append(VideoFacts(**json.loads(line)))
        except json.JSONDecodeError:
            continue  # the last line of a scan that was killed
    return rows


def _is_same(path: Path, row: VideoFacts) -> bool:
    try:
        state = path.stat()
    except OSError:
        return False
    return (state.st_size, state.st_mtime_ns) == (row.bytes, row.mtime)


def _compare(row: VideoFacts) -> VideoFacts:
    """Look at a file again: its checksum, and where that differs every frame."""
    suffix = Path(row.id)
    root = Path(row.path[: -len(str(suffix))] or "/")
    now = inspect(root, row.id)
    if now.status == "ok" and now.sha256 != row.sha256:
        return now._replace(status=CHANGED)
    return now


def _run(job: Callable[[Any], VideoFacts], items: Sequence[Any], *, workers: int) -> Iterator[VideoFacts]:
    if workers <= 1 or len(items) <= 1:
        yield from map(job, items)
        return
    with ProcessPoolExecutor(min(workers, len(items)), mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(job, item) for item in items]):
            yield done.result()


def _failed(root: Path, name: str, status: str) -> VideoFacts:
    path = root / name
    return VideoFacts(
        id=name, path=str(path), label=path.parent.name, bytes=0, mtime=0, sha256="", codec="", width=0, height=0,
        rotation=0, fps=0.0, frames_promised=0, frames=0, duration=0.0, status=status,
    )  # fmt: skip


def _checksum(file: Any) -> str:
    state = sha256()
    while block := file.read(1 << 20):
        state.update(block)
    return state.hexdigest()


def _count(video: PyavReader) -> tuple[int, int]:
    """Decode every frame without converting it; return their number and the rotation of the first (degrees)."""
    count = rotation = 0
    for run in video.index.runs(range(len(video))):
        for _, picture in video.decode_run(run):
            rotation = picture.rotation if not count else rotation
            count += 1
    return count, rotation


def _say_progress(done: int, total: int) -> None:
    print(f"\r{done:,} of {total:,} videos", end="" if done < total else "\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
