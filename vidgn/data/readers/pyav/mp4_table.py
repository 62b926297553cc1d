"""The packets of an H.264 mp4 file from its tables: none is read before it is wanted.

    stream.index_entries   where each lies, its size, when it is decoded: FFmpeg's own reading of most tables
    ctts                   how much later it is shown (ISO/IEC 14496-12, 8.6.1.3)
    key packets            a few bytes of each: the tables may call a packet a key that is none

A pass over all packets says the same, and reads and copies the whole file for it. Whatever is out of the ordinary
(fragments, several edits or descriptions, hidden packets, negative delays, no table of keys) is left to that pass.
"""

import io
import os
from array import array
from collections.abc import Container, Iterator
from typing import Any, BinaryIO

import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vidgn.data.readers.mp4_boxes import boxes
from vidgn.data.readers.pyav.edit_list import descend, track_number
from vidgn.data.readers.pyav.packet_table import PacketTable
from vidgn.data.readers.sample_index import SampleIndex
from vidgn.data.readers.types import VideoDecodeError

_KEY = 1  # AVINDEX_KEYFRAME (libavformat/avformat.h); the only flag of an ordinary packet
_PLAIN = (b"avc1", b"avc3")  # not encv, which is encrypted
_MOST = 1 << 28  # ticks of a delay; FFmpeg believes no larger one
_AT_ONCE = 1 << 20  # bytes
_GAP = 1 << 16  # bytes of sound between two packets that are read rather than passed over
_SLICE, _IDR, _SEI = range(1, 6), 5, 6  # nal_unit_type (ITU-T H.264, table 7-1)
_REFERRED, _IDLE = 0x60, (1, _SEI, 9)  # bits of nal_ref_idc; slices, messages, delimiters (7.3.1, table 7-1)
_RECOVERY = 6  # payloadType of a recovery point (D.1.1), at which FFmpeg's parser sees a key too
_HEAD = 64  # bytes


class Samples:
    """Where packets lie, by their numbers: they begin at `starts`; `table` has the facts of them."""

    def __init__(self, file: BinaryIO, table: PacketTable, starts: "array[int]", *, width: int) -> None:
        self.table, self.starts = table, starts
        self._file = file
        self._width = width  # bytes of a unit's length
        self._stamp = _stamp(file)

    def read(
        self, start: int, last: int, *, needed: Container[int] | None, path: str
    ) -> Iterator[tuple[int, "Packet[Any]"]]:
        """Yield packets `start`..`last` with their numbers, but for those not `needed` that no other one refers to.

        Raises:
            VideoDecodeError: The file has changed.
        """
        while start <= last:
            behind = self._together(start, last)
            sizes, starts = self.table.sizes[start:behind], self.starts[start:behind]
            self._file.seek(starts[0])
            data = self._file.read(starts[-1] + sizes[-1] - starts[0])
            if len(data) < starts[-1] + sizes[-1] - starts[0] or _stamp(self._file) != self._stamp:
                raise VideoDecodeError(path, f"packet {start} is not what it was: the file has changed")
            for number, place, size in zip(range(start, behind), starts, sizes, strict=True):
                first = place - starts[0]
                if needed is None or number in needed or not _is_idle(data, first, first + size, width=self._width):
                    packet: Packet[Any] = Packet(size)  # padded, as a decoder needs it
                    packet.update(data[first : first + size])
                    yield number, packet
            start = behind

    def heads(self, start: int, last: int, *, size: int | None) -> Iterator[bytes]:
        """Yield the first `size` bytes of packets `start`..`last`; None for all."""
        for at, whole in zip(self.starts[start : last + 1], self.table.sizes[start : last + 1], strict=True):
            before = self._file.tell()
            self._file.seek(at)
            data = self._file.read(whole if size is None else min(size, whole))  # of a tar or an address too
            self._file.seek(before)
            yield data

    def _together(self, start: int, last: int) -> int:
        """Return the number behind those that are read with packet `start`."""
        first, end = self.starts[start], self.starts[start] + self.table.sizes[start]
        for number in range(start + 1, last + 1):
            place = self.starts[number]
            if not end <= place <= end + _GAP or place - first > _AT_ONCE:
                return number
            end = place + self.table.sizes[number]
        return last + 1


def indexed_samples(file: BinaryIO, index: SampleIndex) -> Samples:
    """Return the packets of a file that brings its own table."""
    return Samples(file, PacketTable.of_index(index), index.starts, width=_length_bytes(index.extradata))


def find_samples(file: BinaryIO, stream: VideoStream, *, moov: bytes) -> Samples | None:
    """Learn of all packets of a stream from the tables; None where only reading the packets can tell.

    The place in the file is what it was; `moov` is the body of the box of tables.
    """
    place = file.tell()
    try:
        return _find(file, stream, moov)
    finally:
        file.seek(place)


def _find(file: BinaryIO, stream: VideoStream, moov: bytes) -> Samples | None:
    extra = stream.codec_context.extradata
    entries = list(stream.index_entries)
    if stream.codec_context.name != "h264" or not extra or extra[0] != 1 or len(entries) != stream.frames:
        return None  # extradata of 1: avcC (ISO/IEC 14496-15, 5.3.3.1), lengths before units
    delays = _delays(moov, track=stream.id, count=len(entries))
    if delays is None or not entries:
        return None
    starts = np.array([entry.pos for entry in entries], np.int64)  # a column at a time: faster than rows
    sizes = np.array([entry.size for entry in entries], np.int64)
    times = np.array([entry.timestamp for entry in entries], np.int64)
    flags = np.array([entry.flags for entry in entries], np.int64)
    keys = np.flatnonzero(flags == _KEY)
    size = file.seek(0, os.SEEK_END)
    if (flags & ~_KEY).any() or not flags[0] or len(keys) == len(flags) > 1:
        return None  # without a table of keys every packet counts as one
    if starts.min() < 0 or sizes.min() < 1 or (starts + sizes).max() > size:
        return None
    width = _length_bytes(extra)
    if not all(_is_key(file, int(starts[key]), int(sizes[key]), width=width) for key in keys):
        return None
    table = PacketTable.of(times=times + delays, sizes=sizes, keys=keys)
    return Samples(file, table, array("q", starts.tobytes()), width=width)


def _length_bytes(extradata: bytes) -> int:
    """Return how many bytes state a unit's length, of an avcC."""
    return (extradata[4] & 3) + 1


def _delays(moov: bytes, *, track: int, count: int) -> NDArray[np.int64] | None:
    """Return by how many ticks each packet is shown after it is decoded, (N,); None: not an ordinary track."""
    outer = list(boxes(moov, 0, len(moov)))
    tracks = [(start, end) for kind, start, end in outer if kind == b"trak"]
    mine = [place for place in tracks if track_number(moov, place) == track]
    if len(mine) != 1 or any(kind == b"mvex" for kind, _, _ in outer):
        return None
    edits = descend(moov, mine[0], b"edts", b"elst")
    if edits is not None and not _is_one_edit(moov, edits[0]):
        return None
    inner = descend(moov, mine[0], b"mdia", b"minf", b"stbl")
    tables = {kind: (start, end) for kind, start, end in boxes(moov, *inner)} if inner is not None else {}
    kinds, table = tables.get(b"stsd"), tables.get(b"ctts")
    if kinds is None or _int(moov, kinds[0] + 4) != 1 or moov[kinds[0] + 12 : kinds[0] + 16] not in _PLAIN:
        return None
    if table is None:
        return np.zeros(count, np.int64)
    length = _int(moov, table[0] + 4)
    if table[1] - table[0] != 8 + 8 * length:
        return None
    numbers, delays = np.frombuffer(moov, ">u4", 2 * length, table[0] + 8).astype(np.int64).reshape(-1, 2).T
    if numbers.sum() != count or delays.max(initial=0) > _MOST:  # so is a negative one
        return None
    return np.repeat(delays, numbers)


def _is_one_edit(moov: bytes, elst: int) -> bool:
    """Tell whether a list of edits (8.6.6) shows one piece of the track, perhaps after showing nothing for a while."""
    number, wide = _int(moov, elst + 4), moov[elst : elst + 1] == b"\1"
    begins_empty = _int(moov, elst + (16 if wide else 12)) == 0xFFFFFFFF  # media_time of -1
    return number == (2 if begins_empty else 1)


def _int(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _is_key(file: BinaryIO, start: int, size: int, *, width: int) -> bool:
    """Tell whether decoding may begin at a packet: its first slice is an IDR's, or a recovery point precedes it."""
    at, head, seen = 0, b"", 0  # `head` is what was read from `seen` on
    while at + width + 1 < size:
        if not seen <= at < seen + len(head) - width - 1:
            file.seek(start + at)
            head, seen = file.read(min(_HEAD, size - at)), at
        unit = at - seen + width
        if len(head) < unit + 2:
            return False
        kind = head[unit] & 31
        if kind in _SLICE:
            return kind == _IDR
        if kind == _SEI and head[unit + 1] == _RECOVERY:
            return True
        at += width + int.from_bytes(head[unit - width : unit], "big")
    return False


def _is_idle(data: bytes, at: int, end: int, *, width: int) -> bool:
    """Tell whether no other picture needs this packet: slices that nobody refers to (nal_ref_idc of 0), messages."""
    while at + width < end:
        unit = data[at + width]
        if unit & _REFERRED or unit & 31 not in _IDLE:
            return False
        at += width + int.from_bytes(data[at : at + width], "big")
    return at == end


def _stamp(file: BinaryIO) -> tuple[int, int] | None:
    """Return what changes with a file of this machine: time (ns) and size (bytes)."""
    if not isinstance(file, io.FileIO):
        return None
    found = os.fstat(file.fileno())
    return found.st_mtime_ns, found.st_size
