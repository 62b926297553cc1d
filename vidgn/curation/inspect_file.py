"""One row of a passport: read a file whole, in a process that can be killed."""

import math
import os
import signal
from hashlib import sha256
from pathlib import Path
from typing import IO

from vidgn.data.faults.child_process import Helper, HelperDied, HelperTimeout
from vidgn.data.passports.passport import VideoFacts
from vidgn.data.readers.plain_decode import check_order
from vidgn.data.readers.pyav.reader import PyavReader
from vidgn.data.readers.types import Reader, VideoDecodeError
from vidgn.data.storage.local_copy import local_copy, path_of, state_of
from vidgn.data.storage.remote import RemoteError, Url
from vidgn.data.storage.retry import retried
from vidgn.data.video import open_video

NOT_READ = "not read: "  # begins a status that says nothing of the file; the next scan tries again


def inspect(root: str, name: str, *, seconds: float) -> VideoFacts:
    """Return the facts of one file: checksum, and every frame by a strict decode.

    A file elsewhere is copied here first, once.

    What hangs or crashes the decoder is a status like any other: it happens in a helper process.

    Args:
        root: folder or address.
        name: of the file, relative to it.
        seconds: after them the decoder is killed.
    """
    path = path_of(root, name)
    try:
        with local_copy(path) as copy:
            row = _inspect(root, name, copy, seconds=seconds)
        if row.sha256 and isinstance(path, Url):
            row = row._replace(mtime=state_of(path)[1])
    except (RemoteError, FileNotFoundError, PermissionError) as err:
        return failed(root, name, f"{NOT_READ}{type(err).__name__}: {err}")
    return row


def _inspect(root: str, name: str, path: str, *, seconds: float) -> VideoFacts:
    try:
        _, row = _helper.call(root, name, path, seconds=seconds)
    except HelperTimeout as err:
        what = f"{NOT_READ}the disk does not answer" if err.waits_for_disk else "decoding takes longer"
        return failed(root, name, f"{what} (deadline {seconds:g} s)")
    except HelperDied as err:
        how = "it ended" if err.signal is None else signal.Signals(err.signal).name
        is_crash = err.signal in (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
        return failed(root, name, f"it crashes the decoder ({how})" if is_crash else f"{NOT_READ}killed ({how})")
    assert isinstance(row, VideoFacts)
    return row


def look(root: str, name: str, path: str) -> VideoFacts:
    """Read one file in this process; see `inspect`."""
    try:
        return retried(lambda: _look(root, name, Path(path)))
    except OSError as err:
        return failed(root, name, f"{type(err).__name__}: {err.strerror}")


def failed(root: str, name: str, status: str) -> VideoFacts:
    """Return the row of a file of which nothing is known but what is wrong."""
    path = os.path.join(root, name)
    return VideoFacts(
        id=name, path=path, label=os.path.basename(os.path.dirname(path)), bytes=0, mtime=0, sha256="", codec="",
        width=0, height=0, rotation=0, fps=0.0, frames_promised=0, frames=0, duration=0.0, status=status,
    )  # fmt: skip


def _look(root: str, name: str, path: Path) -> VideoFacts:
    row = failed(root, name, "")
    try:
        with open_video(path) as video:  # refuses pipes and devices before anything is read
            assert isinstance(video, PyavReader)
            facts = video.source.facts
            row = row._replace(
                codec=facts.codec, fps=round(video.fps, 3), frames_promised=int(video.source.stream.frames),
                width=facts.width, height=facts.height,
            )  # fmt: skip
            count, rotation = check_order(video)
            row = row._replace(
                width=video.width, height=video.height, rotation=rotation, frames=count,
                duration=known_length(video), status="ok",
            )  # fmt: skip
    except VideoDecodeError as err:
        row = row._replace(status=err.reason or "damaged")
    if not path.is_file():
        return row
    state = path.stat()
    with path.open("rb") as file:
        return row._replace(bytes=state.st_size, mtime=state.st_mtime_ns, sha256=checksum(file))


def known_length(video: Reader) -> float:
    """Return how long a video lasts (s); 0.0 where its file states no times."""
    length = float(video.seconds()[-1])
    return round(length, 3) if math.isfinite(length) else 0.0


def checksum(file: IO[bytes]) -> str:
    """Return the SHA-256 of an open file."""
    state = sha256()
    while block := file.read(1 << 20):
        state.update(block)
    return state.hexdigest()


_helper = Helper(lambda root, name, path: ((), look(root, name, path)))  # one in each process, forked on first use
