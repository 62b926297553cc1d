"""Why a file cannot be a video: read from its first bytes and its outer boxes, without a decoder."""

import os
from collections.abc import Iterator
from typing import BinaryIO

# Top-level boxes that an ISO media file may begin with (ISO/IEC 14496-12, 4.3 and 8).
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")
EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_FRAGMENT_BYTES = 4096  # a fragment's boxes up to where its first run says where its pictures lie


def damage(file: BinaryIO) -> str | None:
    """Say what is missing from a file whose container states its own size; None where nothing is.

    MPEG transport and program streams and flv state none: there a cut can only be seen in the last packet.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(64)
    if not size:
        return "empty file"
    if is_iso_media(head):
        return _damage_of_boxes(file, size)
    if head[:4] == b"RIFF" and head[4:8] != b"\xff\xff\xff\xff":  # all ones: unknown
        return _shortfall(8 + int.from_bytes(head[4:8], "little"), size)
    if head[:4] == EBML:
        return _damage_of_segment(head, size)
    return None


def is_iso_media(head: bytes) -> bool:
    """Whether a file that begins so is of the family of mp4 and mov; eight bytes are enough."""
    return head[4:8] in _FIRST_BOXES


def contents(file: BinaryIO) -> str:
    """Describe the first bytes of a file that no demuxer takes: quoted where they are text."""
    file.seek(0)
    head = file.read(48)
    if is_iso_media(head) or head[:4] in (b"RIFF", EBML):
        return "its headers are damaged"
    text = head.decode("ascii", errors="replace")
    if all(char.isprintable() or char in "\r\n\t" for char in text.replace("\ufffd", "\0")):
        return f"not a video: it begins with the text {text!r}"
    return f"not a video: it begins with the bytes {head[:12].hex(' ')}"


def boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each box in a piece of a file, and where its body begins and ends; a long one ends it."""
    while at + 8 <= end and (length := int.from_bytes(data[at : at + 4], "big")) >= 8:
        yield data[at + 4 : at + 8], at + 8, min(at + length, end)
        at += length


def _damage_of_boxes(file: BinaryIO, size: int) -> str | None:
    position, seen, before = 0, set(), 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        kind, length = header[4:8], int.from_bytes(header[:4], "big")
        if length == 1:  # a 64-bit length follows the kind
            length = int.from_bytes(header[8:16], "big")
        if kind in (b"moov", b"mdat", b"moof") and position + length > size:
            if kind == b"mdat" and b"moov" not in seen:
                break
            return _shortfall(position + length, size)
        if kind == b"moof" and kind not in seen:
            file.seek(position)
            head = file.read(min(length, _FRAGMENT_BYTES))
            why = _damage_of_fragment(head, at=position, length=length, tables=before)
            if why is not None:
                return why
        seen.add(kind)
        if kind == b"mdat":
            before = position + length  # what follows is tables, up to the next pictures
        if length < 8:  # 0: up to the end of the file; less is no box
            break
        position += length
    return None if b"moov" in seen else "no index (moov): incomplete download?"


def _damage_of_fragment(moof: bytes, *, at: int, length: int, tables: int) -> str | None:
    """Tell whether a fragment looks for its first picture in tables, which lie from `tables` up to its own end.

    The places are those of ISO/IEC 14496-12, 8.8.7 and 8.8.8.

    FFmpeg 8.1 writes such files: `global_sidx` puts a box before fragments whose places are written down already.
    """
    base, first = at, None
    for kind, start, end in boxes(moof, 8, len(moof)):
        for inner, body, _ in boxes(moof, start, end) if kind == b"traf" else ():
            flags = int.from_bytes(moof[body + 1 : body + 4], "big")
            if inner == b"tfhd" and flags & 1:  # base-data-offset-present
                base = int.from_bytes(moof[body + 8 : body + 16], "big")
            if inner == b"trun" and flags & 1 and first is None:  # data-offset-present
                first = base + int.from_bytes(moof[body + 8 : body + 12], "big", signed=True)
    if first is None or not tables <= first < at + length:
        return None
    return (
        f"its first fragment (bytes {at} to {at + length}) says that its pictures begin at byte {first}, among "
        "tables; FFmpeg writes such files with movflags=global_sidx alone: add default_base_moof and mux again"
    )


def _damage_of_segment(head: bytes, size: int) -> str | None:
    """Compare a Matroska segment's length with the file (RFC 8794, 4: variable-size integers)."""
    at = head.find(_SEGMENT) + len(_SEGMENT)
    if at < len(_SEGMENT) or at >= len(head):
        return None
    width = 9 - head[at].bit_length()
    field = int.from_bytes(head[at : at + width], "big")
    length = field & ((1 << 7 * width) - 1)
    if length == (1 << 7 * width) - 1:  # all ones: unknown, a live stream
        return None
    return _shortfall(at + width + length, size)


def _shortfall(promised: int, size: int) -> str | None:
    if size >= promised:
        return None
    return f"truncated: {promised - size} of {promised} bytes are missing: incomplete download?"
