"""What PyAV finds in a file that another back end would get wrong; such a file is refused, and PyAV named."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from av.video.frame import VideoFrame

from vidgn.data.readers.diagnose import EBML, is_iso_media
from vidgn.data.readers.mp4_boxes import outer_boxes
from vidgn.data.readers.pyav.color_converter import display_matrix
from vidgn.data.readers.pyav.orientation import is_mirrored
from vidgn.data.readers.pyav.reader import PyavReader
from vidgn.data.readers.types import VideoDecodeError

EIGHT_BITS = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray"}


def refusal(path: str, why: str) -> VideoDecodeError:
    """Say what is in the way and which back end reads the file."""
    return VideoDecodeError(path, f"{why}; use backend='pyav', which reads it exactly")


def obstacle_in_start(path: str) -> str | None:
    """Name what is amiss with the first bytes of a file whose pictures are those of mp4/mov or mkv/webm.

    A playlist whose first line a demuxer of mp4 passes over as a box is a video to PyAV, which is told the formats to
    try. Another FFmpeg takes it for a playlist, and opens the files that it names.
    """
    with open(path, "rb") as file:
        head = file.read(8)
    if is_iso_media(head) or head.startswith(EBML):
        return None
    return f"it begins with the bytes {head.hex(' ')}, as no mp4/mov or mkv/webm should"


def obstacle_in_keys(probe: PyavReader, *, in_picture: Callable[[VideoFrame], str | None]) -> str | None:
    """Decode each key packet alone and name the first obstacle.

    Args:
        probe: The file.
        in_picture: Names the obstacle in one picture.
    """
    facts = probe.source.facts
    for key in probe.index.keys:
        pictures = [picture for _, picture in probe.decoder.decode(key, key)]
        if len(pictures) != probe.source.packets[key].shown:  # an edit list may hide a key
            return f"packet {key} says that decoding can begin there, but it cannot"
        for picture in pictures:
            if (picture.height, picture.width) != (facts.height, facts.width):
                return "its pictures change size"
            why = in_picture(picture)
            if why:
                return why
    return None


def key_without_idr(probe: PyavReader) -> int | None:
    """Find the first key packet of H.264 that is not an IDR picture, as in open groups and gradual refresh."""
    extradata = probe.source.codec_context.extradata or b""
    for key in probe.index.keys:
        probe.source.begin(key)
        ((_, packet),) = probe.source.walk(key, key)
        if not is_idr(bytes(packet), extradata=extradata):
            return key
    return None


def close_keys(probe: PyavReader) -> tuple[int, int] | None:
    """Find two keys of a fragmented mp4 of which FFmpeg's seek can take the second for the first.

    Asked there for the time at which a key is shown, it goes to the last key that is decoded until then (elsewhere it
    compares times of showing). Packet n is decoded when the one is shown that is n - depth in the order of showing,
    where the decoder holds back `depth` pictures.
    """
    if not _is_fragmented(probe.path):
        return None
    packets = probe.source.packets
    place = np.argsort(np.argsort(np.asarray(packets.times), kind="stable"))  # in the order of showing, (P,)
    depth = probe.source.reorder_depth
    return next(((a, b) for a, b in pairwise(probe.index.keys) if b - depth <= place[a]), None)


def is_idr(packet: bytes, *, extradata: bytes) -> bool:
    """Tell whether the first slice of an H.264 packet is an IDR's, nal_unit_type 5 (ITU-T H.264, table 7-1).

    Args:
        packet: As mp4 and mkv hold it, a size before each unit.
        extradata: AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1); with anything else the answer is no.
    """
    if len(extradata) < 5 or extradata[0] != 1:
        return False
    prefix, at = (extradata[4] & 3) + 1, 0
    while at + prefix < len(packet):
        kind = packet[at + prefix] & 31
        if kind in (1, 5):
            return kind == 5
        at += prefix + int.from_bytes(packet[at : at + prefix], "big")
    return False


def _is_fragmented(path: str) -> bool:
    """Tell whether a box `moof` stands on the top level of a file (ISO/IEC 14496-12, 8.8.4)."""
    with open(path, "rb") as file:
        return any(box.kind == b"moof" for box in outer_boxes(file))


def mirrored(picture: VideoFrame) -> str | None:
    """Say so if the picture is to be shown as in a mirror."""
    matrix = display_matrix(picture)
    return "its pictures are mirrored" if matrix is not None and is_mirrored(matrix) else None


def first_line(err: Exception) -> str:
    """Take the sentence out of a message that a C++ stack trace follows."""
    return str(err).strip().splitlines()[0] if str(err).strip() else type(err).__name__
