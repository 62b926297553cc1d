"""In what order a decoder shows the pictures of H.264 and HEVC: the streams' own order count, read from slice headers.

    packet 0  IDR  count 0        times in the file's order would say 0 1 2 3,
    packet 1  P    count 8        the counts say 0 3 2 1: that is what a decoder shows
    packet 2  B    count 4
    packet 3  B    count 2

Counts begin again at pictures before which all others are shown (IDR, BLA). A packet that is not
understood here has no count; nor has one of H.264 before which packets were lost, whose picture need not be shown.
"""

from vidgn.data.readers.bitstream.h264 import IDR, ParameterSets, is_slice
from vidgn.data.readers.bitstream.hevc import HevcParameterSets, unit_kind
from vidgn.data.readers.bitstream.units import Bits

COUNTED_CODECS = {"h264", "hevc"}
NO_COUNT = -(1 << 63)
GAP = NO_COUNT + 1  # a picture to which this one may refer is missing before it
NEW_SEQUENCE = 1 << 40  # above any count (32 bits)


class OrderCounter:
    """Counts the packets of a stream in the order of decoding; begin at a key packet.

    Args:
        codec: h264 or hevc.
        extradata: Of the stream; its form says how units are divided (ISO/IEC 14496-15, 5.3.3.1 and 8.3.3.1).
    """

    def __init__(self, codec: str, extradata: bytes) -> None:
        self._parameters = HevcParameterSets(extradata) if codec == "hevc" else ParameterSets(extradata)
        self._group = 0
        self._before: tuple[int, int] | None = None  # high and low part of the count that the next one is relative to
        self._restarts = False
        self._frame: int | None = None  # number of the last frame of H.264 to which others may refer
        self._packets = 0

    def count(self, packet: bytes) -> int:
        """Return a number that grows in the order of showing.

        `NO_COUNT` where the packet is not understood, `GAP` where packets before it were lost.

        Args:
            packet: The next one, or enough of its beginning to hold the first slice header.
        """
        self._packets += 1
        parameters = self._parameters
        try:
            for unit in parameters.units(packet):
                if isinstance(parameters, HevcParameterSets):
                    count = self._count_hevc(unit, parameters)
                else:
                    count = self._count_h264(unit, parameters)
                if count is not None:
                    return count if count == GAP else self._group * NEW_SEQUENCE + count
        except (ValueError, IndexError, KeyError):  # a damaged or unknown header: the decoder has to tell the order
            return NO_COUNT
        return NO_COUNT

    def restarts_at(self, packet: bytes) -> bool:
        """Tell whether an H.264 packet forgets every picture before it (IDR)."""
        return any(unit[0] & 31 == IDR for unit in self._parameters.units(packet))

    @property
    def num_references(self) -> int:
        """How many pictures of H.264 others may refer to at a time: no encoder reorders over more."""
        return self._parameters.num_references if isinstance(self._parameters, ParameterSets) else 0

    def _count_h264(self, unit: bytes, parameters: ParameterSets) -> int | None:
        parameters.keep(unit)
        if not is_slice(unit):
            return None
        start = parameters.read_slice_start(unit, Bits(unit[1:24]))
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

    def _count_hevc(self, unit: bytes, parameters: HevcParameterSets) -> int | None:
        kind, layer, level = unit_kind(unit), (unit[0] & 1) << 5 | unit[1] >> 3, (unit[1] & 7) - 1
        if layer:  # of another view or layer
            return None
        parameters.keep(unit)
        if kind == 36:  # end of sequence: the next picture begins a new one (HEVC, 8.1.3)
            self._restarts = True
        start = parameters.read_low_count(unit) if kind <= 21 else None
        if start is None:
            return None
        low, sequence = start
        if 16 <= kind <= 20 or self._restarts:  # BLA, IDR
            self._group += 1
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
