"""Which packet holds which frame, and where to begin decoding it: integers only, no decoder.

A packet has a number: its place in the file, which is the order of decoding. A frame has an index: its place
in the order of showing. With B-frames they differ:

    packet number   0  1  2  3  4        order = [0, 2, 3, 1, 4]: frame 1 is in packet 2
    time            0  3  1  2  4
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class PacketFacts(NamedTuple):
    """What a demuxer says of one packet: `time` in the stream's own ticks, `shown` unless an edit list hides it."""

    time: int | None
    size: int
    is_key: bool
    shown: bool


class Run(NamedTuple):
    """Packets `start`..`last` are decoded in one go for the sake of `frames` (ascending)."""

    start: int
    last: int
    frames: list[int]


@dataclass(frozen=True)
class FrameIndex:
    """Where the frames are.

    `order[i]` is the packet of frame i. `rank[p]` grows with the time at which packet p is shown. `keys` are the
    packets at which decoding may begin, ascending.
    """

    order: Sequence[int]
    rank: Sequence[int]
    keys: Sequence[int]

    def __len__(self) -> int:
        return len(self.order)

    def start(self, frame: int) -> int:
        """Find the last key packet that is neither decoded nor shown after the frame.

        Pictures shown before a key packet though decoded after it (open group of pictures) may need what comes
        before the key.
        """
        packet = self.order[frame]
        for key in reversed(self.keys[: bisect_right(self.keys, packet)]):
            if self.rank[key] <= self.rank[packet]:
                return key
        return 0

    def has_open_groups(self) -> bool:
        """Tell whether a picture is decoded after a key packet and shown before it."""
        keys, first_shown = set(self.keys), max(self.rank)
        for number in reversed(range(len(self.rank))):
            first_shown = min(first_shown, self.rank[number])
            if number in keys and first_shown < self.rank[number]:
                return True
        return False

    def runs(self, frames: Iterable[int]) -> list[Run]:
        """Plan one forward pass over ascending frames that begins anew only where that saves packets."""
        runs: list[Run] = []
        for frame in frames:
            run = Run(self.start(frame), self.order[frame], [frame])
            while runs and run.start <= runs[-1].last + 1:
                before = runs.pop()
                before.frames.extend(run.frames)
                run = Run(min(before.start, run.start), max(before.last, run.last), before.frames)
            runs.append(run)
        return runs

    def earlier_starts(self, start: int) -> list[int]:
        """List where to begin when beginning at `start` fails: the key before it, then the first packet."""
        before = self.keys[: bisect_right(self.keys, start - 1)]
        return sorted({0, *before[-1:]} - {start}, reverse=True)


def index_by_time(packets: Sequence[PacketFacts]) -> FrameIndex | None:
    """Order frames by the packets' times, where those can be trusted; None where they cannot.

    They cannot where a time is missing or occurs twice, or where a packet is shown before the first key packet:
    whether decoders drop such pictures depends on the codec.
    """
    times = [packet.time for packet in packets]
    shown = [number for number, packet in enumerate(packets) if packet.shown]
    known = [time for time in times if time is not None]
    if not packets or len(known) < len(times) or not packets[0].is_key:
        return None
    if len({known[number] for number in shown}) < len(shown) or any(known[n] < known[0] for n in shown):
        return None
    keys = [number for number, packet in enumerate(packets) if packet.is_key]
    return FrameIndex(order=sorted(shown, key=known.__getitem__), rank=known, keys=keys)


def reorder_depth(packets: Sequence[PacketFacts]) -> int:
    """Return how many pictures a decoder must hold back to give them out in the order of their times; 0 without times.

    As many as at most stand before another one in the file and are shown after it (H.264, E.2.1:
    max_num_reorder_frames).
    """
    depth, latest = 0, list[int]()
    for packet in packets:
        if packet.time is None:
            return 0
        place = bisect_right(latest, packet.time)
        depth = max(depth, len(latest) - place)
        latest.insert(place, packet.time)
        del latest[:-_MOST_REORDERED]
    return depth


_MOST_REORDERED = 16  # frames that a decoder of H.264 can hold (A.3.1, MaxDpbFrames)


def index_by_output(order: Sequence[int], *, num_packets: int, keys: Sequence[int]) -> FrameIndex:
    """Order frames as a whole decode gave them; `order` holds the packet of each picture that came out."""
    rank = [num_packets] * num_packets  # never shown: never a start
    for frame, number in enumerate(order):
        rank[number] = frame
    return FrameIndex(order=order, rank=rank, keys=keys)
