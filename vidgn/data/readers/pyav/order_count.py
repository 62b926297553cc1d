"""In what order a decoder shows the pictures of H.264 and HEVC: the streams' own order count, read from slice headers.

    packet 0  IDR  count 0        times in the file's order would say 0 1 2 3,
    packet 1  P    count 8        the counts say 0 3 2 1: that is what a decoder shows
    packet 2  B    count 4
    packet 3  B    count 2

Counts begin again at pictures before which all others are shown (IDR, BLA). A packet that is not
understood here has no count; nor has one of H.264 before which packets were lost, whose picture need not be shown.
"""

from collections.abc import Iterator
from typing import NamedTuple

from vidgn.data.readers.h264_headers import (
    IDR,
    Bits,
    PictureParameters,
    Sequence,
    by_lengths,
    by_start_codes,
    is_slice,
    of_avcc,
    read_picture_parameters,
    read_sequence,
    read_slice_start,
)

COUNTED_CODECS = {"h264", "hevc"}
NO_COUNT = -(1 << 63)
GAP = NO_COUNT + 1  # a picture to which this one may refer is missing before it
NEW_SEQUENCE = 1 << 40  # above any count (32 bits)


class _Picture(NamedTuple):
    """What a picture parameter set of HEVC says of slice headers."""

    sequence: int
    dependent_slices: bool
    output_flag: bool
    extra_bits: int


class OrderCounter:
    """Counts the packets of a stream in the order of decoding; begin at a key packet.

    Args:
        codec: h264 or hevc.
        extradata: Of the stream; its form says how units are divided (ISO/IEC 14496-15, 5.3.3.1 and 8.3.3.1).
    """

    def __init__(self, codec: str, extradata: bytes) -> None:
        self._is_hevc = codec == "hevc"
        self._sequences: dict[int, Sequence] = {}
        self._pictures: dict[int, PictureParameters] = {}
        self._hevc_pictures: dict[int, _Picture] = {}
        self._group = 0
        self._before: tuple[int, int] | None = None  # high and low part of the count that the next one is relative to
        self._restarts = False
        self._frame: int | None = None  # number of the last frame of H.264 to which others may refer
        self._packets = 0
        self._width = 0  # bytes of a unit's length; 0: start codes divide units
        try:
            self._read_extradata(extradata)
        except (ValueError, IndexError):
            self._sequences.clear()

    def count(self, packet: bytes) -> int:
        """Return a number that grows in the order of showing.

        `NO_COUNT` where the packet is not understood, `GAP` where packets before it were lost.

        Args:
            packet: The next one, or enough of its beginning to hold the first slice header.
        """
        self._packets += 1
        try:
            for unit in self._units(packet):
                count = self._count_hevc(unit) if self._is_hevc else self._count_h264(unit)
                if count is not None:
                    return count if count == GAP else self._group * NEW_SEQUENCE + count
        except (ValueError, IndexError, KeyError):  # a damaged or unknown header: the decoder has to tell the order
            return NO_COUNT
        return NO_COUNT

    def restarts_at(self, packet: bytes) -> bool:
        """Tell whether an H.264 packet forgets every picture before it (IDR)."""
        return any(unit[0] & 31 == IDR for unit in self._units(packet))

    @property
    def num_references(self) -> int:
        """How many pictures of H.264 others may refer to at a time: no encoder reorders over more."""
        return max((sequence.num_references for sequence in self._sequences.values()), default=0)

    def _read_extradata(self, extradata: bytes) -> None:
        if extradata[:1] != b"\1":
            for unit in by_start_codes(extradata):
                self._keep_parameters(unit)
            return
        self._width = (extradata[21 if self._is_hevc else 4] & 3) + 1
        for unit in _of_hvcc(extradata) if self._is_hevc else of_avcc(extradata):
            self._keep_parameters(unit)

    def _keep_parameters(self, unit: bytes) -> None:
        kind = (unit[0] >> 1) & 63 if self._is_hevc else unit[0] & 31
        if self._is_hevc and kind == 33:
            number, sequence = _sequence_hevc(Bits(unit[2:]))
            self._sequences[number] = sequence
        elif self._is_hevc and kind == 34:
            bits = Bits(unit[2:])
            number = bits.number()
            self._hevc_pictures[number] = _Picture(bits.number(), bool(bits.take(1)), bool(bits.take(1)), bits.take(3))
        elif not self._is_hevc and kind == 7:
            number, sequence = read_sequence(unit)
            self._sequences[number] = sequence
        elif not self._is_hevc and kind == 8:
            number, picture = read_picture_parameters(unit)
            self._pictures[number] = picture

    def _units(self, packet: bytes) -> Iterator[bytes]:
        return by_lengths(packet, self._width) if self._width else by_start_codes(packet)

    def _count_h264(self, unit: bytes) -> int | None:
        self._keep_parameters(unit)
        if not is_slice(unit):
            return None
        start = read_slice_start(unit, Bits(unit[1:24]), self._sequences, self._pictures)
        refers, is_idr, sequence = bool(unit[0] & 0x60), unit[0] & 31 == IDR, start.sequence
        if is_idr:
            self._group += 1
            self._before, self._frame = (0, 0), None
        before, self._frame = self._frame, start.frame if refers or self._frame is None else self._frame
        is_gap = False
        if before is not None and not sequence.gaps_allowed:
            is_gap = start.frame not in (before, (before + 1) % (1 << sequence.frame_bits))  # frame_num (7.4.3)
        if sequence.kind == 1:
            raise ValueError("counts of another kind")
        count = self._packets  # shown as decoded (8.2.1.3)
        if sequence.kind == 0:
            count = self._whole_count(start.low_count, sequence.count_bits, refers=refers)
        return GAP if is_gap else count

    def _count_hevc(self, unit: bytes) -> int | None:
        kind, layer, level = (unit[0] >> 1) & 63, (unit[0] & 1) << 5 | unit[1] >> 3, (unit[1] & 7) - 1
        if layer:  # of another view or layer
            return None
        if kind in (33, 34):
            self._keep_parameters(unit)
        if kind == 36:  # end of sequence: the next picture begins a new one (HEVC, 8.1.3)
            self._restarts = True
        if kind > 21:
            return None
        bits = Bits(unit[2:24])  # slice_segment_header (7.3.6.1)
        if not bits.take(1):
            return None  # not the first one of its picture
        is_key = 16 <= kind <= 23
        if is_key:
            bits.take(1)
        picture = self._hevc_pictures[bits.number()]
        sequence = self._sequences[picture.sequence]
        if 16 <= kind <= 20 or self._restarts:  # BLA, IDR
            self._group += 1
            self._before = (0, 0)
        bits.take(picture.extra_bits)
        bits.number()
        bits.take(picture.output_flag + 2 * sequence.planes_apart)
        low = 0 if kind in (19, 20) else bits.take(sequence.count_bits)
        if 16 <= kind <= 20 or self._restarts:
            self._before = (0, low)
        self._restarts = False
        # The count continues from pictures that are no leading ones and to which others of their level refer (8.3.1).
        refers = level == 0 and not 6 <= kind <= 9 and not (kind < 16 and kind % 2 == 0)
        return self._whole_count(low, sequence.count_bits, refers=refers)

    def _whole_count(self, low: int, bits: int, *, refers: bool) -> int:
        """Complete a count of which the low bits are known (H.264, 8.2.1.1; HEVC, 8.3.1)."""
        high_before, low_before = self._before or (0, low)
        size = 1 << bits
        high = high_before
        if low < low_before and low_before - low >= size // 2:
            high += size
        elif low > low_before and low - low_before > size // 2:
            high -= size
        if refers or self._before is None:
            self._before = (high, low)
        return high + low


def _of_hvcc(data: bytes) -> Iterator[bytes]:
    at = 23
    for _ in range(data[22]):
        count = int.from_bytes(data[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            size = int.from_bytes(data[at : at + 2], "big")
            yield data[at + 2 : at + 2 + size]
            at += 2 + size


def _sequence_hevc(bits: Bits) -> tuple[int, Sequence]:
    """Read a sequence parameter set up to the counts (HEVC, 7.3.2.2.1)."""
    bits.take(4)
    levels = bits.take(3)
    bits.take(1)
    bits.take(96)  # general profile, tier and level (7.3.3)
    present = [(bits.take(1), bits.take(1)) for _ in range(levels)]
    if levels:
        bits.take(2 * (8 - levels))
    for profile, level in present:
        bits.take(88 * profile + 8 * level)
    number, planes_apart = bits.number(), False
    if bits.number() == 3:
        planes_apart = bool(bits.take(1))
    bits.number(), bits.number()
    if bits.take(1):
        for _ in range(4):
            bits.number()
    bits.number(), bits.number()
    return number, Sequence(0, bits.number() + 4, 0, True, planes_apart)
