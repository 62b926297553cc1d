"""Compare what random accesses give with a plain decode of the same file."""

import random
import zlib
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from av.video.frame import VideoFrame

from vidgn.data.readers.pyav.color_converter import Converter
from vidgn.data.readers.pyav.reader import PyavReader
from vidgn.data.readers.types import EVERYTHING, VideoDecodeError

_SAMPLE = 6  # frames that are read alone


class Checked(NamedTuple):
    """How many frames a plain decode gave, and the rotation of the first (degrees)."""

    num_frames: int
    rotation: int


def check_order(video: PyavReader) -> Checked:
    """Decode a video plainly, from its first packet to its last, and compare its index and a few accesses with that.

    The random accesses, always the same ones, cost at most about as much as the decode.

    Raises:
        VideoDecodeError: A frame is damaged, or an access gives another frame than the plain decode.
    """
    video.settle()
    assert video.height  # raises where pictures are turned by an angle that is not applied
    sample = _sample(video)
    first = min(video.index.keys[0], min(video.index.order, default=0))
    rotation, order, checksums = video.decoder.decode_whole(
        first, len(video.source.packets) - 1, may_fail=partial(video.index.may_fail, start=first),
        gather=partial(_gather, video, sample),
    )  # fmt: skip
    _compare(video, order)
    for frame in sorted(sample):
        ((_, picture),) = (found for run in video.index.runs([frame]) for found in video.decode_run(run))
        if _checksum(Converter(), picture) != checksums[frame]:
            raise _other(video, frame, "has other pixels than")
    return Checked(len(order), rotation)


def _gather(
    video: PyavReader, sample: set[int], pictures: Iterator[tuple[int, VideoFrame]]
) -> tuple[int, list[int], dict[int, int]]:
    """Return the rotation of the first picture, the frames as they come, and the checksums of a sample."""
    converter, rotation, order, checksums = Converter(), 0, list[int](), dict[int, int]()
    frame_of = {packet: frame for frame, packet in enumerate(video.index.order)}
    for packet, picture in pictures:
        frame = frame_of.get(packet)
        if frame is None:  # an edit list hides it
            continue
        if picture.is_corrupt:
            raise VideoDecodeError(video.path, f"frame {frame} of {len(video)} is damaged")
        rotation = picture.rotation if not order else rotation
        order.append(frame)
        if frame in sample:
            checksums[frame] = _checksum(converter, picture)
    return rotation, order, checksums


def _compare(video: PyavReader, order: list[int]) -> None:
    wrong = next((place for place, frame in enumerate(order) if place != frame), None)
    if wrong is not None:
        raise _other(video, wrong, "is not")
    if len(order) < len(video):
        why = f"frame {len(order)} of {len(video)} is promised and cannot be decoded"
        raise VideoDecodeError(video.path, why)


def _other(video: PyavReader, frame: int, what: str) -> VideoDecodeError:
    why = f"frame {frame} of {len(video)}, read alone, {what} that of a plain decode; please report this file"
    return VideoDecodeError(video.path, why)


def _sample(video: PyavReader) -> set[int]:
    """Draw frames to read alone, as many as can be read for the packets of one decode, but at least one."""
    drawn = random.Random(0).sample(range(len(video)), min(_SAMPLE, len(video)))
    chosen, packets = drawn[:1], 0
    for frame in drawn:
        packets += video.index.order[frame] - video.index.start(frame) + 1
        if packets <= len(video.source.packets):
            chosen.append(frame)
    return set(chosen)


def _checksum(converter: Converter, picture: VideoFrame) -> int:
    return zlib.crc32(converter.pixels(picture, EVERYTHING, EVERYTHING, order="rgb").tobytes())
