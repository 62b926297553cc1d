"""Why a file cannot be a video: read from its first bytes and its outer boxes, without a decoder."""

import os
from typing import BinaryIO

# Top-level boxes that an ISO media file may begin with (ISO/IEC 14496-12, 4.3 and 8).
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"


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
    if head[:4] == _EBML:
        return _damage_of_segment(head, size)
    return None


def is_iso_media(head: bytes) -> bool:
    """Whether a file that begins so is of the family of mp4 and mov; eight bytes are enough."""
    return head[4:8] in _FIRST_BOXES


def contents(file: BinaryIO) -> str:
    """Describe the first bytes of a file that no demuxer takes: quoted where they are text."""
    file.seek(0)
    head = file.read(48)
    if is_iso_media(head) or head[:4] in (b"RIFF", _EBML):
        return "its headers are damaged"
    text = head.decode("ascii", errors="replace")
    if all(char.isprintable() or char in "\r\n\t" for char in text.replace("\ufffd", "\0")):
        return f"not a video: it begins with the text {text!r}"
    return f"not a video: it begins with the bytes {head[:12].hex(' ')}"


def _damage_of_boxes(file: BinaryIO, size: int) -> str | None:
    position, seen = 0, set()
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        kind, length = header[4:8], int.from_bytes(header[:4], "big")
        if length == 1:  # a 64-bit length follows the kind
            length = int.from_bytes(header[8:16], "big")
        seen.add(kind)
        if kind in (b"moov", b"mdat", b"moof") and position + length > size:
            if kind == b"mdat" and b"moov" not in seen:
                break
            return _shortfall(position + length, size)
        if length < 8:  # 0: up to the end of the file; less is no box
            break
        position += length
    return None if b"moov" in seen else "no index (moov): incomplete download?"


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
