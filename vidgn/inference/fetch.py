"""Videos at http(s) addresses, on this machine for as long as a command needs them."""

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, NamedTuple
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from vidgn.inference.model import find_videos_of

MAX_BYTES = 4_000_000_000
_SECONDS = 30  # without a byte
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
    with tempfile.TemporaryDirectory(prefix="vidgn-") as folder:
        names, addresses = [], {}
        for number, name in enumerate(given):
            if name.lower().startswith(_SCHEMES):
                path = str(fetch(name, Path(folder).resolve() / str(number)))
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
    try:
        with _opener().open(request.Request(address, headers={"User-Agent": "vidgn"}), timeout=_SECONDS) as reply:
            length = _check(address, reply.headers, folder, limit)
            path = folder / _file_name(reply.geturl())
            with path.open("wb") as file:
                _copy(address, reply, file, length, limit)
    except HTTPError as err:
        err.close()
        why = f"the server answers {err.code} ({err.reason})"
        raise OSError(f"{address} could not be fetched: {why}; open the address in a browser to check it.") from err
    except (URLError, HTTPException, TimeoutError, ConnectionError) as err:
        why = str(getattr(err, "reason", "") or err or type(err).__name__)
        raise OSError(f"{address} could not be fetched: {why}; check the address and the network.") from err
    return path


def _opener() -> request.OpenerDirector:
    """Return what follows http and https, through the proxy of the environment, and nothing else."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(), request.HTTPHandler(), request.HTTPSHandler(), request.HTTPDefaultErrorHandler(),
        request.HTTPRedirectHandler(), request.HTTPErrorProcessor(), request.UnknownHandler(),
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener


def _check(address: str, headers: HTTPMessage, folder: Path, limit: int) -> int | None:
    """Return the length that the server tells, if any."""
    kind = headers.get_content_type()
    if kind.startswith("text/") and headers.get("Content-Type"):
        raise ValueError(
            f"{address} is {kind}, not a video; give the address of the file itself, which ends in .mp4 or the like."
        )
    told = headers.get("Content-Length", "")
    if not told.isdecimal():
        return None
    length = int(told)
    if length > limit:
        raise ValueError(_too_large(address, length, limit))
    free = shutil.disk_usage(folder).free
    if length > free:
        raise OSError(
            f"{address} has {length / 1e6:,.0f} MB and {folder.parent} has {free / 1e6:,.0f} MB free; set TMPDIR to a "
            "larger folder."
        )
    return length


def _copy(address: str, reply: IO[bytes], file: IO[bytes], length: int | None, limit: int) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("fetching", total=length)
        done = 0
        while chunk := reply.read(_CHUNK):
            done += len(chunk)
            if done > limit:
                raise ValueError(_too_large(address, done, limit))
            file.write(chunk)
            bar.update(task, completed=done)
    if length is not None and done != length:
        raise OSError(f"{address} ended after {done} of {length} bytes; try again.")


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
