"""Where the packets of a file elsewhere lie: their bytes stay there until they are wanted.

RemoteFile   moov  moof  mdat .......XXXX....  moof  mdat ..........
demuxer      reads all of the tables, and zeros for the packets: it learns their places, sizes and times
Places       fetches the bytes of wanted packets, and puts them in
"""

from array import array
from collections.abc import Iterator, Sequence

import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vidgn.data.storage.remote import RemoteFile

VERBATIM = {"h264", "hevc", "mpeg4", "vp9", "libdav1d", "mjpeg"}  # in mp4 their packets are bytes of the file


class Places:
    """The places of all packets, by their numbers.

    Args:
        file: Has left out its pictures.
    """

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._starts = array("q")

    def extend(self, packets: "Sequence[Packet[VideoStream]]") -> None:
        """Add the next packets."""
        self._starts.extend([packet.pos or 0 for packet in packets])

    def keys(self, stream: VideoStream, *, codec: str) -> NDArray[np.bool_]:
        """Tell of each packet whether the container's own table calls it a key: who sees no bytes finds none.

        A table that calls every packet of a predicting codec a key is not believed, except for the first.
        """
        keys = [entry.pos for entry in stream.index_entries if entry.is_keyframe]
        marks: NDArray[np.bool_] = np.isin(np.asarray(self._starts), np.array(keys, np.int64))
        if marks.all() and codec != "mjpeg":
            marks[1:] = False
        return marks

    def fetch(self, start: int, last: int, *, sizes: Sequence[int]) -> None:
        """Get the bytes of packets `start`..`last`; `sizes` in bytes, of all packets."""
        ends = [
            place + size for place, size in zip(self._starts[start : last + 1], sizes[start : last + 1], strict=True)
        ]
        self._file.fetch(min(self._starts[start : last + 1]), max(ends))

    def heads(self, start: int, last: int, *, sizes: Sequence[int], size: int | None) -> Iterator[bytes]:
        """Yield the first `size` bytes of packets `start`..`last`, which are fetched; None for all."""
        for number in range(start, last + 1):
            first, whole = self._starts[number], sizes[number]
            yield self._file.read_at(first, first + (whole if size is None else min(size, whole)))

    def fill(self, packet: "Packet[VideoStream]", number: int, *, size: int) -> None:
        """Put the bytes of a packet into it."""
        packet.update(self._file.read_at(self._starts[number], self._starts[number] + size))
