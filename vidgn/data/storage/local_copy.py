"""Whole files from an address: what is read in full anyway comes once, and is read here.

with local_copy(path_of("s3://bucket/k", "run/a.mp4")) as path:
    ...                                               # a file of this machine; gone afterwards
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from vidgn.data.storage.remote import RemoteFile, Url, about, is_url, list_url, url_of

_AT_ONCE = 1 << 23  # bytes


def path_of(root: str, name: str) -> str:
    """Return the path or `Url` of a file below a root of either kind."""
    return url_of(root, name) if is_url(root) else os.path.join(root, name)


def find_below(root: str, suffixes: tuple[str, ...]) -> list[str]:
    """Return the names of all files below an address that end in one of these (lower case), relative to it, sorted.

    Raises:
        RemoteError: A folder cannot be listed.
    """
    found: list[str] = []
    todo = [""]
    while todo:
        folder = todo.pop()
        listing = list_url(url_of(root, folder) if folder else root)
        found += [f"{folder}{name}" for name in listing.files if name.lower().endswith(suffixes)]
        todo += [f"{folder}{name}/" for name in listing.folders]
    return sorted(found)


def state_of(path: str) -> tuple[int, int]:
    """Return size (bytes) and time of the last change (ns) of a file of either kind; 0 where a store tells no time.

    Raises:
        OSError: There is no such file, or it cannot be reached.
    """
    if not isinstance(path, Url):
        state = os.stat(path)
        return state.st_size, state.st_mtime_ns
    facts = about(path)
    time = next((facts[key] for key in ("mtime", "LastModified", "updated", "created") if facts.get(key)), 0)
    return int(facts["size"] or 0), _nanoseconds(time)


@contextmanager
def local_copy(path: str) -> Iterator[str]:
    """Give the path of a file here that holds the same: of itself, or of a copy while the context lasts.

    Raises:
        OSError: It cannot be read, or there is no room.
    """
    if not isinstance(path, Url):
        yield path
        return
    with tempfile.NamedTemporaryFile(suffix=os.path.splitext(path)[1]) as copy:
        with RemoteFile(path) as file:
            for start in range(0, file.size, _AT_ONCE):
                copy.write(file.read_at(start, min(file.size, start + _AT_ONCE)))
                file.forget()
        copy.flush()
        yield copy.name


def _nanoseconds(time: Any) -> int:
    if isinstance(time, str):
        time = datetime.fromisoformat(time.replace("Z", "+00:00"))
    return int((time.timestamp() if isinstance(time, datetime) else time) * 1e9)
