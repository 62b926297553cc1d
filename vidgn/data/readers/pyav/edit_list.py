"""Which frames of an mp4 or mov track its edit list shows (ISO/IEC 14496-12, 8.6.6)."""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidgn.data.readers.mp4_boxes import boxes, outer_boxes

_MOST_BYTES = 1 << 28  # of tables
_MOST_SAMPLES = 1 << 24
_EMPTY = -1  # media_time of an edit that shows nothing


class Edit(NamedTuple):
    """One row of an edit list: `duration` in ticks of the movie, `media_time` in ticks of the track."""

    duration: int
    media_time: int


def num_shown_by_edits(moov: bytes, *, track: int) -> int | None:
    """Count the samples of a track that its edit list shows; None where it has no edit list, or none to be read.

    Args:
        moov: Body of the box of tables.
        track: The track's number (track_ID).
    """
    trak = next((box for box in children(moov, (0, len(moov)), b"trak") if track_number(moov, box) == track), None)
    if trak is None:
        return None
    edits = _edits(moov, trak)
    times = _times(moov, trak)
    scales = (_timescale(moov, (0, len(moov)), b"mvhd"), _timescale(moov, trak, b"mdia", b"mdhd"))
    if not edits or times is None or not all(scales):
        return None
    ticks = scales[1] / scales[0]
    return sum(
        int(((times >= edit.media_time) & (times < edit.media_time + round(edit.duration * ticks))).sum())
        for edit in edits
        if edit.media_time != _EMPTY
    )


def read_moov(file: BinaryIO) -> bytes:
    """Return the body of the box of tables; nothing where there is none of a sensible size.

    The position in the file is kept.
    """
    at = file.tell()
    try:
        return _read_moov(file)
    finally:
        file.seek(at)


def _read_moov(file: BinaryIO) -> bytes:
    outer = next((box for box in outer_boxes(file) if box.kind == b"moov"), None)
    if outer is None:
        return b""
    size = outer.start + outer.length - outer.body
    file.seek(outer.body)
    return file.read(size) if 0 < size < _MOST_BYTES else b""


def children(data: bytes, parent: tuple[int, int], kind: bytes) -> Iterator[tuple[int, int]]:
    """Yield where the boxes of a kind begin and end that stand directly in a part of the tables."""
    return ((start, end) for its, start, end in boxes(data, *parent) if its == kind)


def descend(data: bytes, parent: tuple[int, int], *path: bytes) -> tuple[int, int] | None:
    """Find the box at the end of a path of kinds, the first of each; None where there is none."""
    for kind in path:
        first = next(children(data, parent, kind), None)
        if first is None:
            return None
        parent = first
    return parent


def track_number(moov: bytes, trak: tuple[int, int]) -> int:
    """Return the track_ID; -1 where there is none."""
    head = descend(moov, trak, b"tkhd")
    if head is None:
        return -1
    return _int(moov, head[0] + (20 if moov[head[0] : head[0] + 1] == b"\1" else 12))  # version 1 has longer times


def _edits(moov: bytes, trak: tuple[int, int]) -> list[Edit]:
    elst = descend(moov, trak, b"edts", b"elst")
    if elst is None:
        return []
    start, end = elst
    width = 8 if moov[start : start + 1] == b"\1" else 4
    count = min(_int(moov, start + 4), (end - start - 8) // (2 * width + 4))
    rows = [start + 8 + row * (2 * width + 4) for row in range(count)]
    return [
        Edit(
            int.from_bytes(moov[at : at + width], "big"),
            int.from_bytes(moov[at + width : at + 2 * width], "big", signed=True),
        )
        for at in rows
    ]


def _times(moov: bytes, trak: tuple[int, int]) -> NDArray[np.int64] | None:
    """Return when each sample is shown, in ticks of the track, (N,)."""
    steps = _pairs(moov, descend(moov, trak, b"mdia", b"minf", b"stbl", b"stts"), dtype=">u4")
    if steps is None or not 0 < steps[0].sum() < _MOST_SAMPLES:
        return None
    counts, deltas = steps
    decoded = np.concatenate([[0], np.cumsum(np.repeat(deltas, counts))[:-1]])
    delays = _pairs(moov, descend(moov, trak, b"mdia", b"minf", b"stbl", b"ctts"), dtype=">i4")
    if delays is None:
        return decoded
    if delays[0].sum() != len(decoded):
        return None
    return decoded + np.repeat(delays[1], delays[0])


def _pairs(
    moov: bytes, box: tuple[int, int] | None, *, dtype: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return the columns of a table of (count, value); counts are unsigned, values of `dtype`."""
    if box is None:
        return None
    start, end = box
    count = min(_int(moov, start + 4), (end - start - 8) // 8)
    values = np.frombuffer(moov, dtype, 2 * count, start + 8).astype(np.int64).reshape(-1, 2)
    if (values[:, 0] < 0).any():
        return None
    return values[:, 0], values[:, 1]


def _timescale(moov: bytes, parent: tuple[int, int], *path: bytes) -> int:
    """Return ticks per second of a movie or track header (8.2.2, 8.4.2); 0 where there is none."""
    head = descend(moov, parent, *path)
    if head is None:
        return 0
    return _int(moov, head[0] + (20 if moov[head[0] : head[0] + 1] == b"\1" else 12))


def _int(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
