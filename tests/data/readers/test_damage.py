import contextlib
import errno
import gc
import io
from types import SimpleNamespace

import av
import numpy as np
import pytest

from vidgn.data.readers.pyav import demuxer
from vidgn.data.readers.pyav.packet_decoder import PictureDecoder
from vidgn.data.readers.pyav.reader import PyavReader
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.video import open_video

NO_B = {"x264-params": "bframes=0:scenecut=0"}
NO_B_265 = {"x265-params": "bframes=0:scenecut=0:log-level=none", "preset": "ultrafast"}
# Some hundred kilobytes: more than the buffer between FFmpeg and the file.
LARGE = {"frames": 60, "width": 128, "height": 96, "options": {"x264-params": "qp=1"}}
# An access unit delimiter (H.265, 7.3.2.5): a packet that is in order and holds no picture.
DELIMITER = b"\0\0\0\3\x46\x01\x50"


def spoil(number):
    """Return a change that overwrites one packet but for its first bytes."""

    def change(data):
        start = data[number][:8]
        return [*data[:number], start + b"\xff" * (len(data[number]) - len(start)), *data[number + 1 :]]

    return change


def test_damage_inside_a_clip_is_an_error_and_outside_of_it_unseen(craft, remux, decode_all):
    whole = craft("whole.mp4", options=NO_B)
    path = remux(whole, "spoiled.mp4", change=spoil(14))  # keys at 0, 12, 24
    truth = np.stack(decode_all(whole))
    with open_video(path) as video:
        np.testing.assert_array_equal(video.read(np.arange(0, 14)), truth[:14])
        np.testing.assert_array_equal(video.read(np.arange(24, 36)), truth[24:])
        for wanted in ([14], [20], range(36)):
            with pytest.raises(VideoDecodeError, match=r"spoiled\.mp4: (packet 14: |frame \d+ of 36 is damaged)"):
                list(video.frames(wanted))


def test_damage_anywhere_in_a_file_without_times_is_an_error_when_it_is_opened(craft, remux):
    path = remux(craft("whole.avi", options=NO_B), "spoiled.avi", change=spoil(20))
    with pytest.raises(VideoDecodeError, match=r"spoiled\.avi: packet 2\d: "):
        open_video(path)


def test_a_promised_frame_that_does_not_come_is_an_error(craft, remux):
    whole = craft("whole.mp4", codec="libx265", options=NO_B_265)
    path = remux(whole, "hole.mp4", change=lambda data: [*data[:-1], DELIMITER])
    with open_video(path) as video:
        assert [i for i, _ in video.frames(range(35))] == [*range(35)]
        with pytest.raises(VideoDecodeError, match="frame 35 of 36 is promised and cannot be decoded"):
            list(video.frames([34, 35]))


def test_a_picture_that_the_decoder_marks_as_corrupt_is_an_error(craft, monkeypatch):
    corrupt = SimpleNamespace(is_corrupt=True)
    monkeypatch.setattr(PictureDecoder, "decode", lambda *_, **__: iter([(0, corrupt)]))
    with (
        open_video(craft("v.mp4", frames=2)) as video,
        pytest.raises(VideoDecodeError, match="frame 0 of 2 is damaged"),
    ):
        list(video.frames([0]))


@pytest.mark.parametrize(
    ("pictures", "reason"),
    [([], "no frame of the video stream can be decoded"), ([(0, None)] * 2, "its frames cannot be told apart")],
)
def test_a_whole_decode_that_gives_no_order_is_an_error(pictures, reason, craft, monkeypatch):
    monkeypatch.setattr(PictureDecoder, "decode", lambda *_, **__: iter(pictures))
    with pytest.raises(VideoDecodeError, match=reason):
        open_video(craft("v.avi", frames=2))


# Cut where the container says how long it is; the seconds have their index at the front.
@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("v.mp4", {}, r"no index \(moov\): incomplete download\?"),
        ("v.mp4", {"container_options": {"movflags": "faststart"}}, r"truncated: \d+ of \d+ bytes are missing"),
        ("v.mkv", {}, r"truncated: \d+ of \d+ bytes are missing"),
        ("v.avi", {}, r"truncated: \d+ of \d+ bytes are missing"),
    ],
)
def test_half_a_file_is_called_truncated(name, options, reason, craft):
    path = craft(name, **options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoDecodeError, match=reason):
        open_video(path)


def test_fewer_packets_than_the_index_promises_are_an_error(craft):
    # Cut behind the frames' box by its own account: the box is shortened together with the file.
    path = craft("v.mp4", options=NO_B, container_options={"movflags": "faststart"})
    data = path.read_bytes()
    box, cut = data.index(b"mdat") - 4, len(data) - 400
    path.write_bytes(data[:box] + (cut - box).to_bytes(4, "big") + data[box + 4 : cut])
    with pytest.raises(VideoDecodeError, match=r"truncated: \d+ of 36 promised frames are there"):
        open_video(path)


def test_a_stream_without_packets_is_an_error(craft):
    path = craft("v.mp4", container_options={"movflags": "frag_keyframe+empty_moov"})
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moof") - 4])
    with pytest.raises(VideoDecodeError, match="the video stream holds no frames"):
        open_video(path)


def test_fragments_that_a_box_has_pushed_away_are_an_error_and_say_so(craft):
    # What FFmpeg 8.1 writes with movflags=frag_keyframe+empty_moov+global_sidx: a box before fragments whose places
    # are written down already.
    path = craft("v.mp4", container_options={"movflags": "frag_keyframe+empty_moov"})
    data = path.read_bytes()
    place = data.index(b"moof") - 4
    path.write_bytes(data[:place] + b"\0\0\0\x40free" + bytes(56) + data[place:])
    with pytest.raises(VideoDecodeError, match=r"its first fragment \(bytes \d+ to \d+\) says .* among tables"):
        open_video(path)


def test_an_unknown_codec_is_an_error(craft):
    path = craft("v.mp4")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(VideoDecodeError, match="FFmpeg has no decoder for its video stream"):
        open_video(path)


def test_pictures_that_change_their_size_are_an_error(craft):
    small, large = craft("small.ts", frames=20), craft("large.ts", frames=20, width=128, height=96)
    joined = small.with_name("joined.ts")
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    with open_video(joined) as video:
        assert (len(video), video.height, video.width) == (40, 48, 64)
        assert len(list(video.frames(range(20)))) == 20
        with pytest.raises(VideoDecodeError, match="the size of its pictures changes from 64x48 to 128x96 px"):
            list(video.frames([20]))


def test_a_picture_turned_by_another_angle_is_an_error(craft):
    with (
        open_video(craft("v.mp4", frames=1, rotation=45)) as video,
        pytest.raises(VideoDecodeError, match=r"v\.mp4: the display matrix turns by -45 degrees"),
    ):
        list(video.frames([0]))


def test_pictures_above_max_pixels_are_refused_before_they_are_decoded(craft):
    path = craft("v.mp4", frames=1)
    open_video(path, max_pixels=64 * 48).close()
    with pytest.raises(VideoDecodeError, match=r"pictures of 64x48 px exceed max_pixels \(3071\)"):
        open_video(path, max_pixels=64 * 48 - 1)


def test_a_small_file_is_read_once_so_a_change_does_not_matter(craft, decode_all):
    path, other = craft("v.ts"), craft("other.ts", first=7)
    truth = decode_all(path)
    with open_video(path) as video:
        path.write_bytes(other.read_bytes())
        np.testing.assert_array_equal(video.read(np.arange(36)), np.stack(truth))


def test_a_large_file_that_changes_while_it_is_open_is_an_error(craft, monkeypatch):
    monkeypatch.setattr(demuxer, "_KEPT_BYTES", 0)
    path, other = craft("v.ts", **LARGE), craft("other.ts", **LARGE, first=7, times=lambda i: 50 * i)
    with open_video(path) as video:
        path.write_bytes(other.read_bytes())
        with pytest.raises(VideoDecodeError, match=r"packet \d+ is not what it was: the file has changed"):
            list(video.frames(range(36)))


class SickFile(io.FileIO):
    """A file whose reads or seeks fail after a while."""

    code, method, good_calls = errno.EIO, "read", 5

    def _step(self, method):
        if method == SickFile.method:
            SickFile.good_calls -= 1
            if SickFile.good_calls < 0:
                raise OSError(SickFile.code, "sick")

    def read(self, size=-1):
        self._step("read")
        return super().read(size)

    def seek(self, offset, whence=0):
        self._step("seek")
        return super().seek(offset, whence)


def make_sick(monkeypatch, **how):
    for name, value in how.items():
        monkeypatch.setattr(SickFile, name, value)
    monkeypatch.setattr(demuxer, "open_file", SickFile)


@pytest.mark.parametrize("good_calls", [0, 1, 2, 3])
def test_an_error_of_the_file_system_stays_one_and_names_the_file(good_calls, craft, monkeypatch):
    path = craft("v.mkv", **LARGE)
    make_sick(monkeypatch, code=errno.EIO, method="read", good_calls=good_calls)
    with pytest.raises(OSError, match=r"sick.*v\.mkv") as caught:
        open_video(path)
    assert caught.value.errno == errno.EIO


def test_a_header_that_points_before_the_file_is_damage(craft, monkeypatch):
    path = craft("v.mkv", **LARGE)
    make_sick(monkeypatch, code=errno.EINVAL, method="seek", good_calls=3)
    with pytest.raises(VideoDecodeError, match="it points outside of the file"):
        open_video(path)


def test_two_passes_at_once_are_refused(craft):
    with open_video(craft("v.mp4")) as video:
        first = video.frames(range(36))
        next(first)
        assert len(list(video.frames([3]))) == 1
        with pytest.raises(RuntimeError, match=r"another pass through .* ended this one"):
            list(first)


def test_a_closed_reader_gives_no_frames(craft):
    video = open_video(craft("v.mp4"))
    pictures = video.frames(range(36))
    next(pictures)
    video.close()
    video.close()
    with pytest.raises(RuntimeError, match=r"close\(\) ended this one"):
        list(pictures)
    with pytest.raises(ValueError, match=r"the reader of .*v\.mp4 is closed"):
        video.frames([0])


def test_a_failed_opening_leaves_no_file_open(craft, monkeypatch):
    opened = []
    monkeypatch.setattr(demuxer, "open_file", lambda path: opened.append(io.FileIO(path)) or opened[-1])
    path = craft("v.mp4")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(VideoDecodeError, match="no index"):
        open_video(path)
    assert [file.closed for file in opened] == [True]


@pytest.mark.slow
def test_no_picture_and_no_reader_waits_for_the_garbage_collector(craft, remux):
    whole = craft("whole.mp4", options=NO_B, rotation=90)
    spoiled = remux(whole, "spoiled.mp4", change=spoil(14))
    gc.collect()
    others = alive()  # an exception that another test raised may hold a reader
    gc.disable()
    try:
        for path in (whole, spoiled):
            with contextlib.suppress(VideoDecodeError), open_video(path) as video:
                list(video.frames(range(36)))
            del video
        waiting = [found for found in alive() if not any(found is other for other in others)]
    finally:
        gc.enable()
    assert waiting == []


def alive():
    """All readers, and pictures but for the copies of 2x2 px that carry the display matrix: those do wait."""
    found = gc.get_objects()
    return [o for o in found if type(o) is PyavReader or (type(o) is av.VideoFrame and o.width > 2)]
