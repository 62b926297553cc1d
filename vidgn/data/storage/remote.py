"""Files elsewhere: a data root may be an address (s3, gs, http, memory, whatever fsspec knows).

A path alone is never taken for an address: only a `Url` is, and only a manifest whose root is one makes them.

    RemoteFile("https://host/a.mp4")      blocks of 64 KiB, fetched when they are first read
        moov                              read
        mdat  X...XXXXXXX........         after `leave_media()` only what `fetch()` asked for; the rest reads as zeros
"""

import importlib
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast
from urllib.parse import quote, unquote

from vidgn.data.storage.byte_ranges import FileRange, PieceFile, RangeFile
from vidgn.data.storage.retry import RETRIES, retried

T = TypeVar("T")

BLOCK = 1 << 16  # bytes
_URL = re.compile(r"(s3|gs|gcs|https?|memory|abfs|az|webdav|hdfs|hf)://.+", re.DOTALL)
# A file of these boxes alone (ISO/IEC 14496-12, 4.3 and 8) keeps its pictures in mdat; the second line is of fragments.
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"udta", b"uuid",
          b"styp", b"sidx", b"ssix", b"moof", b"mfra", b"prft", b"emsg")  # fmt: skip
_NEVER = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)  # fail again alike


class Url(str):
    """The address of a file."""

    __slots__ = ()


class RemoteError(OSError):
    """An address could not be read, after several tries; the video itself may be fine."""

    def __str__(self) -> str:
        return str(self.args[0])  # OSError's own text forgets it where a caller adds the file's name


class Names(NamedTuple):
    """What a folder elsewhere holds."""

    files: frozenset[str]
    folders: frozenset[str]


def is_url(text: str) -> bool:
    """Whether a data root is an address.

    >>> is_url("s3://bucket/kinetics"), is_url("/data/kinetics"), is_url("c:/data"), is_url("file:///data")
    (True, False, False, False)
    """
    return _URL.fullmatch(text) is not None


def list_url(url: str) -> Names:
    """List a folder; a store without folders has those that its names spell.

    Raises:
        RemoteError: It cannot be listed.
    """
    system, path = _system(url)

    def look() -> list[dict[str, Any]]:
        try:
            return list(system.ls(path, detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return []

    found = _patiently(look, f"{url}: listing it")
    base = path.rstrip("/")
    plain = unquote if url.startswith("http") else str
    names = {
        plain(entry["name"].rstrip("/").rpartition("/")[2]): entry["type"]
        for entry in found
        if entry["name"].rstrip("/") != base
    }
    kinds = {kind: frozenset(name for name, its in names.items() if its == kind) for kind in ("file", "directory")}
    return Names(kinds["file"], kinds["directory"])


def url_of(root: str, name: str) -> Url:
    """Return the address of a file below a root; in http the name's own `?`, `#`, `%` and spaces are escaped.

    >>> url_of("https://host/k", "train/a b#1.mp4"), url_of("s3://bucket/k", "a b#1.mp4")
    ('https://host/k/train/a%20b%231.mp4', 's3://bucket/k/a b#1.mp4')
    """
    return Url(f"{root.rstrip('/')}/{quote(name) if root.startswith('http') else name}")


def about(url: str) -> dict[str, Any]:
    """Return what the store says of a file: its `size` (bytes), and whatever else.

    Raises:
        FileNotFoundError: There is none.
        RemoteError: The store does not answer.
    """
    system, path = _system(url)
    return dict(_patiently(lambda: system.info(path), f"{url}: asking for its size"))


def open_file(path: str) -> BinaryIO:
    """Open a file or a piece of one for reading, here or, where the path is a `Url`, elsewhere."""
    file: Any
    if isinstance(path, FileRange):
        is_here = not isinstance(path.container, Url)
        file = PieceFile(path) if is_here else RemoteFile(path.container, start=path.start, size=path.size)
    else:
        file = RemoteFile(path) if isinstance(path, Url) else open(path, "rb", buffering=0)  # noqa: SIM115
    return cast("BinaryIO", file)


def is_remote(path: str) -> bool:
    """Whether the bytes of a path come over a network."""
    return isinstance(path.container if isinstance(path, FileRange) else path, Url)


class RemoteFile(RangeFile):
    """A file elsewhere, read in blocks; what was fetched is kept until it is closed.

    Args:
        url: Its address.
        start: With `size`, only this piece of it is the file.
        size: In bytes.

    Raises:
        FileNotFoundError: There is none.
        RemoteError: It does not say how long it is, or cannot be read.

    Attributes:
        fetched: Bytes that came over the network.
        requests: In how many pieces.
    """

    def __init__(self, url: str, *, start: int = 0, size: int | None = None) -> None:
        super().__init__()
        self.url = url
        self.fetched = 0
        self.requests = 0
        self._system, self._path = _system(url)
        self._start = start
        if size is None:
            size = about(url)["size"]
        if not isinstance(size, int):
            raise RemoteError(f"{url}: the server does not say how long it is; it must, and serve ranges of bytes")
        self.size = size
        self._blocks: dict[int, bytes] = {}
        self._media: list[tuple[int, int]] = []  # start and end of regions, ascending

    def read_at(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to `end`; what is left out reads as zeros."""
        if start >= end:
            return b""
        first, last = start // BLOCK, (end - 1) // BLOCK
        self._load([number for number in range(first, last + 1) if not self._left_out(number)])
        blocks = (self._blocks.get(number) or bytes(self._length(number)) for number in range(first, last + 1))
        return b"".join(blocks)[start - first * BLOCK : end - first * BLOCK]

    def fetch(self, start: int, end: int) -> None:
        """Get these bytes, in one request where nothing of them is there."""
        self._load(list(range(start // BLOCK, -(-end // BLOCK))))

    def leave_media(self) -> bool:
        """From now on leave out the pictures of an mp4 file, but for the first block of them.

        Returns:
            False where a file keeps other data among them, and nothing is left out.
        """
        regions = list(_media(self))
        self._media = regions if all(region is not None for region in regions) else []  # type: ignore[assignment]
        if self._media:
            start, end = self._media[0]
            self.fetch(start, min(end, start + BLOCK))
        return bool(self._media)

    def forget(self) -> None:
        """Let go of what was fetched."""
        self._blocks.clear()

    def take_media(self) -> None:
        """From now on leave nothing out."""
        self._media = []

    def _left_out(self, number: int) -> bool:
        start, end = number * BLOCK, number * BLOCK + self._length(number)
        if number in self._blocks:
            return False
        place = bisect_right(self._media, start, key=itemgetter(0)) - 1
        return place >= 0 and end <= self._media[place][1]

    def _length(self, number: int) -> int:
        return min(BLOCK, self.size - number * BLOCK)

    def _load(self, numbers: list[int]) -> None:
        todo = [number for number in numbers if number not in self._blocks]
        while todo:
            count = next((i for i, number in enumerate(todo) if number != todo[0] + i), len(todo))
            self._request(todo[0], todo[0] + count)
            todo = todo[count:]

    def _request(self, first: int, behind: int) -> None:
        start, end = first * BLOCK, min(self.size, behind * BLOCK)
        what = f"{self.url}: bytes {start} to {end}"
        place = {"start": self._start + start, "end": self._start + end}
        data = _patiently(lambda: self._system.cat_file(self._path, **place), what)
        if len(data) != end - start:
            raise RemoteError(
                f"{what}: {len(data)} bytes came; the server must serve ranges, and the file stay as it is"
            )
        self.fetched += len(data)
        self.requests += 1
        for number in range(first, behind):
            self._blocks[number] = data[(number - first) * BLOCK : (number - first + 1) * BLOCK]


def _media(file: RemoteFile) -> Iterator[tuple[int, int] | None]:
    """Yield where an mp4 file's samples lie (ISO/IEC 14496-12, 4.2 and 8.1.1), None where it is no such file."""
    at = 0
    while at + 8 <= file.size:
        head = file.read_at(at, min(at + 16, file.size))
        size, kind, body = int.from_bytes(head[:4], "big"), head[4:8], at + 8
        if size == 1:
            size, body = int.from_bytes(head[8:16], "big"), at + 16
        end = at + size if size else file.size
        if kind not in _BOXES or not body <= end <= file.size:
            yield None
            return
        if kind == b"mdat":
            yield body, end
        at = end


def _patiently(read: Callable[[], T], what: str) -> T:
    """Call `read`, up to three times more where that may help.

    Raises:
        RemoteError: It did not help; without an errno, so that no caller retries all of it.
    """
    transient = _transient()

    def may_pass(error: Exception) -> bool:
        return isinstance(error, transient) and not isinstance(error, _NEVER)

    try:
        return retried(read, is_transient=may_pass)
    except _NEVER:
        raise
    except transient as err:
        raise RemoteError(f"{what} failed, tried {RETRIES + 1} times: {type(err).__name__}: {err}") from err


def _transient() -> tuple[type[Exception], ...]:
    """Return what the network does; each store has its own classes."""
    found: list[type[Exception]] = [OSError, TimeoutError, EOFError]
    for module, name in (
        ("aiohttp", "ClientError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("gcsfs.retry", "HttpError"),
    ):
        try:
            found.append(getattr(importlib.import_module(module), name))
        except ImportError:
            continue  # then it cannot be raised
    return tuple(found)


def _system(url: str) -> tuple[Any, str]:
    """Return the file system of an address and the path in it; one per process, since none survives a fork."""
    try:
        core: Any = importlib.import_module("fsspec.core")
        system, path = core.url_to_fs(url)
    except ImportError as err:
        raise ImportError(
            f"{url} needs fsspec and its package for this store ({err}); pip install 'vidgn[remote]'."
        ) from err
    return system, path
