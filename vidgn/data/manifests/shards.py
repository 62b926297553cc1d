"""WebDataset tars: many videos in few files, any of them read by itself.

    train-000000.tar    000000000.mp4 000000000.cls 000000000.json   000000001.mp4 ...
    train-index.npz     name, label, shard, first byte and size of every video; tars of others are listed instead

A tar is not streamed. Its videos are rows of a manifest like any others, so each comes once per epoch on any number
of ranks and workers, in an order that is a function of (seed, epoch), and a run resumes in the middle of it.
"""

import dataclasses
import fnmatch
import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vidgn.data.manifests.classes import read_classes
from vidgn.data.manifests.manifest import Manifest, Split
from vidgn.data.manifests.shard_index import ShardIndex, index_of
from vidgn.data.storage.byte_ranges import FileRange
from vidgn.data.storage.remote import Url, is_url, list_url

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_WORD = "SPLIT"  # stands for train, val or test in data.shards


@dataclass(frozen=True, eq=False, repr=False)
class ShardManifest(Manifest):
    """Videos that lie in tars.

    Attributes:
        shards: Paths or addresses of the tars.
        shard: Which of them holds a video, (N,).
        starts: Its first byte there, (N,).
        sizes: In bytes, (N,).
    """

    shards: tuple[str, ...] = ()
    shard: NDArray[np.int32] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))
    starts: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    sizes: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))

    def _file(self, index: int) -> str:
        """Return where the video lies: a piece of a tar."""
        container = self.shards[int(self.shard[index])]
        extent = {"start": int(self.starts[index]), "size": int(self.sizes[index])}
        return FileRange.of(Url(container) if is_url(container) else container, **extent, name=self.video_id(index))

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> Self:
        """Return a manifest of these rows, in this order, with the same classes."""
        index = np.arange(len(self))[np.asarray(rows, np.int64)]
        shard, starts, sizes = self.shard[index], self.starts[index], self.sizes[index]
        return dataclasses.replace(super().select(rows), shard=shard, starts=starts, sizes=sizes)

    def _missing_rows(self) -> list[int]:
        return []  # their tars were opened or listed when the index was read


def read_shards(pattern: str, *, split: Split, classes_file: str | Path | None = None) -> ShardManifest:
    """Read the videos of one split from tars.

    Args:
        pattern: A folder or address that holds train-*.tar, val-*.tar and perhaps test-*.tar; or names of tars with
            `*` or `{000000..000012}`, in which SPLIT stands for the split. Without tars of test, val is the test.
        split: train, val or test.
        classes_file: Class names, where the tars hold numbers alone.

    Raises:
        FileNotFoundError: There is no such tar.
        ValueError: A tar holds no videos, or they have no labels.
    """
    text = pattern if pattern.endswith(".tar") else f"{pattern.rstrip('/')}/{_WORD}-*.tar"
    shards = _expand(text.replace(_WORD, split))
    notes = []
    if not shards and split == "test":
        shards = _expand(text.replace(_WORD, "val"))
        notes = [f"{pattern} has no tars of test: the test split is val"]
    if not shards:
        raise FileNotFoundError(f"no tar is named {text.replace(_WORD, split)}; give data.shards=DIR or a pattern.")
    index = index_of(shards)
    names = None if classes_file is None else read_classes(Path(classes_file))
    return _manifest(index, shards, classes=_classes(index, names, pattern), notes=tuple(notes))


def _manifest(
    index: ShardIndex, shards: Sequence[str], *, classes: tuple[str, ...], notes: tuple[str, ...]
) -> ShardManifest:
    encoded = [name.encode() for name in index.names]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(name) for name in encoded], dtype=np.int64)])
    buffer = np.frombuffer(b"".join(encoded), np.uint8)
    return ShardManifest(
        os.path.dirname(shards[0]), buffer, offsets, index.labels, classes, notes, shards=tuple(shards),
        shard=index.shard, starts=index.starts, sizes=index.sizes,
    )  # fmt: skip


def _classes(index: ShardIndex, given: tuple[str, ...] | None, pattern: str) -> tuple[str, ...]:
    most = int(index.labels.max())
    if index.classes and given and index.classes != given:
        raise ValueError(f"data.classes names other classes than the tars of {pattern}; leave it out.")
    known = index.classes or given or tuple(map(str, range(most + 1)))
    if most >= len(known) or index.labels.min() < 0:
        raise ValueError(
            f"{pattern} has labels up to {most}, but there are {len(known)} class names; give data.classes."
        )
    return known


def _expand(pattern: str) -> list[str]:
    """Return the tars that exist, in order."""
    match = _BRACES.search(pattern)
    if match:
        first, last = match[1], match[2]
        numbers = (str(n).zfill(len(first)) for n in range(int(first), int(last) + 1))
        return [name for n in numbers for name in _expand(pattern[: match.start()] + n + pattern[match.end() :])]
    folder, _, name = pattern.rpartition("/")
    if is_url(pattern):
        return [f"{folder}/{file}" for file in sorted(fnmatch.filter(list_url(folder).files, name))]
    return sorted(path for path in glob.glob(os.path.abspath(os.path.expanduser(pattern))) if os.path.isfile(path))
