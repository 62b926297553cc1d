"""In what order a decoder shows packets, by the streams' own counts; asked where frames are read, once."""

import numpy as np
from numpy.typing import NDArray

from vidgn.data.readers.bitstream.order_count import COUNTED_CODECS, GAP, NEW_SEQUENCE, NO_COUNT, OrderCounter
from vidgn.data.readers.pyav.demuxer import PacketSource
from vidgn.data.readers.pyav.frame_index import reorder_depth

_HEAD = 128  # bytes that hold most slice headers; where they do not, the whole packet is read


class PacketOrder:
    """Compares the times of packets with the order counts of the stream, once for each packet.

    Attributes:
        has_gaps: packets are missing among those whose counts were asked for.
    """

    def __init__(self, source: PacketSource) -> None:
        self.has_gaps = False
        self._source = source
        self._counter: OrderCounter  # of the last packets that were counted
        self._compared = np.zeros(len(source.packets), np.bool_)
        self._times = np.asarray(source.packets.times)
        self._is_shown = source.packets.is_shown()

    def counts(self, start: int, last: int) -> NDArray[np.int64]:
        """Return numbers that grow in the order in which a decoder shows packets `start`..`last`, (N,).

        `NO_COUNT` where a packet is not understood, `GAP` where packets before it were lost. `start` is a key packet.
        """
        source = self._source
        if source.counts is not None:
            self._counter, counts = source.counter, np.asarray(source.counts)[start : last + 1]
        else:
            counter = self._counter = source.order_counter()
            counted = list[int]()
            with source.blame(f"packets {start} to {last}"):
                for number, head in enumerate(source.heads(start, last, size=_HEAD), start):
                    count = counter.count(head)
                    if count == NO_COUNT and len(head) < source.packets.sizes[number]:
                        (whole,) = source.heads(number, number, size=None)
                        count = counter.count(whole)
                    counted.append(count)
            counts = np.array(counted, np.int64)
        self.has_gaps |= bool((counts == GAP).any())
        return counts

    def reorder_depth(self) -> int | None:
        """Return how many pictures a decoder of H.264 must hold back; None where the counts do not tell.

        Of joined files neither times nor counts tell it: 0, so that FFmpeg's own guess stays.
        """
        source = self._source
        if source.facts.codec != "h264" or not source.packets.keys:
            return None
        first, last = source.packets.keys[0], len(source.packets) - 1
        counts = self.counts(first, last)
        if (counts == NO_COUNT).any():
            return None
        depth = reorder_depth(counts)
        is_joined = (counts == GAP).any() or depth > self._counter.num_references
        return 0 if is_joined else max(source.reorder_depth, depth)

    def whole_starts(self) -> list[int]:
        """List the packets from which a decode of H.264 gives what a decode from the first one does, gaps or not."""
        source = self._source
        if source.counts is not None:
            return source.restarts
        counter = source.order_counter()
        return [
            key for key in source.packets.keys if counter.restarts_at(next(iter(source.heads(key, key, size=None))))
        ]

    def holds(self, start: int, last: int) -> bool:
        """Tell whether the frames of packets `start`..`last` stand where their times say.

        A picture may be shown before one that is decoded earlier: some packets after `last` are compared too. Damaged
        packets, which have no count, are passed over unless `start` is one; where packets are missing, a decoder may
        show fewer pictures. `start` is a key packet; keys divide the order already (`frame_index.index_by_time`).
        """
        behind = min(last + self._source.lookahead + 1, len(self._times))
        if self._compared[start:behind].all():
            return True
        is_frame = self._is_shown[start:behind]
        if self._source.facts.codec in COUNTED_CODECS:
            counts = self.counts(start, behind - 1)
        else:  # of the codecs of one picture a packet, all others show pictures in the order of the file
            counts = np.arange(start, behind)
        is_counted = counts != NO_COUNT
        if (
            not is_counted[0]
            or (counts == GAP).any()
            or not _agree(counts, self._times[start:behind], is_frame & is_counted)
        ):
            return False
        self._compared[start:behind] = True
        return True

    def jumps(self, start: int, last: int) -> bool:
        """Tell whether counts of HEVC are left out among packets `start`..`last`: encoders count every picture."""
        if self._source.facts.codec != "hevc":  # in H.264 a gap is told by other numbers
            return False
        counts = self.counts(start, last)
        steps = np.diff(np.sort(counts[counts != NO_COUNT]))
        steps = steps[steps < NEW_SEQUENCE // 2]
        return len(steps) > 0 and int(steps.max()) > int(steps.min())


def _agree(counts: NDArray[np.int64], times: NDArray[np.int64], which: NDArray[np.bool_]) -> bool:
    order = np.argsort(counts[which], kind="stable")
    counted, timed = counts[which][order], times[which][order]
    return bool((counted[1:] > counted[:-1]).all() and (timed[1:] > timed[:-1]).all())
