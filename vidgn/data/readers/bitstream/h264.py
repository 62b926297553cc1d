"""The headers of H.264: parameter sets and the beginnings of slices, bit by bit (ITU-T H.264, 7.3)."""

from collections.abc import Iterator
from typing import NamedTuple

from vidgn.data.readers.bitstream.units import Bits, by_lengths, by_start_codes


class Sequence(NamedTuple):
    """What a sequence parameter set says; `kind` is pic_order_cnt_type, `chroma` chroma_format_idc."""

    kind: int
    count_bits: int
    frame_bits: int
    frames_only: bool
    planes_apart: bool
    chroma: int = 1
    num_references: int = 0
    gaps_allowed: bool = False


class PictureParameters(NamedTuple):
    """What a picture parameter set says of slice headers; `num_references` are the defaults of lists 0 and 1."""

    sequence: int
    field_counts: bool
    num_references: tuple[int, int] = (1, 1)
    weights: tuple[bool, bool] = (False, False)  # explicit ones, of P and of B slices
    redundant: bool = False
    is_plain: bool = True  # False: it divides pictures into groups of slices, and is not read to its end


class SliceStart(NamedTuple):
    """The beginning of a slice header; `low_count` is pic_order_cnt_lsb."""

    kind: int
    sequence: Sequence
    picture: PictureParameters
    frame: int
    is_field: bool
    low_count: int


_SLICES, IDR = (1, 2, 5), 5  # nal_unit_type (table 7-1)


class ParameterSets:
    """The parameter sets of a stream by number, and how its packets are divided into units.

    Args:
        extradata: Of the stream; its form says how units are divided (ISO/IEC 14496-15, 5.3.3.1).
    """

    def __init__(self, extradata: bytes) -> None:
        self._sequences: dict[int, Sequence] = {}
        self._pictures: dict[int, PictureParameters] = {}
        self._width = 0  # bytes of a unit's length; 0: start codes divide units
        try:
            if extradata[:1] == b"\1":
                self._width = (extradata[4] & 3) + 1
            for unit in _of_avcc(extradata) if self._width else by_start_codes(extradata):
                self.keep(unit)
        except (ValueError, IndexError):
            self._sequences.clear()

    @property
    def num_references(self) -> int:
        """How many pictures others may refer to at a time: no encoder reorders over more."""
        return max((sequence.num_references for sequence in self._sequences.values()), default=0)

    def units(self, packet: bytes) -> Iterator[bytes]:
        """Yield the units of a packet."""
        return by_lengths(packet, self._width) if self._width else by_start_codes(packet)

    def keep(self, unit: bytes) -> None:
        """Keep a unit that is a parameter set.

        Raises:
            ValueError: The unit ends early.
        """
        if unit[0] & 31 == 7:
            number, sequence = _read_sequence(unit)
            self._sequences[number] = sequence
        elif unit[0] & 31 == 8:
            number, picture = _read_picture_parameters(unit)
            self._pictures[number] = picture

    def read_slice_start(self, unit: bytes, bits: Bits) -> SliceStart:
        """Read a slice header up to the order count.

        Args:
            unit: From its first byte on.
            bits: Of the unit behind its first byte.

        Raises:
            ValueError, KeyError: The unit ends early, or refers to parameters that are missing.
        """
        bits.number()
        kind = bits.number()
        picture = self._pictures[bits.number()]
        sequence = self._sequences[picture.sequence]
        bits.take(2 * sequence.planes_apart)
        frame = bits.take(sequence.frame_bits)
        is_field = not sequence.frames_only and bool(bits.take(1))
        if is_field:
            bits.take(1)
        if unit[0] & 31 == IDR:
            bits.number()
        return SliceStart(kind % 5, sequence, picture, frame, is_field, bits.take(sequence.count_bits))


def is_slice(unit: bytes) -> bool:
    """Tell whether a unit begins with a slice header."""
    return unit[0] & 31 in _SLICES


def _of_avcc(data: bytes) -> Iterator[bytes]:
    """Yield the parameter sets of an avcC (ISO/IEC 14496-15, 5.3.3.1)."""
    at = 5
    for mask in (31, 255):  # sequence parameter sets, picture parameter sets
        count = data[at] & mask
        at += 1
        for _ in range(count):
            size = int.from_bytes(data[at : at + 2], "big")
            yield data[at + 2 : at + 2 + size]
            at += 2 + size


_WITH_CHROMA = (44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244)  # profile_idc (7.3.2.1.1)


def _read_sequence(unit: bytes) -> tuple[int, Sequence]:
    """Read a sequence parameter set with its number."""
    bits = Bits(unit[4:])
    number, planes_apart, chroma = bits.number(), False, 1
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
        return number, Sequence(1, 0, frame_bits, True, planes_apart, chroma)
    count_bits = bits.number() + 4 if kind == 0 else 0
    num_references, gaps_allowed = bits.number(), bool(bits.take(1))
    bits.number(), bits.number()
    frames_only = bool(bits.take(1))
    chroma = 0 if planes_apart else chroma
    return number, Sequence(
        kind, count_bits, frame_bits, frames_only, planes_apart, chroma, num_references, gaps_allowed
    )


def _pass_scaling_list(bits: Bits, size: int) -> None:
    """Read over a list of scaling factors (7.3.2.1.1.1)."""
    last = following = 8
    for _ in range(size if bits.take(1) else 0):
        if following:
            code = bits.number()  # se(v), 9.1.1
            following = (last + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
        last = following or last


def _read_picture_parameters(unit: bytes) -> tuple[int, PictureParameters]:
    """Read a picture parameter set with its number (7.3.2.2)."""
    bits = Bits(unit[1:64])
    number, sequence = bits.number(), bits.number()
    bits.take(1)
    field_counts = bool(bits.take(1))
    if bits.number():
        return number, PictureParameters(sequence, field_counts, is_plain=False)
    num_references = (bits.number() + 1, bits.number() + 1)
    weights = (bool(bits.take(1)), bits.take(2) == 1)
    bits.number(), bits.number(), bits.number(), bits.take(2)
    return number, PictureParameters(sequence, field_counts, num_references, weights, bool(bits.take(1)))
