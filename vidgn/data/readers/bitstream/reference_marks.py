"""Which packets of H.264 name pictures that are missing: those of a stream that was cut at an open group.

    before the cut   ... P7   K8  P9 ...      P9 says: P7 is no longer referred to
    behind it                 K8  P9 ...      P9 says the same of a picture that nobody has

The pictures of such packets are whole; a decoder that takes errors seriously reports them nonetheless
(memory_management_control_operation, ITU-T H.264, 7.4.3.3).
"""

from collections.abc import Iterable

from vidgn.data.readers.bitstream.h264 import IDR, ParameterSets, SliceStart, is_slice
from vidgn.data.readers.bitstream.units import Bits

_HEADER = 1024  # bytes that hold every slice header
_P, _B, _SP = 0, 1, 3  # slice_type (table 7-6)


def name_missing_pictures(packets: Iterable[bytes], extradata: bytes) -> list[bool]:
    """Tell of each packet whether it takes the mark of a reference from a picture that was not decoded before it.

    Args:
        packets: In the order of decoding; nothing before the first one is decoded.
        extradata: Of the stream.
    """
    marks = _Marks(extradata)
    return [marks.names_missing(data) for data in packets]


class _Marks:
    """The frame numbers of the pictures to which others may refer (8.2.5)."""

    def __init__(self, extradata: bytes) -> None:
        self._parameters = ParameterSets(extradata)
        self._references: list[int] = []  # frame_num of short-term ones, oldest first

    def names_missing(self, packet: bytes) -> bool:
        try:
            for unit in self._parameters.units(packet):
                self._parameters.keep(unit)
                if is_slice(unit):
                    return self._mark(unit)
        except (ValueError, IndexError, KeyError):  # a header that is not understood explains no error
            self._references.clear()
        return False

    def _mark(self, unit: bytes) -> bool:
        bits = Bits(unit[1:_HEADER])
        start = self._parameters.read_slice_start(unit, bits)
        if not unit[0] & 0x60:  # nobody refers to it
            return False
        if unit[0] & 31 == IDR:
            self._references = [start.frame]
            return False
        if start.is_field or not start.picture.is_plain or start.sequence.kind == 1:
            raise ValueError("marks of another kind")
        _pass_to_marks(bits, start)
        size, is_missing = 1 << start.sequence.frame_bits, False
        if bits.take(1):
            while operation := bits.number():
                if operation in (1, 3):
                    named = (start.frame - bits.number() - 1) % size
                    is_missing |= named not in self._references
                    self._references = [frame for frame in self._references if frame != named]
                if operation in (2, 3, 4, 6):
                    bits.number()
                if operation == 5:
                    self._references.clear()
        self._references.append(start.frame)
        del self._references[: -max(1, start.sequence.num_references)]
        return is_missing


def _pass_to_marks(bits: Bits, start: SliceStart) -> None:
    """Read over the part of a slice header between the order count and the marks (7.3.3)."""
    picture, kind = start.picture, start.kind
    if picture.field_counts and start.sequence.kind == 0:
        bits.number()
    if picture.redundant:
        bits.number()
    if kind == _B:
        bits.take(1)
    num_references = list(picture.num_references)
    num_lists = {_P: 1, _SP: 1, _B: 2}.get(kind, 0)
    if num_lists and bits.take(1):
        for which in range(num_lists):
            num_references[which] = bits.number() + 1
    for _ in range(num_lists):
        if bits.take(1):
            while bits.number() != 3:
                bits.number()
    if num_lists and picture.weights[kind == _B]:
        _pass_weights(bits, num_references[:num_lists], has_chroma=start.sequence.chroma > 0)


def _pass_weights(bits: Bits, num_references: list[int], *, has_chroma: bool) -> None:
    """Read over a table of weights of references (7.3.3.2)."""
    bits.number()
    if has_chroma:
        bits.number()
    for count in num_references:
        for _ in range(count):
            for size in (2, 4) if has_chroma else (2,):
                for _ in range(size * bits.take(1)):
                    bits.number()
