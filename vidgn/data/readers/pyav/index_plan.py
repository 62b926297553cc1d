"""How the index of a file is made: from the times of its packets where they can be trusted, else from its decoder."""

from array import array
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from vidgn.data.readers.bitstream.order_count import COUNTED_CODECS
from vidgn.data.readers.pyav.demuxer import PacketSource
from vidgn.data.readers.pyav.frame_index import FrameIndex, index_by_output, index_by_time, starts_amid
from vidgn.data.readers.pyav.frame_times import longest_steps
from vidgn.data.readers.pyav.packet_decoder import PictureDecoder
from vidgn.data.readers.pyav.packet_order import PacketOrder
from vidgn.data.readers.types import VideoDecodeError

# Containers that store when a picture is shown; AVI, for one, stores only the order of decoding.
_TIMED_FORMATS = {"mov", "matroska", "mpegts"}
# Codecs in which one packet is one shown picture; MPEG-4 part 2 and VP8 have packets that show none.
_TIMED_CODECS = {"h264", "hevc", "vp9", "libdav1d", "mjpeg"}
# Codecs tested to restart cleanly at a key packet; any other is decoded from the first packet on.
_RESTARTABLE_CODECS = {*_TIMED_CODECS, "mpeg4", "mpeg2video", "vp8"}


class IndexPlan:
    """Makes the index of one open file.

    Args:
        source: The file.
        decoder: Of its packets.
    """

    def __init__(self, source: PacketSource, decoder: PictureDecoder) -> None:
        self._source = source
        self._decoder = decoder
        self._order: PacketOrder | None = None

    @property
    def order(self) -> PacketOrder:
        """The order of the packets by the counts of the stream."""
        if self._order is None:
            self._order = PacketOrder(self._source)
        return self._order

    def make(self) -> tuple[bool, FrameIndex]:
        """Return whether the packets' times gave the index, and the index."""
        source, facts, packets = self._source, self._source.facts, self._source.packets
        if source.has_index:
            order = sorted(range(len(packets)), key=packets.times.__getitem__)
            return True, FrameIndex(order=array("i", order), rank=packets.times, keys=packets.keys)
        if facts.formats & _TIMED_FORMATS and facts.codec in _TIMED_CODECS and facts.is_progressive:
            left_out = self._left_out()
            index = None if left_out is None else index_by_time(packets, left_out=left_out)
            if index is not None:
                has_gaps = self._loses_frames(index)
                return not has_gaps, self.by_decoding(has_gaps=True) if has_gaps else index
        return False, self.by_decoding()

    def by_decoding(self, *, has_gaps: bool = False) -> FrameIndex:
        """Return the index that the decoder gives; everything is decoded once.

        Args:
            has_gaps: Packets are missing, which an error then says.

        Raises:
            VideoDecodeError: A packet cannot be decoded, or none gives a picture.
        """
        try:
            return self._by_decoding()
        except VideoDecodeError as err:
            if not has_gaps:
                raise
            why = f"packets of the stream are lost or damaged: {err.reason}"
            raise VideoDecodeError(self._source.path, why) from err

    def _loses_frames(self, index: FrameIndex) -> bool:
        """Tell whether the decoder shows fewer pictures than there are packets with times, since packets were lost.

        It is looked at where times jump most: a file with lost packets has few such places, one of variable rate many.
        """
        source = self._source
        if source.facts.codec not in COUNTED_CODECS or source.is_fetched:  # there each look at a packet is a request
            return False
        order = self.order
        for frame in longest_steps(np.asarray(source.packets.times)[np.asarray(index.order)]):
            start = max(min(index.start(frame), index.start(frame + 1)), index.keys[0])
            last = max(index.order[frame], index.order[frame + 1])
            if order.holds(start, last) and not order.jumps(start, last):
                continue
            behind = [*index.keys, len(source.packets)]
            last = behind[min(bisect_right(behind, last) + 1, len(behind) - 1)] - 1  # the decoder recovers at a key
            shown = self._decoder.decode_leniently(start, last)
            if not shown >= index.shown_within(start, last):
                return True
        return False

    def _left_out(self) -> set[int] | None:
        """Return the packets at the start that a plain decode does not show; None where it shows nothing there.

        A recording that begins amid a group of frames, and a cut at an open group, begin with packets that refer to
        missing ones. Behind the second key packet nothing refers to what precedes the first one.
        """
        packets = self._source.packets
        if not starts_amid(packets) and self._source.facts.height:
            return set()
        last = packets.keys[1] if len(packets.keys) > 1 else len(packets) - 1
        shown = self._decoder.decode_leniently(0, last)
        return set(range(last + 1)) - shown if shown else None

    def _by_decoding(self) -> FrameIndex:
        source, facts, packets = self._source, self._source.facts, self._source.packets
        depth = self.order.reorder_depth()
        if depth is not None:
            source.reorder_depth = depth
        first, amid = self._first_complete()
        try:
            order = self._decoder.decode_whole(
                first, len(packets) - 1, may_fail=lambda number: number < amid,
                gather=lambda pictures: array("i", (number for number, _ in pictures)),
            )  # fmt: skip
        except VideoDecodeError:
            if facts.height:
                raise
            why = "no packet says how large its frames are: a part of a stream, cut off behind its headers"
            way_out = "cut it out of the whole file again, starting at a key"
            raise VideoDecodeError(source.path, f"{why}; {way_out}") from None
        if not order:
            raise VideoDecodeError(source.path, "no frame of the video stream can be decoded")
        if len(np.unique(order)) < len(order):
            raise VideoDecodeError(source.path, "its frames cannot be told apart: one packet gave two")
        keys: Sequence[int] = packets.keys if facts.codec in _RESTARTABLE_CODECS and facts.is_progressive else [0]
        if self.order.has_gaps:  # what a decoder shows in place of a missing picture depends on those before it
            keys = sorted({0, *self.order.whole_starts()})
        return index_by_output(order, num_packets=len(packets), keys=keys, amid=amid)

    def _first_complete(self) -> tuple[int, int]:
        """Return where a whole decode begins, and the packet before which others may refer to what precedes the stream.

        A decoder of MPEG-4 part 2 shows gray pictures, one of them twice, where a stream begins amid a group of frames.
        """
        packets = self._source.packets
        if not packets.keys or not packets.keys[0]:
            return 0, 0
        amid = packets.keys[1] if len(packets.keys) > 1 else 0
        if self._source.facts.codec != "mpeg4":
            return 0, amid
        return packets.keys[0], amid or len(packets)
