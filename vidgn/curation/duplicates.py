"""Find videos that are the same, or were cut from the same recording: by content, by name, by how they look.

certain     the same file: segments of one file, or equal bytes
likely      names that differ in the number of the clip alone, as v_Archery_g01_c01 and v_Archery_g01_c02
likely      two frames that look the same: difference hashes of 9 x 8 grey pixels, at most 12 of 128 bits apart
"""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidgn.data.manifests.manifest import Manifest
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.storage.byte_ranges import FileRange
from vidgn.data.storage.excerpt import Excerpt
from vidgn.data.storage.remote import is_remote
from vidgn.data.video import open_video

_CLIP_NUMBER = re.compile(r"(?:[_-](?:c|clip|part|seg)\d+|_\d{6}_\d{6})$", re.IGNORECASE)
_MOST_BITS = 12  # of 128 that two looks may differ in
_BANDS = 4  # of 16 bits in each hash; looks that share one are compared in full
_FLAT = 4.0  # standard deviation of the grey levels below which a frame tells nothing


class Twin(NamedTuple):
    """Two videos that seem to be one, with the splits that they are in, why, and how sure that is."""

    video: str
    split: str
    other: str
    other_split: str
    why: str
    sure: str


class _Row(NamedTuple):
    split: str
    name: str
    file: str


def find_twins(
    manifests: Mapping[str, Manifest], *, contents: bool = True, looks: bool = False, within: bool = False
) -> list[Twin]:
    """List pairs of videos that seem to be one; of several alike, each with the first.

    Args:
        manifests: The videos of each split; a split that is another one by its content is looked at once.
        contents: Compare the bytes of files that have one size.
        looks: Open every video and compare two frames of each: seconds per thousand videos.
        within: Of the same split, too; otherwise only pairs of different splits.
    """
    distinct = _distinct(manifests)
    rows = [
        _Row(split, manifest.video_id(row), manifest.file_name(row))
        for split, manifest in distinct.items()
        for row in range(len(manifest))
    ]
    paths = [manifest.path(row) for manifest in distinct.values() for row in range(len(manifest))]
    twins: dict[tuple[int, int], tuple[str, str]] = {}
    kinds: list[tuple[Iterable[Sequence[int]], str, str]] = [
        (_alike(rows, lambda row: row.file), "the same file", "certain"),
        (_alike(rows, lambda row: _source(row.file)), "the same source name", "likely"),
    ]
    if contents:
        kinds.insert(1, (_same_bytes(paths), "equal bytes", "certain"))
    if looks:
        kinds.append((_same_looks(paths), "two frames look the same", "likely"))
    for groups, why, sure in kinds:
        for group in groups:
            for one, other in _pairs(rows, group, within=within):
                twins.setdefault((one, other), (why, sure))
    return [
        Twin(rows[a].name, rows[a].split, rows[b].name, rows[b].split, why, sure)
        for (a, b), (why, sure) in sorted(twins.items())
    ]


def _distinct(manifests: Mapping[str, Manifest]) -> dict[str, Manifest]:
    """Leave out a test that is the validation."""
    kept: dict[str, Manifest] = {}
    for split, manifest in manifests.items():
        names = (manifest.root, manifest.names.tobytes(), manifest.offsets.tobytes())
        if all(names != (m.root, m.names.tobytes(), m.offsets.tobytes()) for m in kept.values()):
            kept[split] = manifest
    return kept


def _pairs(rows: Sequence[_Row], group: Sequence[int], *, within: bool) -> Iterator[tuple[int, int]]:
    """Yield each video of a group with the first one, or with the first one of each other split."""
    first: dict[str, int] = {}
    for row in group:
        for split, one in first.items():
            if (split != rows[row].split) != (within and split == rows[row].split):
                yield one, row
        first.setdefault(rows[row].split, row)


def _alike(rows: Sequence[_Row], key: Callable[[_Row], str | None]) -> Iterator[list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        name = key(row)
        if name is not None:
            groups[name].append(index)
    return (group for group in groups.values() if len(group) > 1)


def _source(name: str) -> str | None:
    """Return the name of the recording that a clip is cut from; None where the name does not tell.

    >>> _source("Archery/v_Archery_g01_c02.avi"), _source("jump/abc_000010_000020.mp4"), _source("a/7.mp4")
    ('v_Archery_g01', 'abc', None)
    """
    stem = os.path.splitext(os.path.basename(name))[0]
    match = _CLIP_NUMBER.search(stem)
    return None if match is None else stem[: match.start()]


def _same_bytes(paths: Sequence[str]) -> Iterator[list[int]]:
    """Yield files of equal content; only files of one size are read."""
    sizes: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, path in enumerate(paths):
        file = path.file if isinstance(path, Excerpt) else path
        if isinstance(file, FileRange) or is_remote(file) or not os.path.isfile(file):
            continue
        sizes[os.path.getsize(file)][os.path.realpath(file)].append(index)
    for size, files in sizes.items():
        if len(files) < 2 or not size:
            continue
        middles: dict[bytes, dict[str, int]] = defaultdict(dict)
        for file, rows in files.items():
            middles[_piece(file, size // 2)][file] = rows[0]
        for alike in middles.values():
            contents: dict[bytes, list[int]] = defaultdict(list)
            for file, row in alike.items() if len(alike) > 1 else ():
                with open(file, "rb") as stream:
                    contents[hashlib.file_digest(stream, "sha256").digest()].append(row)
            yield from (sorted(group) for group in contents.values() if len(group) > 1)


def _piece(file: str, start: int) -> bytes:
    with open(file, "rb") as stream:
        stream.seek(start)
        return stream.read(4096)


def _same_looks(paths: Sequence[str]) -> Iterator[list[int]]:
    looks = [look_of(path) for path in paths]
    known = [index for index, look in enumerate(looks) if look is not None]
    bands: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index in known:
        for band, value in enumerate(np.packbits(_bits(looks, index)).view(">u2").tolist()):
            bands[band, value].append(index)
    compared: set[tuple[int, int]] = set()
    for group in bands.values():
        for pair in combinations(group, 2):
            if pair not in compared:
                compared.add(pair)
                if int((_bits(looks, pair[0]) != _bits(looks, pair[1])).sum()) <= _MOST_BITS:
                    yield list(pair)


def _bits(looks: Sequence[NDArray[np.bool_] | None], index: int) -> NDArray[np.bool_]:
    look = looks[index]
    assert look is not None
    return look


def look_of(path: str) -> NDArray[np.bool_] | None:
    """Return how a video looks, 128 bits: is each of 8 x 8 grey pixels brighter than the next, in two of its frames.

    None where the file cannot be read, or its frames are flat.
    """
    try:
        with open_video(path) as video:
            wanted = [len(video) // 3, 2 * len(video) // 3]
            frames = dict(video.frames(wanted))
    except (VideoDecodeError, OSError, ValueError):
        return None
    hashes = []
    for index in wanted:
        image = Image.fromarray(np.ascontiguousarray(frames[index])).convert("L")
        grey = np.asarray(image.resize((9, 8), Image.Resampling.BOX), np.float64)
        if grey.std() < _FLAT:
            return None
        hashes.append(grey[:, 1:] > grey[:, :-1])
    return np.concatenate(hashes).reshape(-1)
