"""Why a file cannot be a video: read from its first bytes and its outer boxes, without a decoder."""

import os
from typing import BinaryIO

from vidgn.data.readers.mp4_boxes import boxes, outer_boxes

# Top-level boxes that an ISO media file may begin with (ISO/IEC 14496-12, 4.3 and 8).
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")
EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
# Containers that are recognized and not read: their demuxers are not on the list of those that may be opened.
_UNREAD = {
    b"\x06\x0e\x2b\x34": "MXF",  # SMPTE 377-1, 5.2.1: the universal label of every key
    b"YUV4": "YUV4MPEG2",
    b"DKIF": "IVF",
    b"nut/": "NUT",
    b"\x1f\x07\x00": "DV",  # IEC 61834-2: the first header block
    b"\x12\x00\x0a": "OBU",  # AV1, 5.3: a temporal delimiter, then a sequence header
}
# Of these no other container takes the packets as they are (tried with FFmpeg 5.1).
_TO_ENCODE = {
    b".RMF": "a video in the container RealMedia",
    b"\x89PNG\r\n\x1a\n": "an image (PNG)",
    b"\xff\xd8\xff": "an image (JPEG)",
    b"\x00\x00\x00\x01": "a raw stream of H.264 or HEVC without a container",  # H.264, B.1.1: a start code
    b"\x00\x00\x01\x67": "a raw stream of H.264 without a container",
    b"\x00\x00\x01\x09": "a raw stream of H.264 without a container",
    b"\x00\x00\x01\xb3": "a raw stream of MPEG-1 or MPEG-2 without a container",  # 6.2.2.1: sequence_header_code
    b"\x00\x00\x01\xb0": "a raw stream of MPEG-4 part 2 without a container",
}
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
    if head[8:12] == b"WEBP":
        return "an image (WebP), which is not read as a video; encode it as mp4, mkv or gif"
    if is_iso_media(head) or head[:4] in (b"RIFF", EBML):
        return "its headers are damaged"
    for start, name in _UNREAD.items():
        if head.startswith(start):
            what = f"a video in the container {name}, which is not read"
            return f"{what}; copy it into another one: ffmpeg -i FILE -c copy FILE.mkv"
    for start, name in _TO_ENCODE.items():
        if head.startswith(start):
            return f"{name}, which is not read as a video; encode it: ffmpeg -i FILE -c:v libx264 -qp 0 FILE.mkv"
    text = head.decode("ascii", errors="replace")
    if all(char.isprintable() or char in "\r\n\t" for char in text.replace("\ufffd", "\0")):
        return f"not a video: it begins with the text {text!r}"
    return f"not a video: it begins with the bytes {head[:12].hex(' ')}"


def _damage_of_boxes(file: BinaryIO, size: int) -> str | None:
    seen, before = set(), 0
    for kind, start, _, length in outer_boxes(file):
        end = start + length
        if kind in (b"moov", b"mdat", b"moof") and end > size:
            if kind == b"mdat" and b"moov" not in seen:
                break
            return _shortfall(end, size)
        if kind == b"moof" and kind not in seen:
            file.seek(start)
            head = file.read(min(length, _FRAGMENT_BYTES))
            why = _damage_of_fragment(head, at=start, length=length, tables=before)
            if why is not None:
                return why
        seen.add(kind)
        if kind == b"mdat":
            before = end  # what follows is tables, up to the next pictures
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
