"""The units of H.264 and HEVC streams, and the bits of a unit."""

from collections.abc import Iterator


def by_start_codes(data: bytes) -> Iterator[bytes]:
    """Yield the units of a byte stream (H.264, annex B; HEVC, annex B)."""
    at = data.find(b"\0\0\1")
    while at >= 0:
        after = data.find(b"\0\0\1", at + 3)
        unit = data[at + 3 : after if after >= 0 else len(data)]
        if unit:
            yield unit
        at = after


def by_lengths(data: bytes, width: int) -> Iterator[bytes]:
    """Yield units that follow their lengths of `width` bytes (ISO/IEC 14496-15, 5.3.3.1 and 8.3.3.1)."""
    at = 0
    while at + width < len(data):
        size = int.from_bytes(data[at : at + width], "big")
        at += width
        if size:
            yield data[at : at + size]
        at += size


class Bits:
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
