"""Packets in, pictures out, each known by the number of its packet.

Every packet is tagged with its number before it is decoded, and a picture comes out with the tag of its packet. So
neither the times in a file nor what a seek lands on can give a wrong frame.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

import numpy as np
from av import FFmpegError
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from vidgn.data.readers.bitstream.reference_marks import name_missing_pictures
from vidgn.data.readers.pyav.demuxer import PacketSource
from vidgn.data.readers.types import VideoDecodeError

Gathered = TypeVar("Gathered")


class PictureDecoder:
    """Decode runs of packets; damage is an error (`explode`), not a picture.

    `packets_decoded` counts the packets given to the decoder.
    """

    def __init__(self, source: PacketSource, *, num_threads: int) -> None:
        self.packets_decoded = 0
        self._source = source
        self._num_threads = num_threads

    def decode(
        self,
        start: int,
        last: int,
        *,
        needed: set[int] | None = None,
        may_fail: Callable[[int], bool] | None = None,
        lenient: bool = False,
    ) -> Iterator[tuple[int, VideoFrame]]:
        """Decode packets `start`..`last` and yield pictures with the numbers of their packets.

        Where only some packets are `needed`, those that no other picture refers to are passed over; this cannot
        change the pixels of the rest. In H.264 a picture says so itself (nal_ref_idc, 7.4.1). HEVC's flag speaks
        only of its own temporal layer, so there nothing is passed over.

        Args:
            start: First packet.
            last: Last packet.
            needed: Packets whose pictures are wanted; None for all.
            may_fail: Tells of a packet that cannot be decoded whether that is no error.
            lenient: Pass over damage, as a plain decode does; see `is_whole`.

        Raises:
            VideoDecodeError: A packet cannot be decoded.
        """
        ticket = self._source.begin(start)
        context = self._lenient() if lenient else self._prepare()
        if self._source.facts.codec != "h264":
            needed = None
        passes_over = False
        for number, packet in self._source.walk(start, last, needed=needed):
            packet.pts = packet.dts = number
            if needed is not None and (number not in needed) is not passes_over:
                passes_over = not passes_over
                context.skip_frame = "NONREF" if passes_over else "DEFAULT"
            self.packets_decoded += 1
            try:
                pictures = context.decode(packet)
            except (FFmpegError, OSError) as err:  # a context around every packet would cost time with each
                if may_fail is not None and isinstance(err, FFmpegError) and may_fail(number):
                    continue
                with self._source.blame(f"packet {number}"):
                    raise
            if pictures:
                yield from _tagged(pictures)
                self._source.require(ticket)
        self._source.require(ticket)
        with self._source.blame(f"packet {last}"):
            pictures = context.decode(None)  # the decoder holds pictures back that others might precede
        yield from _tagged(pictures)

    def decode_whole(
        self,
        start: int,
        last: int,
        *,
        may_fail: Callable[[int], bool],
        gather: Callable[[Iterator[tuple[int, VideoFrame]]], Gathered],
    ) -> Gathered:
        """Return what `gather` makes of packets `start`..`last`, decoded strictly or, where `is_whole`, leniently.

        Raises:
            VideoDecodeError: A packet is damaged.
        """
        try:
            return gather(self.decode(start, last, may_fail=may_fail))
        except VideoDecodeError:
            if not self.is_whole(start, last, may_fail):
                raise
        return gather(self.decode(start, last, may_fail=may_fail, lenient=True))

    def decode_leniently(self, start: int, last: int) -> set[int]:
        """Return which of the packets `start`..`last` give pictures in a plain decode, which passes over damage."""
        shown, _ = self._try(self._lenient(), start, last)
        return shown

    def is_whole(self, start: int, last: int, may_fail: Callable[[int], bool]) -> bool:
        """Tell whether packets `start`..`last` can be decoded leniently without a damaged picture.

        It is so where the packets at which a strict decode fails take marks of references from pictures that are
        missing, as they are behind a cut; `reference_marks` says more. Only H.264 has such marks.
        """
        if self._source.facts.codec != "h264":
            return False
        context = self._prepare()
        _, failed = self._try(context, start, last)
        failed = [number for number in failed if not may_fail(number)]
        if not failed:
            return True
        self._source.begin(start)
        packets = (bytes(packet) for _, packet in self._source.walk(start, last))
        is_excused = name_missing_pictures(packets, context.extradata or b"")
        return bool(np.all([is_excused[number - start] for number in failed]))

    def _try(self, context: VideoCodecContext, start: int, last: int) -> tuple[set[int], list[int]]:
        """Return which of the packets gave pictures, and at which the decoder failed."""
        ticket = self._source.begin(start)
        shown, failed = set[int](), list[int]()
        for number, packet in self._source.walk(start, last):
            packet.pts = packet.dts = number
            try:
                shown.update(tag for tag, _ in _tagged(context.decode(packet)))
            except FFmpegError:
                failed.append(number)
        self._source.require(ticket)
        with suppress(FFmpegError):
            shown.update(tag for tag, _ in _tagged(context.decode(None)))
        return shown, failed

    def _lenient(self) -> VideoCodecContext:
        given = self._source.codec_context
        context = CodecContext.create(given.codec.name, "r")
        assert isinstance(context, VideoCodecContext)
        context.extradata, context.thread_type = given.extradata, "NONE"
        context.options = {"max_pixels": str(self._source.max_pixels)}
        context.reorder_depth = max(given.reorder_depth, self._source.reorder_depth)
        return context

    def _prepare(self) -> VideoCodecContext:
        context = self._source.codec_context
        if context.is_open:
            context.flush_buffers()
        else:
            context.options = {"err_detect": "explode", "max_pixels": str(self._source.max_pixels)}
            context.thread_count = self._num_threads
            # Frame threads hide truncation and put errors off to a later frame.
            context.thread_type = "SLICE" if self._num_threads > 1 else "NONE"
        context.skip_frame = "DEFAULT"
        if self._source.facts.codec == "h264":  # told too little, it loses pictures; the stream need not tell
            context.reorder_depth = max(context.reorder_depth, self._source.reorder_depth)
        return context


def _tagged(pictures: list[VideoFrame]) -> Iterator[tuple[int, VideoFrame]]:
    return ((picture.pts, picture) for picture in pictures if picture.pts is not None)
