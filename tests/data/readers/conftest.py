"""Files that no encoder writes: packets changed, dropped and flagged by hand."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

Remux = Callable[..., Path]


@pytest.fixture
def remux(tmp_path: Path) -> Remux:
    """Return a function that copies a video packet by packet: `remux(path, name, keys=..., change=...)`."""

    def copy(
        source: Path,
        name: str,
        *,
        keys: set[int] | None = None,
        change: Callable[[list[bytes]], list[bytes]] = list,
    ) -> Path:
        with av.open(str(source)) as old, av.open(str(tmp_path / name), "w") as new:
            stream = old.streams.video[0]
            packets = [packet for packet in old.demux(stream) if packet.size]
            out = new.add_stream_from_template(stream)
            for number, (data, old_packet) in enumerate(zip(change(list(map(bytes, packets))), packets, strict=True)):
                packet = av.Packet(data)
                packet.pts, packet.dts, packet.time_base = old_packet.pts, old_packet.dts, Fraction(stream.time_base)
                packet.is_keyframe = old_packet.is_keyframe if keys is None else number in keys
                packet.stream = out
                new.mux(packet)
        return tmp_path / name

    return copy
