"""Which packet holds which frame, and where to begin decoding it: integers only, no decoder.

A packet has a number: its place in the file, which is the order of decoding. A frame has an index: its place
in the order of showing. With B-frames they differ:

    packet number   0  1  2  3  4        order = [0, 2, 3, 1, 4]: frame 1 is in packet 2
    time            0  3  1  2  4
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidgn.data.readers.pyav.packet_table import PacketTable, column


class DecodeRun(NamedTuple):
    """Packets `start`..`last` are decoded in one go for the sake of `frames` (ascending)."""

    start: int
    last: int
    frames: list[int]


@dataclass(frozen=True)
class FrameIndex:
    """Where the frames are; a reader keeps it in columns (`array`), 16 bytes for a frame at most.

    `order[i]` is the packet of frame i. `rank[p]` grows with the time at which packet p is shown. `keys` are the
    packets at which decoding may begin, ascending. `left_out` are packets at the start of the stream that no plain
    decode shows, since what they refer to is missing.
    """

    order: Sequence[int]
    rank: Sequence[int]
    keys: Sequence[int]
    left_out: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.order)

    def start(self, frame: int) -> int:
        """Find the last key packet that is neither decoded nor shown after the frame.

        Pictures shown before a key packet though decoded after it (open group of pictures) may need what comes
        before the key.
        """
        packet = self.order[frame]
        for place in reversed(range(bisect_right(self.keys, packet))):
            key = self.keys[place]
            if self.rank[key] <= self.rank[packet]:
                return key
        return 0

    def shown_within(self, start: int, last: int) -> set[int]:
        """Return the packets `start`..`last` that are shown from packet `start` on."""
        shown = np.asarray(self.order)
        shown = shown[(shown >= start) & (shown <= last)]
        return set(shown[np.asarray(self.rank)[shown] >= self.rank[start]].tolist())

    def may_fail(self, packet: int, *, start: int) -> bool:
        """Tell whether a packet may be undecodable in a run that begins at `start`, without harm to any frame.

        It is one that is never shown, or one that is decoded after the key `start` and shown before it: it may refer to
        what precedes the key, and nothing that is shown after the key refers to it.
        """
        return packet in self.left_out or self.rank[packet] < self.rank[start]

    def has_open_groups(self) -> bool:
        """Tell whether a picture is decoded after a key packet and shown before it."""
        rank, keys = np.asarray(self.rank), np.asarray(self.keys)
        first_shown = np.minimum.accumulate(rank[::-1])[::-1]  # of a packet and all after it, (P,)
        return bool((first_shown[keys] < rank[keys]).any())

    def runs(self, frames: Iterable[int]) -> list[DecodeRun]:
        """Plan one forward pass over ascending frames that starts again only where that saves packets."""
        runs: list[DecodeRun] = []
        for frame in frames:
            run = DecodeRun(self.start(frame), self.order[frame], [frame])
            while runs and run.start <= runs[-1].last + 1:
                before = runs.pop()
                before.frames.extend(run.frames)
                run = DecodeRun(min(before.start, run.start), max(before.last, run.last), before.frames)
            runs.append(run)
        return runs

    def earlier_starts(self, start: int) -> list[int]:
        """List where to begin when beginning at `start` fails: the key before it, then the first packet."""
        place = bisect_right(self.keys, start - 1)
        return sorted({0, *self.keys[max(0, place - 1) : place]} - {start}, reverse=True)


def index_by_time(packets: PacketTable, *, left_out: Collection[int] = ()) -> FrameIndex | None:
    """Order frames by the packets' times, where those can be trusted; None where they cannot.

    They cannot where a time is missing or occurs twice, where a packet is shown before the first key packet (unless it
    is `left_out`), or where one that precedes a key packet in the file is shown after the key or after what follows it:
    no encoder writes that, but joined files have it.

    Args:
        packets: Of the whole stream.
        left_out: Packets that no plain decode shows; see `FrameIndex`.
    """
    if not len(packets) or not packets.has_all_times() or not packets.keys:
        return None
    times, is_frame = np.asarray(packets.times), packets.is_shown()
    if left_out:
        is_frame[list(left_out)] = False
    shown = np.flatnonzero(is_frame)
    order = shown[np.argsort(times[shown], kind="stable")]
    seen = times[order]
    if (seen[1:] == seen[:-1]).any() or not _keys_divide(order, shown, np.asarray(packets.keys)):
        return None
    if not left_out and (not packets[0].is_key or (seen[:1] < times[0]).any()):
        return None
    return FrameIndex(
        order=column(order), rank=packets.times, keys=packets.keys, left_out=frozenset(map(int, left_out))
    )


def _keys_divide(order: NDArray[np.int64], shown: NDArray[np.int64], keys: NDArray[np.int64]) -> bool:
    """Tell whether every frame before a key packet in the file is shown before every frame from the key on.

    Args:
        order: Packets in the order of showing, (N,).
        shown: The same packets in the order of the file.
        keys: Key packets, ascending.
    """
    num_before = np.searchsorted(shown, keys)  # frames of packets before each key
    inner = num_before > 0
    latest = np.maximum.accumulate(order)
    return bool((latest[num_before[inner] - 1] < keys[inner]).all())


def starts_amid(packets: PacketTable) -> bool:
    """Tell whether a stream begins with packets that may refer to missing ones: before a key, or shown before it."""
    if not packets.keys:
        return False
    first, times = packets.keys[0], np.asarray(packets.times)
    if first == 0 and times.min() == times[0]:  # of almost every file
        return False
    shown = packets.shown()
    return len(shown) > 0 and (first > 0 or bool(packets.has_all_times() and times[shown].min() < times[first]))


def reorder_depth(times: NDArray[np.int64]) -> int:
    """Return how many pictures a decoder must hold back to give them out in the order of their times, (N,).

    As many as at most stand before another one in the file and are shown after it (H.264, E.2.1:
    max_num_reorder_frames).
    """
    latest = np.maximum.accumulate(times)
    above = np.zeros(len(times), np.int64)  # of packets up to `back` places before
    for back in range(1, MOST_REORDERED + 1):
        above[back:] += times[:-back] > times[back:]
        if not (latest[: -back - 1] > times[back + 1 :]).any():
            return int(above.max(initial=0))
    return _reorder_depth_of_any(times.tolist())


def _reorder_depth_of_any(times: Sequence[int]) -> int:
    depth, latest = 0, list[int]()
    for time in times:
        place = bisect_right(latest, time)
        depth = max(depth, len(latest) - place)
        latest.insert(place, time)
        del latest[:-MOST_REORDERED]
    return depth


MOST_REORDERED = 16  # frames that a decoder of H.264 can hold (A.3.1, MaxDpbFrames)


def index_by_output(order: Sequence[int], *, num_packets: int, keys: Sequence[int], amid: int = 0) -> FrameIndex:
    """Order frames as a whole decode gave them.

    Args:
        order: The packet of each picture that came out.
        num_packets: Of the stream.
        keys: Packets at which decoding may begin.
        amid: Packets before this one may refer to what precedes the stream; those that gave no picture may fail.
    """
    frames = np.asarray(order, np.int64)
    rank = np.full(num_packets, num_packets)  # never shown: never a start
    rank[frames] = np.arange(len(frames))
    left_out = frozenset(np.flatnonzero(rank[:amid] == num_packets).tolist())
    return FrameIndex(order=column(frames), rank=column(rank), keys=keys, left_out=left_out)
