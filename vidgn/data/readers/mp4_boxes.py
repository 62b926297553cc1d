"""The boxes of which mp4 and mov files consist (ISO/IEC 14496-12, 4.2): a length, a kind, a body."""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple


class OuterBox(NamedTuple):
    """A box on the top level of a file: it begins at `start`, its body at `body`; a length of 0 lasts to the end."""

    kind: bytes
    start: int
    body: int
    length: int


def outer_boxes(file: BinaryIO) -> Iterator[OuterBox]:
    """Yield the boxes on the top level; one that is shorter than its own head is the last."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return
        length, body = int.from_bytes(head[:4], "big"), at + 8
        if length == 1:  # a 64-bit length follows the kind
            length, body = int.from_bytes(head[8:16], "big"), at + 16
        yield OuterBox(head[4:8], at, body, length)
        if at + length < body:
            return
        at += length


def boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each box in a piece of a file, and where its body begins and ends; a long one ends it."""
    while at + 8 <= end and (length := int.from_bytes(data[at : at + 4], "big")) >= 8:
        yield data[at + 4 : at + 8], at + 8, min(at + length, end)
        at += length
