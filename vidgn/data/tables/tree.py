"""A folder per class, all splits at once: `[SPLIT/]CLASS/VIDEO`, where a video is a file or a folder of images."""

import os
from pathlib import Path

import numpy as np

from vidgn.data.manifests.excerpts import ExcerptManifest
from vidgn.data.manifests.listing import Folders
from vidgn.data.manifests.manifest import Split
from vidgn.data.manifests.rows import VIDEO_SUFFIXES, RowsBuilder, check_root
from vidgn.data.storage.excerpt import ImageFolder
from vidgn.data.tables.videos import Listed

_SPLITS: tuple[Split, ...] = ("train", "val", "test")


def read_tree(root: str | Path, *, images: ImageFolder | None) -> Listed:
    """List the videos of every class; no video is opened.

    Args:
        root: The folder, or an address.
        images: How folders of images are read, where those are the videos; None: the videos are files.

    Raises:
        FileNotFoundError, NotADirectoryError: There is no such folder.
        ValueError: There is no class, one holds no video, or there are fewer than two.
    """
    base = check_root(root)
    folders = Folders(base)
    present = [split for split in _SPLITS if split in folders[""].folders]
    videos: list[tuple[Split, str, str]] = []
    for split in present or _SPLITS[:1]:
        top = split if present else ""
        classes = _visible(folders[top].folders)
        if not classes:
            raise ValueError(f"{os.path.join(base, top)} has no class folders; it must hold CLASS/{_kind(images)}")
        for label in classes:
            names = _videos(folders, os.path.join(top, label), images)
            videos += [(split, label, name) for name in names]
    classes = sorted({label for _, label, _ in videos})
    if len(classes) < 2:
        raise ValueError(f"{base} holds one class, {classes[0]!r}; a classifier needs at least two class folders")
    index_of = {label: index for index, label in enumerate(classes)}
    builder = RowsBuilder(base)
    builder.extend([name for *_, name in videos], [index_of[label] for _, label, _ in videos], range(len(videos)))
    rows = builder.finish(tuple(classes))
    none = np.full(len(videos), np.nan)
    manifest = ExcerptManifest(
        base, rows.names, rows.offsets, rows.labels, rows.classes, rows.notes, images=images, starts=none, ends=none
    )
    return Listed(manifest, tuple(split for split, *_ in videos) if present else None, None)


def _videos(folders: Folders, folder: str, images: ImageFolder | None) -> list[str]:
    """Return the names of the videos in a class folder, sorted.

    Raises:
        ValueError: There is none.
    """
    listing = folders[folder]
    if images is None:
        names = [name for name in _visible(listing.files) if name.lower().endswith(VIDEO_SUFFIXES)]
    else:
        names = _visible(listing.folders)
    if not names:
        hint = "" if images is None or not listing.files else "; each video must be a folder of its own"
        raise ValueError(f"{os.path.join(folders.root, folder)} holds no {_kind(images)}{hint}")
    return [os.path.join(folder, name) for name in names]


def _kind(images: ImageFolder | None) -> str:
    return "video file" if images is None else "folder of images"


def _visible(names: frozenset[str]) -> list[str]:
    return sorted(name for name in names if not name.startswith("."))
