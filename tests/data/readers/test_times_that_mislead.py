"""Files whose times are not those of showing: the frames are in the order of a plain decode, whatever the times say."""

import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vidgn.data.readers.pyav import demuxer
from vidgn.data.video import open_video

from ..conftest import plain_decode

B_FRAMES = {"bf": "3", "x264-params": "scenecut=0:b-adapt=0:b-pyramid=normal"}
OPEN = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=12:min-keyint=12:scenecut=0"}
B_HEVC = {"preset": "ultrafast", "x265-params": "bframes=3:b-adapt=0:scenecut=0:log-level=none"}


def retimed(source: Path, target: Path, times) -> Path:
    """Copy the packets with times in 25ths of a second: times(number, packet number in the order of showing)."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        out = new.add_stream_from_template(stream)
        packets = [packet for packet in old.demux(stream) if packet.size]
        rank = np.argsort(np.argsort([packet.pts for packet in packets]))
        for number, packet in enumerate(packets):
            packet.dts, packet.pts, packet.time_base = number, times(number, int(rank[number])), Fraction(1, 25)
            packet.stream = out
            new.mux(packet)
    return target


def assert_equals_plain_decode(path: Path, *, is_timed: bool) -> None:
    truth = np.stack(plain_decode(path))
    for first in random.Random(0).sample(range(len(truth)), 4):  # each from an opening of its own
        with open_video(path) as video:
            assert len(video) == len(truth)
            window = (first + 2 * np.arange(6)) % len(truth)
            assert np.array_equal(video.read(window), truth[window])
            assert video.is_timed is is_timed
    with open_video(path) as video:
        alone = random.Random(1).sample(range(len(truth)), len(truth))
        assert [i for i in alone if not np.array_equal(next(video.frames([i]))[1], truth[i])] == []


FILE_ORDER = {
    "v.mp4": ("libx264", B_FRAMES),
    "v.mov": ("libx264", B_FRAMES),
    "v.mkv": ("libx264", B_FRAMES),
    "v.ts": ("libx264", B_FRAMES),
    "open.mp4": ("libx264", OPEN),
    "hevc.mp4": ("libx265", B_HEVC),
    "hevc.mkv": ("libx265", B_HEVC),
}


@pytest.mark.parametrize("name", FILE_ORDER)
def test_times_in_the_order_of_the_file(name, craft, tmp_path):
    """What `ffmpeg -i X.avi -c copy Y.mp4` writes of a stream with B-frames."""
    codec, options = FILE_ORDER[name]
    whole = craft(f"whole.{name}", frames=40, codec=codec, options=options)
    path = retimed(whole, tmp_path / name, lambda number, rank: number)
    assert_equals_plain_decode(path, is_timed=False)


def test_times_that_are_wrong_in_one_place_only(craft, tmp_path):
    whole = craft("whole.mp4", frames=60, options=B_FRAMES)
    swapped = {31: 32, 32: 31}
    path = retimed(whole, tmp_path / "v.mkv", lambda number, rank: swapped.get(rank, rank) + 4)
    truth = plain_decode(path)
    for wanted in ([31], [30, 33], range(60)):
        with open_video(path) as video:
            assert all(np.array_equal(frame, truth[i]) for i, frame in video.frames(wanted))


def test_uneven_times_in_the_order_of_showing_are_believed(craft, tmp_path):
    whole = craft("whole.mp4", frames=40, options=B_FRAMES)
    path = retimed(whole, tmp_path / "v.mkv", lambda number, rank: 4 + rank + rank**2 // 7)
    assert_equals_plain_decode(path, is_timed=True)


def test_a_large_file_is_compared_when_it_is_opened(craft, tmp_path, monkeypatch):
    monkeypatch.setattr(demuxer, "_KEPT_BYTES", 2000)
    whole = craft("whole.mp4", frames=40, options=B_FRAMES)
    assert_equals_plain_decode(retimed(whole, tmp_path / "w.mkv", lambda number, rank: number), is_timed=False)
    assert_equals_plain_decode(retimed(whole, tmp_path / "r.mkv", lambda number, rank: rank + 4), is_timed=True)


def test_the_order_of_vp9_is_that_of_the_file(craft, tmp_path):
    options = {"cpu-used": "8", "deadline": "realtime"}
    whole = craft("whole.mp4", codec="libvpx-vp9", frames=12, options=options)
    swapped = {5: 6, 6: 5}
    path = retimed(whole, tmp_path / "v.mp4", lambda number, rank: swapped.get(rank, rank) + 2)
    assert_equals_plain_decode(path, is_timed=False)


# Seconds by which the second file is later than the first, which lasts 0.96 s.
LATER = {"equal": 0, "13 ms": 0.013, "20 ms": 0.02, "500 ms": 0.5, "earlier": -0.7, "after": 0.96, "an hour": 3600}


@pytest.mark.slow
@pytest.mark.parametrize("seconds", LATER.values(), ids=LATER)
@pytest.mark.parametrize("options", [B_FRAMES, {"bf": "0"}], ids=["B", "no B"])
def test_transport_streams_that_are_joined(options, seconds, craft, tmp_path):
    first = craft("first.ts", frames=24, options=options, times=lambda i: 40 * i + 2000)
    second = craft(
        "second.ts", frames=24, options=options, first=24, times=lambda i: 40 * i + 2000 + round(1000 * seconds)
    )
    path = tmp_path / "joined.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    truth = plain_decode(path)
    assert len(truth) == 48
    parts = np.stack(plain_decode(first) + plain_decode(second))
    assert np.array_equal(np.stack(truth), parts)
    with open_video(path) as video:
        assert np.array_equal(video.read(np.arange(48)), parts)
        for i in random.Random(0).sample(range(48), 12):
            assert np.array_equal(next(video.frames([i]))[1], parts[i])


def test_a_second_part_that_begins_amid_a_group_stands_where_a_plain_decode_shows_it(craft, tmp_path):
    first = craft("first.ts", frames=24, options=B_FRAMES, times=lambda i: 40 * i + 2000)
    second = craft("second.ts", frames=36, options=B_FRAMES, first=24, times=lambda i: 40 * i + 2013)
    data = second.read_bytes()
    path = tmp_path / "joined.ts"
    path.write_bytes(first.read_bytes() + data[len(data) // 3 // 188 * 188 :])
    truth = plain_decode(path)
    with open_video(path) as video:
        wrong = [i for i, frame in video.frames(range(24)) if not np.array_equal(frame, truth[i])]
        assert wrong == []
