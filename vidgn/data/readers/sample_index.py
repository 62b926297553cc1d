"""One table of a prepared file's packets, kept in the file itself, so that opening it parses nothing else.

    ftyp  moov  mdat ...................  uuid [ head | extradata | sizes starts times keys | crc32 | length | mark ]

`vidgn prepare` appends it to what it writes, after it has compared the order of all frames with that of the stream.
Other programs pass over the box (ISO/IEC 14496-12, 11.1); one that writes the file again leaves it out.
A box that does not fit its file is not used: the file is then opened like any other.

Without NumPy: after a clip is resized nothing of it is in the caches, and each of its calls takes ten times as long.
"""

import math
import os
import struct
import sys
import zlib
from array import array
from itertools import pairwise
from operator import add
from typing import BinaryIO, NamedTuple

_TYPE = b"uuid" + bytes.fromhex("6f1c3a528b8e4d0f9b7e") + b"vidgn1"  # the last byte is the version
_MARK = b"vidgnIdx"
# height, width, frames, keys, bytes of extradata, frames held back, bytes before the box, fps, tick, duration
_HEAD = struct.Struct("<IIIIIIQddd")
_TAIL = struct.Struct("<II8s")
_FIRST = 4 + len(_TYPE)
_SMALLEST = _FIRST + _HEAD.size + _TAIL.size
_USUAL_BYTES = 1 << 13  # of a box: read with the mark; 300 frames take 3.9 kB
_MOST_BYTES = 1 << 26
_MOST_REORDERED = 16  # frames (ITU-T H.264, A.3.1, MaxDpbFrames)
_LEAST_EXTRA, _MOST_EXTRA = 7, 1 << 16  # bytes of an avcC (ISO/IEC 14496-15, 5.3.3.1)


class SampleIndex(NamedTuple):
    """What reading a prepared H.264 file needs to know of it.

    Attributes:
        height: Rows of a picture, as stored and as shown.
        width: Columns.
        fps: Frames per second that the file states.
        tick: Seconds of one unit of `times`.
        duration: Seconds that the file states; None where it does not.
        reorder_depth: Pictures that a decoder holds back.
        extradata: Of the decoder (avcC).
        sizes: Bytes of each packet.
        starts: Where each packet begins in the file.
        times: When each picture is shown, in ticks.
        keys: Numbers of the packets at which decoding may begin, ascending.
    """

    height: int
    width: int
    fps: float
    tick: float
    duration: float | None
    reorder_depth: int
    extradata: bytes
    sizes: "array[int]"
    starts: "array[int]"
    times: "array[int]"
    keys: "array[int]"


def pack_index(index: SampleIndex, *, file_bytes: int) -> bytes | None:
    """Return the box to append to a file of `file_bytes`; None where it could not be read again.

    That is so of files of 2 GiB and more, and of what contradicts itself.
    """
    columns = (index.sizes, index.starts, index.times, index.keys)
    if any(not 0 <= number < 1 << 31 for column in columns for number in column) or not _fits(index, file_bytes):
        return None
    head = _HEAD.pack(
        index.height, index.width, len(index.sizes), len(index.keys), len(index.extradata), index.reorder_depth,
        file_bytes, index.fps, index.tick, math.nan if index.duration is None else index.duration,
    )  # fmt: skip
    body = head + index.extradata + b"".join(_swapped(array("i", column)).tobytes() for column in columns)
    length = _FIRST + len(body) + _TAIL.size
    return struct.pack(">I", length) + _TYPE + body + _TAIL.pack(zlib.crc32(body), length, _MARK)


def read_index(file: BinaryIO) -> SampleIndex | None:
    """Read the box at the end of a file; None where there is none, or none that fits the file.

    The position in the file is not kept.

    Raises:
        OSError: The file cannot be read.
    """
    size = file.seek(0, os.SEEK_END)
    end = _last_bytes(file, size, _USUAL_BYTES)
    if len(end) < _SMALLEST or not end.endswith(_MARK):
        return None
    checksum, length, _ = _TAIL.unpack_from(end, len(end) - _TAIL.size)
    if not _SMALLEST <= length <= min(size, _MOST_BYTES):
        return None
    box = end[-length:] if length <= len(end) else _last_bytes(file, size, length)
    body = box[_FIRST : -_TAIL.size]
    if box[:_FIRST] != struct.pack(">I", length) + _TYPE or zlib.crc32(body) != checksum:
        return None
    return _unpacked(body, size - length)


def _last_bytes(file: BinaryIO, size: int, count: int) -> bytes:
    file.seek(max(0, size - count))
    return file.read(count)


def _unpacked(body: bytes, file_bytes: int) -> SampleIndex | None:
    height, width, frames, num_keys, extra, depth, stated_bytes, fps, tick, duration = _HEAD.unpack_from(body)
    if stated_bytes != file_bytes or len(body) != _HEAD.size + extra + 4 * (3 * frames + num_keys):
        return None
    at = _HEAD.size + extra
    numbers = array("i")
    numbers.frombytes(body[at:])
    _swapped(numbers)
    sizes, starts, times = (numbers[first * frames : (first + 1) * frames] for first in range(3))
    index = SampleIndex(
        height, width, fps, tick, None if math.isnan(duration) else duration, depth, body[_HEAD.size : at],
        sizes, array("q", starts), array("q", times), numbers[3 * frames :],
    )  # fmt: skip
    return index if _fits(index, file_bytes) else None


def _fits(index: SampleIndex, file_bytes: int) -> bool:
    """Tell whether all that an index states can be so, whoever wrote it."""
    keys, count = index.keys, len(index.sizes)
    numbers = (index.fps, index.tick, index.duration or 0.0)
    return (
        0 < len(keys) <= count == len(index.starts) == len(index.times) == len(set(index.times))
        and keys[0] == 0
        and keys[-1] < count
        and all(key < following for key, following in pairwise(keys))
        and min(index.height, index.width, min(index.sizes)) > 0
        and min(index.starts) >= 0
        and max(map(add, index.starts, index.sizes)) <= file_bytes
        and 0 <= index.reorder_depth <= _MOST_REORDERED
        and _LEAST_EXTRA <= len(index.extradata) <= _MOST_EXTRA
        and index.extradata[0] == 1  # the version of an avcC
        and all(math.isfinite(number) and number >= 0 for number in numbers)
        and index.tick > 0
    )


def _swapped(numbers: "array[int]") -> "array[int]":
    """Turn native into little-endian numbers, or back, in place."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
