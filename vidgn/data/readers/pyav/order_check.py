"""Do the times of packets give the order in which a decoder shows the pictures? Asked where frames are read, once."""

import numpy as np
from numpy.typing import NDArray

from vidgn.data.readers.pyav.demuxer import PacketSource
from vidgn.data.readers.pyav.order_count import COUNTED_CODECS, GAP, NEW_SEQUENCE, NO_COUNT


class OrderCheck:
    """Compares times with the order counts of the streams, for packets that were not compared yet."""

    def __init__(self, source: PacketSource) -> None:
        self._source = source
        self._compared = np.zeros(len(source.packets), np.bool_)
        self._times = np.asarray(source.packets.times)
        self._is_shown = source.packets.is_shown()

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
            counts = self._source.order_counts(start, behind - 1)
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
        counts = self._source.order_counts(start, last)
        steps = np.diff(np.sort(counts[counts != NO_COUNT]))
        steps = steps[steps < NEW_SEQUENCE // 2]
        return len(steps) > 0 and int(steps.max()) > int(steps.min())


def _agree(counts: NDArray[np.int64], times: NDArray[np.int64], which: NDArray[np.bool_]) -> bool:
    order = np.argsort(counts[which], kind="stable")
    counted, timed = counts[which][order], times[which][order]
    return bool((counted[1:] > counted[:-1]).all() and (timed[1:] > timed[:-1]).all())
