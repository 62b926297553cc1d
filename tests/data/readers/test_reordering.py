"""Streams that do not say how many pictures a decoder must hold back, as some cameras and phones write them."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext

from vidgn.data.video import open_video

from ..conftest import plain_decode

PYRAMID = {"bf": "3", "b_strategy": "0", "b-pyramid": "normal", "preset": "ultrafast", "x264-params": "scenecut=0"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "movflags"),
    [("v.mp4", ""), ("v.mov", ""), ("fragments.mp4", "frag_keyframe+empty_moov"), ("v.mkv", ""), ("v.ts", "")],
)
def test_every_picture_comes_where_the_stream_does_not_say_how_far_it_reorders(craft, tmp_path, name, movflags):
    whole = craft("whole.mp4", frames=40, gop=20, options=PYRAMID)
    silent = tmp_path / name
    without_usability(whole, silent, {"movflags": movflags} if movflags else {})
    expected = plain_decode(whole)
    with open_video(silent) as video:
        assert len(video) == 40
        for wanted in (range(40), range(0, 40, 2), range(23, 40, 3), [39], [1]):
            frames = dict(video.frames(wanted))
            assert all(np.array_equal(frames[index], expected[index]) for index in wanted)


def test_pictures_have_the_size_of_the_stream_where_the_table_states_another(craft):
    path = craft("v.mp4", frames=12)
    data = bytearray(path.read_bytes())
    at = data.index(b"avc1", data.index(b"stsd")) + 28  # width and height of the entry (ISO/IEC 14496-12, 12.1.3)
    assert data[at : at + 4] == bytes([0, 64, 0, 48])
    data[at + 3] = 20  # not what the decoder takes for cropping
    path.write_bytes(data)
    expected = plain_decode(path)
    assert expected[0].shape == (48, 64, 3)
    with open_video(path) as video:
        assert (video.height, video.width) == (48, 64)
        assert np.array_equal(video.read(np.arange(12)), np.stack(expected))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "words"),
    [
        ("libx264", "h264_metadata=crop_left=16:crop_top=8:crop_right=6:crop_bottom=2"),
        ("libx264", "h264_metadata=crop_left=2"),
        ("libx265", "hevc_metadata=crop_left=8:crop_bottom=4"),
    ],
)
def test_columns_that_a_stream_crops_on_the_left_are_those_of_a_plain_decode(craft, tmp_path, codec, words):
    options = {"x265-params": "log-level=none", "preset": "ultrafast"} if codec == "libx265" else {}
    whole = craft("whole.mp4", codec=codec, frames=12, options=options)
    path = tmp_path / "cropped.mp4"
    with av.open(str(whole)) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        out = new.add_stream_from_template(stream)
        crop = BitStreamFilterContext(words, stream, out)
        for packet in old.demux(stream):
            for cropped in crop.filter(packet if packet.dts is not None else None):
                cropped.stream = out
                new.mux(cropped)
    expected = plain_decode(path)
    with av.open(str(path)) as container:
        stated = container.streams.video[0].codec_context
        assert stated.width != expected[0].shape[1]
    with open_video(path) as video:
        assert np.array_equal(next(video.frames([7]))[1], expected[7])
        assert (video.height, video.width) == expected[0].shape[:2]
        assert np.array_equal(video.read(np.arange(12)), np.stack(expected))


def without_usability(source: Path, target: Path, options: dict[str, str]) -> None:
    """Copy H.264, cutting the usability information (H.264, annex E) off the one sequence parameter set."""
    with av.open(str(source)) as given, av.open(str(target), "w", options=options) as out:
        stream = given.streams.video[0]
        data = bytes(stream.codec_context.extradata)  # avcC (ISO/IEC 14496-15, 5.3.3.1)
        size = int.from_bytes(data[6:8], "big")
        short = cut_parameters(data[8 : 8 + size])
        assert len(short) < size
        copy = out.add_stream_from_template(stream)
        copy.codec_context.extradata = data[:6] + len(short).to_bytes(2, "big") + short + data[8 + size :]
        for packet in given.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)


def cut_parameters(unit: bytes) -> bytes:
    """Return a sequence parameter set up to vui_parameters_present_flag, which becomes 0 (H.264, 7.3.2.1.1)."""
    bits = "".join(f"{byte:08b}" for byte in unit[1:].replace(b"\0\0\3", b"\0\0"))
    at = 24  # profile, constraints, level

    def number() -> int:  # ue(v), 9.1
        nonlocal at
        zeros = bits.index("1", at) - at
        value = int(bits[at + zeros : at + 2 * zeros + 1], 2) - 1
        at += 2 * zeros + 1
        return value

    number()
    if unit[1] in (100, 110, 122, 244):
        assert number() == 1  # 4:2:0
        number(), number()
        assert bits[at + 1] == "0"  # no scaling matrix
        at += 2
    number()
    assert number() == 0  # the kind of order counts that x264 writes
    number(), number()
    at += 1
    number(), number()
    assert bits[at] == "1"  # frames only
    at += 2
    cropped, at = bits[at], at + 1
    if cropped == "1":
        number(), number(), number(), number()
    kept = bits[:at] + "01"  # no usability information; the stop bit
    kept += "0" * (-len(kept) % 8)
    body = int(kept, 2).to_bytes(len(kept) // 8, "big")
    assert not any(b"\0\0" + bytes([code]) in body for code in range(4))  # nothing to escape
    return unit[:1] + body
