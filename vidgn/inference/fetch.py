"""Videos at http(s) addresses, on this machine for as long as a command needs them."""

import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, NamedTuple
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from vidgn.files.temporary import temporary_folder
from vidgn.inference.model import find_videos_of
from vidgn.inference.network.client import Watch
from vidgn.terminal.escape import printable

MAX_BYTES = 4_000_000_000
_SECONDS = 30  # without a byte
_DEADLINE = 3600.0  # seconds for a download as a whole
_SLOW = (60.0, 10_000)  # seconds after which, and bytes per second below which, it is given up
_CHUNK = 1 << 20
_SCHEMES = ("http://", "https://")


class Given(NamedTuple):
    """What a person named: absolute paths, and what to call those that came from an address."""

    paths: list[str]
    addresses: dict[str, str]

    def name(self, path: str) -> str:
        """Return the address that a file came from, or its path."""
        return self.addresses.get(path, path)


@contextmanager
def local_videos(given: Sequence[str]) -> Iterator[Given]:
    """Find files and folders, fetch addresses into a folder that is removed at the end.

    Raises:
        FileNotFoundError: a name that does not exist, or a folder without videos.
        ValueError: nothing was given, a picture or a checkpoint, or an address of something else than a video.
        OSError: an address that cannot be fetched.
    """
    if not any(name.lower().startswith(_SCHEMES) for name in given):
        yield Given(find_videos_of(given), {})
        return
    with temporary_folder() as folder:
        names, addresses = [], {}
        for number, name in enumerate(given):
            if name.lower().startswith(_SCHEMES):
                path = str(fetch(name, folder / str(number)))
                addresses[path] = name
                names.append(path)
            else:
                names.append(name)
        yield Given(find_videos_of(names), addresses)


def fetch(address: str, folder: Path, *, limit: int = MAX_BYTES) -> Path:
    """Fetch one file into a folder, under the name at the end of the address.

    Raises:
        ValueError: a web page, or more than `limit` bytes.
        OSError: no answer, an answer that is an error, a file that ends early, or a full disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    watch = Watch(address, seconds=_DEADLINE, allow=lambda host: _ask(address, host))
    wanted = request.Request(address, headers={"User-Agent": "vidgn"})
    try:
        with watch.running(), watch.opener().open(wanted, timeout=_SECONDS) as reply:
            length = _check(address, reply.headers, folder, limit)
            path = folder / _file_name(reply.geturl())
            with path.open("wb") as file:
                _copy(address, reply, file, length, limit)
            if watch.expired:  # a connection that was closed looks like the end of the file
                raise TimeoutError
    except HTTPError as err:
        err.close()
        why = f"the server answers {err.code} ({err.reason})"
        raise OSError(f"{address} could not be fetched: {why}; open the address in a browser to check it.") from err
    except (URLError, HTTPException, TimeoutError, ConnectionError, _EndsEarly) as err:
        if watch.expired:
            raise OSError(
                f"{address} could not be fetched: it took longer than {_DEADLINE:,.0f} s as a whole; download it "
                "yourself (curl -O) and give the file."
            ) from err
        if isinstance(err, _EndsEarly):
            raise
        why = str(getattr(err, "reason", "") or err or type(err).__name__)
        raise OSError(f"{address} could not be fetched: {why}; check the address and the network.") from err
    return path


def _ask(address: str, host: str) -> bool:
    """Ask whether a redirect into the local network is meant; without a terminal nobody can say so."""
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    question = f"{address} is redirected to {host}, inside the local network; follow it? [y/N] "
    print(printable(question), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _check(address: str, headers: HTTPMessage, folder: Path, limit: int) -> int | None:
    """Return the length that the server tells, if any."""
    kind = headers.get_content_type()
    if kind.startswith("text/") and headers.get("Content-Type"):
        raise ValueError(
            f"{address} is {kind}, not a video; give the address of the file itself, which ends in .mp4 or the like."
        )
    declared = headers.get("Content-Length", "")
    if not declared.isdecimal():
        return None
    length = int(declared)
    if length > limit:
        raise ValueError(_too_large(address, length, limit))
    free = shutil.disk_usage(folder).free
    if length > free:
        raise OSError(
            f"{address} has {length / 1e6:,.0f} MB and {folder.parent} has {free / 1e6:,.0f} MB free; set TMPDIR to a "
            "larger folder."
        )
    return length


class _EndsEarly(OSError):
    """Fewer bytes came than were told."""


def _copy(address: str, reply: HTTPResponse, file: IO[bytes], length: int | None, limit: int) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("fetching", total=length)
        done, began = 0, time.monotonic()
        while chunk := reply.read1(_CHUNK):  # what is there, not a whole chunk: a slow server is seen to be slow
            done += len(chunk)
            took = time.monotonic() - began
            if took > _SLOW[0] and done < took * _SLOW[1]:
                raise OSError(
                    f"{address} sends {done / took:,.0f} bytes per second; download it yourself (curl -O) and give the "
                    "file."
                )
            if done > limit:
                raise ValueError(_too_large(address, done, limit))
            file.write(chunk)
            bar.update(task, completed=done)
    if length is not None and done != length:
        raise _EndsEarly(f"{address} ended after {done} of {length} bytes; try again.")


def _too_large(address: str, length: int, limit: int) -> str:
    return (
        f"{address} has {length / 1e6:,.0f} MB or more and the limit is {limit / 1e6:,.0f} MB; download it yourself "
        "(curl -O) and give the file."
    )


def _file_name(address: str) -> str:
    """Return the last part of an address as a harmless file name.

    >>> _file_name("https://x.org/a/clip%20one.mp4?key=1"), _file_name("https://x.org/..")
    ('clip_one.mp4', 'video')
    """
    name = re.sub(r"[^\w.-]", "_", unquote(urlsplit(address).path).rpartition("/")[2])[-100:].lstrip(".")
    return name or "video"
