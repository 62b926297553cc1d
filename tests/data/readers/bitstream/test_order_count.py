"""The order counts of streams, compared with the order in which the decoder gives the pictures out."""

import av
import numpy as np
import pytest

from vidgn.data.readers.bitstream.order_count import GAP, NO_COUNT, OrderCounter

H264 = "scenecut=0:b-adapt=0:bframes=3"
STREAMS = {
    "pyramid.mp4": ("libx264", {"x264-params": f"{H264}:b-pyramid=normal"}),
    "pyramid.ts": ("libx264", {"x264-params": f"{H264}:b-pyramid=normal"}),
    "open.mkv": ("libx264", {"x264-params": f"{H264}:open-gop=1:keyint=12:min-keyint=12"}),
    "no_b.mp4": ("libx264", {"x264-params": "bframes=0"}),  # shown as decoded: counts of kind 2
    "matrices.mp4": ("libx264", {"x264-params": f"{H264}:cqm=jvt"}),
    "slices.ts": ("libx264", {"x264-params": f"{H264}:slices=4:aud=1"}),
    "444.mp4": ("libx264", {"x264-params": H264}),
    "interlaced.mp4": ("libx264", {"x264-params": f"{H264}:tff=1"}),
    "closed_hevc.mp4": ("libx265", {"x265-params": "bframes=4:open-gop=0:b-adapt=0:log-level=none"}),
    "open_hevc.ts": ("libx265", {"x265-params": "bframes=4:open-gop=1:keyint=12:min-keyint=12:log-level=none"}),
    "long_hevc.mkv": ("libx265", {"x265-params": "bframes=4:keyint=1000:log-level=none"}),
}


@pytest.mark.parametrize("name", STREAMS)
def test_counts_grow_in_the_order_in_which_a_decoder_gives_pictures_out(name, craft):
    codec, options = STREAMS[name]
    preset = {"preset": "ultrafast"} if codec == "libx265" else {}
    # 300 frames: the counts of a long group exceed the bits that slices have of them.
    frames = 300 if name == "long_hevc.mkv" else 60
    pixels = "yuv444p" if name == "444.mp4" else "yuv420p"
    path = craft(
        name, frames=frames, codec=codec, options=preset | options, pixels=pixels, gop=1000 if frames > 60 else 12
    )
    packets, extradata, order = read(path)
    counter = OrderCounter({"libx264": "h264", "libx265": "hevc"}[codec], extradata)
    counts = [counter.count(packet) for packet in packets]
    assert NO_COUNT not in counts
    assert GAP not in counts
    assert len(set(counts)) == len(counts) == frames
    assert np.argsort(counts).tolist() == order


def test_the_beginning_of_a_packet_is_enough(craft):
    packets, extradata, order = read(craft("v.mp4", frames=30, options=STREAMS["pyramid.mp4"][1]))
    counter = OrderCounter("h264", extradata)
    assert np.argsort([counter.count(packet[:1000]) for packet in packets]).tolist() == order


@pytest.mark.parametrize(
    ("lost", "is_gap"), [([7], True), ([7, 8, 9], True), ([12], True), ([12, 13, 14], True), ([], False)]
)
def test_a_packet_behind_lost_ones_is_a_gap(lost, is_gap, craft):
    packets, extradata, _ = read(craft("v.mp4", frames=30, options={"x264-params": "bframes=0:scenecut=0"}))
    counter = OrderCounter("h264", extradata)
    counts = {number: counter.count(packet) for number, packet in enumerate(packets) if number not in lost}
    behind = lost[-1] + 1 if lost else -1
    assert [number for number, count in counts.items() if count == GAP] == ([behind] if is_gap else [])


@pytest.mark.parametrize("data", [b"", b"\0\0\0\x05", b"\0\0\0\x02\x65\x88", b"\xff" * 40])
def test_a_packet_that_is_not_understood_has_no_count(data, craft):
    _, extradata, _ = read(craft("v.mp4", frames=2))
    assert OrderCounter("h264", extradata).count(data) == NO_COUNT


@pytest.mark.parametrize("extradata", [b"", b"\1", b"\1" + bytes(30), b"\0\0\1\x67\xff"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_without_parameters_there_are_no_counts(codec, extradata, craft):
    packets, _, _ = read(craft("v.mp4", frames=2))
    assert OrderCounter(codec, extradata).count(packets[0]) == NO_COUNT


def read(path):
    """Return the packets, the extradata, and the numbers of the packets in the order of a plain decode."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        packets, order = [], []
        for packet in container.demux(stream):
            if packet.size:
                packet.pts = packet.dts = len(packets)
                packets.append(bytes(packet))
            order += [frame.pts for frame in packet.decode()]
        return packets, stream.codec_context.extradata, order
