"""What a demuxer says of the packets of a file, in columns: 13 bytes for each, however long the file is."""

from array import array
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vidgn.data.readers.sample_index import SampleIndex

NO_TIME = -(1 << 63)  # FFmpeg's own mark of a missing time (AV_NOPTS_VALUE, libavutil/avutil.h)
_KEY, _SHOWN = 1, 2


class PacketFacts(NamedTuple):
    """What a demuxer says of one packet: `time` in the stream's own ticks, `shown` unless an edit list hides it."""

    time: int | None
    size: int
    is_key: bool
    shown: bool


class Described(Protocol):
    """What PyAV says of a packet; times in ticks."""

    @property
    def pts(self) -> int | None:
        """When it is shown."""

    @property
    def dts(self) -> int | None:
        """When it is decoded."""

    @property
    def size(self) -> int:
        """In bytes."""

    @property
    def is_keyframe(self) -> bool:
        """Whether decoding may begin here."""

    @property
    def is_discard(self) -> bool:
        """Whether an edit list hides it."""


class PacketTable:
    """The facts of all packets, by their numbers.

    Attributes:
        times: In ticks; meaningless where a time is missing, see `has_all_times`.
        sizes: In bytes.
        keys: Numbers of the key packets, ascending.
    """

    def __init__(self) -> None:
        self.times = array("q")
        self.sizes = array("i")
        self.keys = array("i")
        self._flags = bytearray()
        self._decode_times = array("q")  # of the first packets, as far as one of them has no time of showing

    @classmethod
    def of(cls, *, times: NDArray[np.int64], sizes: NDArray[np.int64], keys: NDArray[np.int64]) -> "PacketTable":
        """Make the table of packets that are all shown: times and sizes (N,), the numbers of keys."""
        table = cls()
        table.times, table.sizes, table.keys = array("q", times.tobytes()), column(sizes), column(keys)
        flags = np.full(len(times), _SHOWN, np.uint8)
        flags[keys] |= _KEY
        table._flags = bytearray(flags)
        return table

    @classmethod
    def of_index(cls, index: SampleIndex) -> "PacketTable":
        """Make the table of a prepared file's packets, which are all shown."""
        table = cls()
        table.times, table.sizes, table.keys = index.times, index.sizes, index.keys
        table._flags = bytearray([_SHOWN]) * len(index.sizes)
        for key in index.keys:
            table._flags[key] |= _KEY
        return table

    def __len__(self) -> int:
        return len(self._flags)

    def __getitem__(self, number: int) -> PacketFacts:
        time, flags = self.times[number], self._flags[number]
        return PacketFacts(None if time == NO_TIME else time, self.sizes[number], flags & _KEY > 0, flags & _SHOWN > 0)

    def extend(self, packets: Sequence[Described]) -> None:
        """Add the next packets."""
        keys = [packet.is_keyframe for packet in packets]
        first = len(self._flags)
        times = [packet.pts for packet in packets]
        self.times.extend([NO_TIME if time is None else time for time in times])
        if None in times:  # AVI, for one, has times of decoding only
            self._decode_times.extend([NO_TIME] * (first - len(self._decode_times)))
            self._decode_times.extend([NO_TIME if packet.dts is None else packet.dts for packet in packets])
        self.sizes.extend([packet.size for packet in packets])
        self.keys.extend([number for number, is_key in enumerate(keys, first) if is_key])
        self._flags += bytes(
            [_KEY * is_key + _SHOWN * (not packet.is_discard) for is_key, packet in zip(keys, packets, strict=True)]
        )

    def mark_keys(self, marks: NDArray[np.bool_]) -> None:
        """State again of every packet whether it is a key, (N,)."""
        flags = np.frombuffer(self._flags, np.uint8)
        flags &= ~np.uint8(_KEY)
        flags |= marks.view(np.uint8)
        self.keys = column(np.flatnonzero(marks))

    def has_all_times(self) -> bool:
        """Tell whether every packet has a time."""
        return not (np.asarray(self.times) == NO_TIME).any()

    def best_times(self) -> NDArray[np.int64]:
        """Return when each packet is shown, or where that is missing when it is decoded, or `NO_TIME`, (N,) ticks."""
        times = np.array(self.times, np.int64)
        decoded = np.asarray(self._decode_times, np.int64)
        missing = np.flatnonzero(times[: len(decoded)] == NO_TIME)
        times[missing] = decoded[missing]
        return times

    def is_shown(self) -> NDArray[np.bool_]:
        """Tell of each packet whether no edit list hides it, (N,)."""
        return (np.frombuffer(bytes(self._flags), np.uint8) & _SHOWN).astype(bool)

    def shown(self) -> NDArray[np.int64]:
        """Return the numbers of the packets that no edit list hides, ascending."""
        return np.flatnonzero(self.is_shown())


def column(numbers: NDArray[np.int64]) -> "array[int]":
    """Pack numbers of packets or frames, four bytes each; its items are Python's integers."""
    return array("i", numbers.astype(np.int32).tobytes())
