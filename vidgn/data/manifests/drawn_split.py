"""Draw train, val and test from one folder per class, and remember which video belongs to which.

    position of a video = hash(seed, CLASS/NAME without its suffix)      never its place in a listing
    val  first in the order of the positions     train  between     test  last

So adding or removing a video moves at most one other video of its class across each of the two borders. A run writes
the split down (`SplitRecord`, in its checkpoints), and everything that uses the run later keeps to it.
"""

import base64
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
_SEGMENT = re.compile(r"#[tf]=[\d.]*,[\d.]*$")
_HASH = np.dtype(">u8")  # big-endian, so that a record is the same on every machine


@dataclass(frozen=True, eq=False)
class SplitRecord:
    """The videos of a run by part, as sorted hashes of their names.

    Attributes:
        parts: Hashes of the videos of each part, (N,) uint64.
        seed: Of the drawn split; None where the data set has its own.
        before: Hashes of the training videos of the checkpoints that the run began with, (N,) uint64.
    """

    parts: Mapping[Part, NDArray[np.uint64]]
    seed: int | None = None
    before: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, _HASH))

    @classmethod
    def of(
        cls, names: Mapping[Part, Iterable[str]], *, seed: int | None = None, earlier: "SplitRecord | None" = None
    ) -> "SplitRecord":
        """Make the record of a run that starts from the weights of `earlier`."""
        parts = {part: np.unique(_hashes(names[part])) for part in names}
        return cls(parts, seed, np.zeros(0, _HASH) if earlier is None else earlier.trained)

    @property
    def trained(self) -> NDArray[np.uint64]:
        """Hashes of all videos that the weights were trained on."""
        return np.union1d(self.parts.get("train", self.before), self.before)

    def part_of(self, names: Sequence[str]) -> list[Part | None]:
        """Return the part of each video; None for one that the run did not know."""
        hashes = _hashes(names)
        parts: list[Part | None] = [None] * len(names)
        for part in PARTS:
            for row in _rows_among(hashes, self.parts.get(part, _hashes(()))):
                parts[row] = part
        return parts

    def trained_on(self, names: Sequence[str]) -> list[str]:
        """Return those of the videos whose names the weights were trained on."""
        return [names[row] for row in _rows_among(_hashes(names), self.trained)]

    def plain(self) -> dict[str, Any]:
        """Return the record as plain values for a checkpoint: eight bytes a video."""
        parts: dict[str, str] = {part: _encode(hashes) for part, hashes in self.parts.items()}
        return {"seed": self.seed, "before": _encode(self.before), **parts}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any] | None) -> "SplitRecord | None":
        """Read what `plain` wrote; None gives None, as in a checkpoint without a record.

        Raises:
            ValueError: It is damaged.
        """
        if plain is None:
            return None
        try:
            parts = {part: _decode(plain[part]) for part in PARTS if part in plain}
            seed = plain["seed"]
            return cls(parts, None if seed is None else int(seed), _decode(plain["before"]))
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise ValueError(
                f"the split in the checkpoint is damaged ({type(err).__name__}: {err}); use another checkpoint"
            ) from err


def draw_split(
    videos: Mapping[str, Sequence[str]],
    *,
    seed: int,
    fractions: Sequence[float],
    record: SplitRecord | None = None,
) -> dict[str, Part]:
    """Return the part of every video.

    Each class is drawn by itself, with at least one video in each part. A video that `record` knows keeps its part;
    in a class that it knows, a new video is drawn by its position alone.

    Args:
        videos: Names (CLASS/FILE) by class.
        seed: Of the positions.
        fractions: Of train, val and test.
        record: Of an earlier run.

    Raises:
        ValueError: A class that `record` does not know has fewer than three videos.
    """
    parts: dict[str, Part] = {}
    small = []
    for label, names in videos.items():
        known = dict(zip(names, record.part_of(names), strict=True)) if record else dict.fromkeys(names)
        kept = {name: part for name, part in known.items() if part is not None}
        new = [name for name in names if name not in kept]
        if not kept and len({video_key(name) for name in new}) < len(PARTS):
            small.append(f"{label} ({len(new)})")
            continue
        drawn = _by_position(new, seed, fractions) if kept else _by_rank(new, seed, fractions)
        parts |= {**kept, **drawn}
    if small:
        raise ValueError(
            f"a drawn split needs at least 3 videos per class, one each for train, val and test; too few in "
            f"{', '.join(small[:10])}; add videos, remove the folder, or make train/ and val/ yourself"
        )
    return parts


def video_key(name: str) -> str:
    """Return what a video is known by: its name without the suffix, which a conversion changes.

    Letters with accents are composed: copies to and from macOS take them apart.

    >>> video_key("run/a.b.avi")
    'run/a.b'
    >>> video_key("cafe\u0301.mp4") == video_key("caf\u00e9.mp4")
    True
    >>> video_key("film.mp4#t=1.5,3")
    'film#t=1.5,3'
    """
    name = unicodedata.normalize("NFC", name)
    segment = _SEGMENT.search(name)
    return os.path.splitext(name)[0] if segment is None else os.path.splitext(name[: segment.start()])[0] + segment[0]


def _by_rank(names: Sequence[str], seed: int, fractions: Sequence[float]) -> dict[str, Part]:
    keys = sorted({video_key(name) for name in names}, key=lambda key: (_position(key, seed), key))
    num_val, num_test = (max(1, round(len(keys) * fraction)) for fraction in fractions[1:])
    while num_val + num_test >= len(keys):
        num_val, num_test = (num_val - 1, num_test) if num_val >= num_test else (num_val, num_test - 1)
    parts: dict[str, Part] = dict.fromkeys(keys, "train")
    parts.update(dict.fromkeys(keys[:num_val], "val"))
    parts.update(dict.fromkeys(keys[len(keys) - num_test :], "test"))
    return {name: parts[video_key(name)] for name in names}


def _by_position(names: Sequence[str], seed: int, fractions: Sequence[float]) -> dict[str, Part]:
    _, val, test = fractions
    parts: dict[str, Part] = {}
    for name in names:
        position = _position(video_key(name), seed) / 2**64
        parts[name] = "val" if position < val else "test" if position >= 1 - test else "train"
    return parts


def _position(key: str, seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest(), "big")


def _hashes(names: Iterable[str]) -> NDArray[np.uint64]:
    keys = (video_key(name).encode("utf-8", "surrogateescape") for name in names)
    return np.frombuffer(b"".join(hashlib.blake2b(key, digest_size=8).digest() for key in keys), _HASH)


def _rows_among(hashes: NDArray[np.uint64], known: NDArray[np.uint64]) -> list[int]:
    """Return the rows of `hashes` that are in `known`; NumPy's table for few values needs this machine's byte order."""
    rows: list[int] = np.flatnonzero(np.isin(hashes.astype(np.uint64), known.astype(np.uint64))).tolist()
    return rows


def _encode(hashes: NDArray[np.uint64]) -> str:
    return base64.b64encode(hashes.astype(_HASH).tobytes()).decode()


def _decode(text: str) -> NDArray[np.uint64]:
    return np.frombuffer(base64.b64decode(text, validate=True), _HASH)
