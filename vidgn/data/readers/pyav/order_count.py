"""In what order a decoder shows the pictures of H.264 and HEVC: the streams' own order count, read from slice headers.

    packet 0  IDR  count 0        times in the file's order would say 0 1 2 3,
    packet 1  P    count 8        the counts say 0 3 2 1: that is what a decoder shows
    packet 2  B    count 4
    packet 3  B    count 2

Counts begin again at pictures before which all others are shown (IDR, BLA). A packet that is not
understood here has no count.
"""

from collections.abc import Iterator
from typing import NamedTuple

COUNTED_CODECS = {"h264", "hevc"}
NO_COUNT = -(1 << 63)
_NEW_SEQUENCE = 1 << 40  # above any count (32 bits)


class _Bits:
    """Reads the bits of a unit, without the bytes that prevent start codes (H.264, 7.4.1; HEVC, 7.4.2)."""

    __slots__ = ("_left", "_value")

    def __init__(self, data: bytes) -> None:
        plain = data.replace(b"\0\0\3", b"\0\0")
        self._left = 8 * len(plain)
        self._value = int.from_bytes(plain, "big")  # of the bits that are left

    def take(self, count: int) -> int:
        """Read an unsigned number of `count` bits.

        Raises:
            ValueError: The unit ends before.
        """
        left = self._left - count
        if left < 0:
            raise ValueError("the unit ends too early")
        taken = self._value >> left
        self._value ^= taken << left
        self._left = left
        return taken

    def number(self) -> int:
        """Read ue(v) (H.264, 9.1)."""
        return self.take(2 * (self._left - self._value.bit_length()) + 1) - 1


class _Sequence(NamedTuple):
    """What a sequence parameter set says of counts; `kind` is pic_order_cnt_type."""

    kind: int
    count_bits: int
    frame_bits: int
    frames_only: bool
    planes_apart: bool


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
        self._sequences: dict[int, _Sequence] = {}
        self._pictures: dict[int, int | _Picture] = {}
        self._group = 0
        self._before: tuple[int, int] | None = None  # high and low part of the count that the next one is relative to
        self._restarts = False
        self._packets = 0
        self._width = 0  # bytes of a unit's length; 0: start codes divide units
        try:
            self._read_extradata(extradata)
        except (ValueError, IndexError):
            self._sequences.clear()

    def count(self, packet: bytes) -> int:
        """Return a number that grows in the order of showing; `NO_COUNT` where the packet is not understood.

        Args:
            packet: The next one, or enough of its beginning to hold the first slice header.
        """
        self._packets += 1
        try:
            for unit in self._units(packet):
                count = self._count_hevc(unit) if self._is_hevc else self._count_h264(unit)
                if count is not None:
                    return self._group * _NEW_SEQUENCE + count
        except (ValueError, IndexError, KeyError):  # a damaged or unknown header: the decoder has to tell the order
            return NO_COUNT
        return NO_COUNT

    def _read_extradata(self, extradata: bytes) -> None:
        if extradata[:1] != b"\1":
            for unit in _by_start_codes(extradata):
                self._keep_parameters(unit)
            return
        self._width = (extradata[21 if self._is_hevc else 4] & 3) + 1
        for unit in _of_hvcc(extradata) if self._is_hevc else _of_avcc(extradata):
            self._keep_parameters(unit)

    def _keep_parameters(self, unit: bytes) -> None:
        kind = (unit[0] >> 1) & 63 if self._is_hevc else unit[0] & 31
        if self._is_hevc and kind == 33:
            number, sequence = _sequence_hevc(_Bits(unit[2:]))
            self._sequences[number] = sequence
        elif self._is_hevc and kind == 34:
            bits = _Bits(unit[2:])
            number = bits.number()
            self._pictures[number] = _Picture(bits.number(), bool(bits.take(1)), bool(bits.take(1)), bits.take(3))
        elif not self._is_hevc and kind == 7:
            number, sequence = _sequence_h264(unit)
            self._sequences[number] = sequence
        elif not self._is_hevc and kind == 8:
            bits = _Bits(unit[1:16])
            number = bits.number()
            self._pictures[number] = bits.number()

    def _units(self, packet: bytes) -> Iterator[bytes]:
        if not self._width:
            yield from _by_start_codes(packet)
            return
        at = 0
        while at + self._width < len(packet):
            size = int.from_bytes(packet[at : at + self._width], "big")
            at += self._width
            yield packet[at : at + size]
            at += size

    def _count_h264(self, unit: bytes) -> int | None:
        kind = unit[0] & 31  # nal_unit_type (H.264, table 7-1)
        if kind in (7, 8):
            self._keep_parameters(unit)
        if kind not in (1, 2, 5):
            return None
        bits = _Bits(unit[1:24])  # slice_header (7.3.3)
        bits.number(), bits.number()
        sequence = self._sequences[self._sequence_number(bits.number())]
        is_idr = kind == 5
        if is_idr:
            self._group += 1
            self._before = (0, 0)
        if sequence.kind == 2:  # shown as decoded (8.2.1.3)
            return self._packets
        if sequence.kind != 0:
            raise ValueError("counts of another kind")
        bits.take(2 * sequence.planes_apart + sequence.frame_bits)
        if not sequence.frames_only and bits.take(1):
            bits.take(1)
        if is_idr:
            bits.number()
        return self._whole_count(bits.take(sequence.count_bits), sequence.count_bits, refers=bool(unit[0] & 0x60))

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
        bits = _Bits(unit[2:24])  # slice_segment_header (7.3.6.1)
        if not bits.take(1):
            return None  # not the first one of its picture
        is_key = 16 <= kind <= 23
        if is_key:
            bits.take(1)
        picture = self._pictures[bits.number()]
        assert isinstance(picture, _Picture)
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

    def _sequence_number(self, picture: int) -> int:
        number = self._pictures[picture]
        assert isinstance(number, int)
        return number

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


def _by_start_codes(data: bytes) -> Iterator[bytes]:
    """Yield the units of a byte stream (H.264, annex B; HEVC, annex B)."""
    at = data.find(b"\0\0\1")
    while at >= 0:
        after = data.find(b"\0\0\1", at + 3)
        unit = data[at + 3 : after if after >= 0 else len(data)]
        if unit:
            yield unit
        at = after


def _of_avcc(data: bytes) -> Iterator[bytes]:
    at = 5
    for mask in (31, 255):  # sequence parameter sets, picture parameter sets
        count = data[at] & mask
        at += 1
        for _ in range(count):
            size = int.from_bytes(data[at : at + 2], "big")
            yield data[at + 2 : at + 2 + size]
            at += 2 + size


def _of_hvcc(data: bytes) -> Iterator[bytes]:
    at = 23
    for _ in range(data[22]):
        count = int.from_bytes(data[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            size = int.from_bytes(data[at : at + 2], "big")
            yield data[at + 2 : at + 2 + size]
            at += 2 + size


_WITH_CHROMA = (44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244)  # profile_idc (H.264, 7.3.2.1.1)


def _sequence_h264(unit: bytes) -> tuple[int, _Sequence]:
    bits = _Bits(unit[4:])
    number, planes_apart = bits.number(), False
    if unit[1] in _WITH_CHROMA:
        chroma = bits.number()
        if chroma == 3:
            planes_apart = bool(bits.take(1))
        bits.number(), bits.number(), bits.take(1)
        if bits.take(1):
            for size in [16] * 6 + [64] * (6 if chroma == 3 else 2):
                _pass_scaling_list(bits, size)
    frame_bits, kind = bits.number() + 4, bits.number()
    if kind == 1:
        return number, _Sequence(1, 0, frame_bits, True, planes_apart)
    count_bits = bits.number() + 4 if kind == 0 else 0
    bits.number(), bits.take(1), bits.number(), bits.number()
    return number, _Sequence(kind, count_bits, frame_bits, bool(bits.take(1)), planes_apart)


def _pass_scaling_list(bits: _Bits, size: int) -> None:
    """Read over a list of scaling factors (H.264, 7.3.2.1.1.1)."""
    last = following = 8
    for _ in range(size if bits.take(1) else 0):
        if following:
            code = bits.number()  # se(v), 9.1.1
            following = (last + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
        last = following or last


def _sequence_hevc(bits: _Bits) -> tuple[int, _Sequence]:
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
    return number, _Sequence(0, bits.number() + 4, 0, True, planes_apart)
