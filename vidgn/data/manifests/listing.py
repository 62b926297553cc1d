"""List folders, each one once: a quarter of a million files are found without a question per file."""

import errno
import os
import sys
from typing import NamedTuple

from vidgn.data.manifests.rows import VIDEO_SUFFIXES, is_video_name, is_visible
from vidgn.data.storage.local_copy import find_below
from vidgn.data.storage.remote import is_url, list_url


class Listing(NamedTuple):
    """What a folder holds: regular files, folders (links are followed), and others (broken links, pipes)."""

    files: frozenset[str]
    folders: frozenset[str]
    others: frozenset[str]


_EMPTY = Listing(frozenset(), frozenset(), frozenset())


def list_folder(path: str) -> Listing:
    """Return what the folder holds, hidden names included; nothing where there is no such folder.

    Raises:
        PermissionError: The folder cannot be read.
    """
    by_kind: tuple[list[str], list[str], list[str]] = ([], [], [])
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                by_kind[_kind(entry)].append(entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return _EMPTY
    return Listing(*map(frozenset, by_kind))


def _kind(entry: "os.DirEntry[str]") -> int:
    """Return 0 for a regular file, 1 for a folder, 2 for anything else."""
    try:
        return 0 if entry.is_file() else 1 if entry.is_dir() else 2
    except OSError as err:
        if err.errno == errno.ELOOP:  # a link that leads to itself
            return 2
        raise


class Folders:
    """The folders below a root, listed when they are first asked for."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._known: dict[str, Listing] = {}

    def __getitem__(self, folder: str) -> Listing:
        """Return the listing of a folder given relative to the root ("" is the root itself)."""
        if folder not in self._known:
            path = os.path.join(self.root, folder)
            self._known[folder] = Listing(*list_url(path), frozenset()) if is_url(self.root) else list_folder(path)
        return self._known[folder]


def list_videos(root: str) -> list[str]:
    """Return the names of all videos below a folder or address, relative to it and sorted; links are followed.

    Hidden names and what operating systems leave everywhere are passed over; see `is_visible`.
    A link back to a folder that leads to itself is not followed for ever: each folder is listed once.

    Raises:
        ValueError: A name is not UTF-8.
        PermissionError: A folder cannot be read.
    """
    if is_url(root):
        return [name for name in find_below(root, VIDEO_SUFFIXES) if all(map(is_visible, name.split("/")))]
    videos: list[str] = []
    seen: set[str] = set()
    todo = [""]
    while todo:
        folder = todo.pop()
        where = os.path.realpath(os.path.join(root, folder))
        if where in seen:
            continue
        seen.add(where)
        listing = list_folder(where)
        names = listing.files | listing.others
        videos += [os.path.join(folder, name) for name in names if is_video_name(name)]
        todo += sorted((os.path.join(folder, name) for name in listing.folders if is_visible(name)), reverse=True)
    wrong = [name for name in videos if not name.isascii() and "\\ud" in ascii(name)]
    if wrong:
        shown = ", ".join(map(ascii, wrong[:10]))
        encoding = sys.getfilesystemencoding()
        why = "not UTF-8" if encoding == "utf-8" else f"not readable in this locale ({encoding})"
        way = "rename them" if encoding == "utf-8" else "set PYTHONUTF8=1, or a locale such as LC_ALL=C.UTF-8"
        raise ValueError(f"{root}: {len(wrong)} file names are {why}: {shown}; {way}")
    return sorted(videos)
