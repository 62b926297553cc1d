"""Which part of the stored pictures a container shows: `clap` of mp4 and mov, PixelCrop of Matroska.

FFmpeg applies both since 7.1. PyAV does not hand them on, so they are read from the file here.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO, NamedTuple

from vidgn.data.readers.diagnose import EBML
from vidgn.data.readers.mp4_boxes import boxes
from vidgn.data.readers.pyav.edit_list import children, descend, track_number

_ENTRY_BYTES = 78  # of a VisualSampleEntry before its boxes (ISO/IEC 14496-12, 12.1.3)
_SEGMENT, _TRACKS, _CLUSTER, _TRACK = 0x18538067, 0x1654AE6B, 0x1F43B675, 0xAE  # RFC 9559, 5.1
_TRACK_TYPE, _VIDEO, _IS_VIDEO, _STREAM_TYPES = 0x83, 0xE0, 1, (1, 2, 17, 33)  # 5.1.4.1
_CROP_BOTTOM, _CROP_TOP, _CROP_LEFT, _CROP_RIGHT = 0x54AA, 0x54BB, 0x54CC, 0x54DD
_MOST_BYTES = 1 << 24
_START_BYTES = 4096


class Cropping(NamedTuple):
    """Rows and columns (px) of the stored pictures that are not shown."""

    left: int
    top: int
    right: int
    bottom: int


def cropping_of_mp4(moov: bytes, *, track: int, height: int, width: int) -> Cropping | None:
    """Read the clean aperture of a track (ISO/IEC 14496-12, 12.1.4), as libavformat/mov.c does; None without one.

    Args:
        moov: Body of the box of tables.
        track: The track's number (track_ID).
        height: Rows of a stored picture.
        width: Columns of a stored picture.
    """
    if b"clap" not in moov:
        return None
    for trak in children(moov, (0, len(moov)), b"trak"):
        kinds = descend(moov, trak, b"mdia", b"minf", b"stbl", b"stsd")
        if kinds is None or track_number(moov, trak) != track:
            continue
        for _, start, end in boxes(moov, kinds[0] + 8, kinds[1]):
            clap = descend(moov, (start + _ENTRY_BYTES, end), b"clap")
            return None if clap is None else _aperture(moov[clap[0] : clap[1]], height=height, width=width)
    return None


def cropping_of_matroska(file: BinaryIO, *, index: int, height: int, width: int) -> Cropping | None:
    """Read the PixelCrop elements of a track (RFC 9559, 5.1.4.1.28); None where it has none.

    Args:
        file: A Matroska file; its position is not kept.
        index: Of the stream.
        height: Rows of a stored picture.
        width: Columns of a stored picture.
    """
    tracks = _tracks(file)
    if not any(b"\x54" + bytes([low]) in tracks for low in (0xAA, 0xBB, 0xCC, 0xDD)):
        return None
    entries = [dict(_elements(body)) for number, body in _elements(tracks) if number == _TRACK]
    entries = [entry for entry in entries if _number(entry.get(_TRACK_TYPE, b"")) in _STREAM_TYPES]
    if index >= len(entries) or _number(entries[index].get(_TRACK_TYPE, b"")) != _IS_VIDEO:
        return None
    video = dict(_elements(entries[index].get(_VIDEO, b"")))
    sides = (_CROP_LEFT, _CROP_TOP, _CROP_RIGHT, _CROP_BOTTOM)
    return _checked(Cropping(*(_number(video.get(side, b"")) for side in sides)), height=height, width=width)


def _aperture(clap: bytes, *, height: int, width: int) -> Cropping | None:
    values = [int.from_bytes(clap[at : at + 4], "big", signed=True) for at in range(0, 32, 4)]
    if len(clap) < 32 or min(values[1::2]) <= 0:
        return None
    wide, high, right, down = (Fraction(*values[at : at + 2]) for at in range(0, 8, 2))
    centre_x, centre_y = Fraction(width - 1, 2) + right, Fraction(height - 1, 2) + down
    ends = (centre_x - (wide - 1) / 2, centre_y - (high - 1) / 2, centre_x + (wide - 1) / 2, centre_y + (high - 1) / 2)
    first_column, first_row, last_column, last_row = map(int, ends)
    found = Cropping(first_column, first_row, width - 1 - last_column, height - 1 - last_row)
    return _checked(found, height=height, width=width)


def _checked(found: Cropping, *, height: int, width: int) -> Cropping | None:
    """Return it unless nothing is cropped, or more than there is."""
    is_within = min(found) >= 0 and found.left + found.right < width and found.top + found.bottom < height
    return found if any(found) and is_within else None


def _tracks(file: BinaryIO) -> bytes:
    """Return the body of the element of tracks; nothing where it does not come before the pictures."""
    file.seek(0)
    start = file.read(_START_BYTES)  # it holds the tracks of most files
    if start[:4] != EBML:
        return b""
    at, parts = 0, 16  # a few elements precede the tracks: seek head, info, void, tags
    while parts:
        number, size, width = _head(_read(file, start, at, 12))
        if not width or number == _CLUSTER:
            return b""
        if number == _TRACKS:
            return _read(file, start, at + width, min(size, _MOST_BYTES))
        at += width if number == _SEGMENT else width + size
        parts -= 1
    return b""


def _read(file: BinaryIO, start: bytes, at: int, size: int) -> bytes:
    """Return `size` bytes of a file from `at`, without reading where they lie in its `start`."""
    if at + size <= len(start):
        return start[at : at + size]
    file.seek(at)
    return file.read(size)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        number, size, width = _head(data[at : at + 12])
        if not width:
            return
        yield number, data[at + width : at + width + size]
        at += width + size


def _head(data: bytes) -> tuple[int, int, int]:
    """Return an element's number, its size and the bytes of both (RFC 8794, 4 and 5); zeros where it is none."""
    if not data or not data[0] or len(data) < 2:
        return 0, 0, 0
    numbers = 9 - data[0].bit_length()
    if len(data) <= numbers or not data[numbers]:
        return 0, 0, 0
    sizes = 9 - data[numbers].bit_length()
    size = int.from_bytes(data[numbers : numbers + sizes], "big") & ((1 << 7 * sizes) - 1)
    return int.from_bytes(data[:numbers], "big"), size, numbers + sizes


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")
