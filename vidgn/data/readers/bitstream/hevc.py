"""The headers of HEVC: parameter sets and the beginnings of slices, bit by bit (ITU-T H.265, 7.3)."""

from collections.abc import Iterator
from typing import NamedTuple

from vidgn.data.readers.bitstream.units import Bits, by_lengths, by_start_codes


class HevcSequence(NamedTuple):
    """What a sequence parameter set says."""

    count_bits: int
    planes_apart: bool


class HevcPicture(NamedTuple):
    """What a picture parameter set says of slice headers."""

    sequence: int
    dependent_slices: bool
    output_flag: bool
    extra_bits: int


class HevcParameterSets:
    """The parameter sets of a stream by number, and how its packets are divided into units.

    Args:
        extradata: Of the stream; its form says how units are divided (ISO/IEC 14496-15, 8.3.3.1).
    """

    def __init__(self, extradata: bytes) -> None:
        self._sequences: dict[int, HevcSequence] = {}
        self._pictures: dict[int, HevcPicture] = {}
        self._width = 0  # bytes of a unit's length; 0: start codes divide units
        try:
            if extradata[:1] == b"\1":
                self._width = (extradata[21] & 3) + 1
            for unit in _of_hvcc(extradata) if self._width else by_start_codes(extradata):
                self.keep(unit)
        except (ValueError, IndexError):
            self._sequences.clear()

    def units(self, packet: bytes) -> Iterator[bytes]:
        """Yield the units of a packet."""
        return by_lengths(packet, self._width) if self._width else by_start_codes(packet)

    def keep(self, unit: bytes) -> None:
        """Keep a unit that is a parameter set.

        Raises:
            ValueError: The unit ends early.
        """
        if unit_kind(unit) == 33:
            number, sequence = _read_sequence(unit)
            self._sequences[number] = sequence
        elif unit_kind(unit) == 34:
            bits = Bits(unit[2:])
            number = bits.number()
            self._pictures[number] = HevcPicture(bits.number(), bool(bits.take(1)), bool(bits.take(1)), bits.take(3))

    def read_low_count(self, unit: bytes) -> tuple[int, HevcSequence] | None:
        """Read the low bits of the order count of a slice (7.3.6.1); None: it is not the first one of its picture.

        Raises:
            ValueError, KeyError: The unit ends early, or refers to parameters that are missing.
        """
        bits, kind = Bits(unit[2:24]), unit_kind(unit)
        if not bits.take(1):
            return None
        if 16 <= kind <= 23:
            bits.take(1)
        picture = self._pictures[bits.number()]
        sequence = self._sequences[picture.sequence]
        bits.take(picture.extra_bits)
        bits.number()
        bits.take(picture.output_flag + 2 * sequence.planes_apart)
        return 0 if kind in (19, 20) else bits.take(sequence.count_bits), sequence


def unit_kind(unit: bytes) -> int:
    """Return nal_unit_type (7.4.2.2)."""
    return (unit[0] >> 1) & 63


def _of_hvcc(data: bytes) -> Iterator[bytes]:
    at = 23
    for _ in range(data[22]):
        count = int.from_bytes(data[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            size = int.from_bytes(data[at : at + 2], "big")
            yield data[at + 2 : at + 2 + size]
            at += 2 + size


def _read_sequence(unit: bytes) -> tuple[int, HevcSequence]:
    """Read a sequence parameter set up to the counts (7.3.2.2.1)."""
    bits = Bits(unit[2:])
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
    return number, HevcSequence(bits.number() + 4, planes_apart)
