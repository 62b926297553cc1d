"""When frames are shown: the oracle is the time that PyAV gives a decoded frame."""

from pathlib import Path

import av
import numpy as np
import pytest

from vidgn.data.readers.pyav.frame_times import frame_seconds, mean_rate
from vidgn.data.readers.pyav.packet_table import PacketTable
from vidgn.data.video import open_video

from ..test_times_that_mislead import B_FRAMES, retimed

JITTER = [0, 33, 70, 99, 140, 1500, 1533, 1570, 1600, 1640, 9000, 9040]


def shown_at(path: Path) -> np.ndarray:
    """Return the seconds of a plain decode, from the first frame on."""
    with av.open(str(path)) as container:
        times = np.array([frame.time for frame in container.decode(video=0)], np.float64)
    return times - times[0]


# name: (options, seconds at which the last frame ends)
FILES = {
    "uneven.mp4": ({"times": JITTER.__getitem__, "frames": 12}, None),
    "uneven.mkv": ({"times": JITTER.__getitem__, "frames": 12}, None),
    "uneven.ts": ({"times": lambda i: JITTER[i] + 2000, "frames": 12}, None),
    "late.mp4": ({"times": lambda i: 40 * i + 10_000}, 36 * 0.04),
    "even.mp4": ({"options": B_FRAMES}, 36 * 0.04),
    "hevc.mkv": ({"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": "log-level=none"}}, 36 * 0.04),
    "vp9.webm": ({"codec": "libvpx-vp9", "times": JITTER.__getitem__, "frames": 12}, None),
    "mpeg4.mp4": ({"codec": "mpeg4", "options": {"bf": "2"}}, 36 * 0.04),
}


@pytest.mark.parametrize("name", FILES)
def test_frames_are_shown_when_a_plain_decode_says(name, craft):
    options, end = FILES[name]
    path = craft(name, **options)
    expected = shown_at(path)
    with open_video(path) as video:
        seconds = video.seconds()
        assert len(seconds) == len(video) + 1 == options.get("frames", 36) + 1
        np.testing.assert_allclose(seconds[:-1], expected, atol=1e-6)
        assert expected[-1] < seconds[-1]
        if end is not None:
            assert seconds[-1] == pytest.approx(end, abs=0.002)


@pytest.mark.parametrize("name", ["h264.avi", "mpeg4.avi", "flash.flv"])
def test_where_only_times_of_decoding_are_known_frames_follow_one_another_evenly(name, craft):
    codecs = {"h264.avi": ("libx264", B_FRAMES), "mpeg4.avi": ("mpeg4", {"bf": "2"}), "flash.flv": ("flv", {})}
    codec, options = codecs[name]
    with open_video(craft(name, codec=codec, options=options)) as video:
        np.testing.assert_allclose(video.seconds(), np.arange(37) * 0.04, atol=0.002)


def test_times_in_the_order_of_the_file_are_sorted(craft, tmp_path):
    path = retimed(craft("whole.mp4", options=B_FRAMES), tmp_path / "v.mkv", lambda number, rank: number)
    with open_video(path) as video:
        video.settle()
        np.testing.assert_allclose(video.seconds(), np.arange(37) * 0.04, atol=0.002)


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ([0, 0, 4, 4, 8, 8], [0, 2, 4, 6, 8, 10, 12]),
        ([0, 4, 4, 4, 16, 20], [0, 4, 8, 12, 16, 20, 24]),
        ([7, 7, 7, 7, 7, 7], [0, 4, 8, 12, 16, 20, 24]),  # none of use: the stated rate tells it
    ],
)
def test_frames_of_equal_times_are_spread_until_the_next_time(times, seconds):
    packets = PacketTable.of(times=np.array(times), sizes=np.ones(6, np.int64), keys=np.array([0]))
    given = frame_seconds(packets, range(6), tick=1.0, fps=0.25, length=None)
    np.testing.assert_allclose(given, seconds)


def test_seconds_of_mpeg_2_copied_into_mp4_always_grow(craft, tmp_path):
    source, path = craft("v.mpg", codec="mpeg2video", options={"bf": "2"}, frames=60), tmp_path / "v.mp4"
    with av.open(str(source)) as given, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None or packet.pts is not None:
                packet.stream = stream
                out.mux(packet)
    with open_video(path) as video:
        seconds = video.seconds()
    assert len(seconds) == 61
    assert (np.diff(seconds) > 0).all()
    np.testing.assert_allclose(seconds, np.arange(61) * 0.04, atol=0.081)


@pytest.mark.parametrize("later", [0, 13, -700, 960, 60_000])
def test_the_second_of_joined_files_follows_the_first(later, craft, tmp_path):
    parts = [craft(f"{ms}.ts", frames=24, times=lambda i, ms=ms: 40 * i + ms) for ms in (2000, 2000 + later + 1)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_video(path) as video:
        seconds = video.seconds()
    assert (np.diff(seconds) > 0).all()
    np.testing.assert_allclose(seconds[:24], np.arange(24) * 0.04, atol=0.002)
    np.testing.assert_allclose(seconds[24:] - seconds[24], np.arange(25) * 0.04, atol=0.002)
    assert seconds[24] == pytest.approx(max(24 * 0.04, (later + 1) / 1000), abs=0.042)


def test_without_times_and_a_rate_nothing_is_known():
    empty = PacketTable.of(times=np.full(3, -(1 << 63)), sizes=np.ones(3, np.int64), keys=np.array([0], np.int64))
    assert np.isnan(frame_seconds(empty, [0, 1, 2], tick=0.04, fps=0.0, length=None)).all()
    even = frame_seconds(empty, [0, 1, 2], tick=0.04, fps=10.0, length=None)
    np.testing.assert_allclose(even, [0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("seconds", "stated", "expected"),
    [
        (np.arange(101) / 25, 25.0, 25.0),
        (np.round(np.arange(101) / 29.97, 3), 29.97, 29.97),  # milliseconds of Matroska
        (np.arange(101) / 6.1, 60.0, 6.1),  # a rate guessed from the first packets
        (np.arange(101) / 12.5, 0.0, 12.5),  # none is stated
        (np.arange(2) / 25, 30.0, 30.0),  # one frame says nothing of a rate
        (np.full(101, np.nan), 30.0, 30.0),
    ],
)
def test_the_mean_rate_is_what_the_file_states_unless_its_times_say_another(seconds, stated, expected):
    assert mean_rate(seconds, stated=stated) == pytest.approx(expected)


def test_a_webm_that_states_no_rate_lasts_as_long_as_its_frames(craft):
    # As browsers record them: one frame every half second, in a file that states neither rate nor length.
    path = craft("v.webm", codec="libvpx", frames=33, times=lambda i: 500 * i, container_options={"live": "1"})
    with open_video(path) as video:
        assert video.seconds()[-1] == pytest.approx(16.5, abs=0.01)
        assert video.fps == pytest.approx(2.0, abs=0.01)
