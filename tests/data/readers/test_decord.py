import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.video import open_video

pytest.importorskip("decord", reason="decord has no wheel for this machine")

GRADUAL = {"x264-params": "intra-refresh=1:bframes=0:scenecut=0"}
RECOVERY = {"x264-params": "bframes=1:open-gop=1:b-pyramid=strict:ref=5:keyint=5:min-keyint=1"}
OPEN_264 = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=12:min-keyint=12:scenecut=0"}

ORDINARY = {
    "b_frames.mp4": {},
    "b_frames.mkv": {},
    "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "uneven.mp4": {"times": lambda i: 40 * i + i % 3 * 15 + 500 * (i > 20)},
    "late.mp4": {"times": lambda i: 40 * i + 10_000},
    "odd_444.mp4": {"pixels": "yuv444p", "width": 61, "height": 47},
    "turned.mp4": {"rotation": 90, "width": 80, "height": 64},
    "turned_444.mp4": {"rotation": 180, "width": 80, "height": 64, "pixels": "yuv444p"},
    "upright_422.mp4": {"width": 80, "height": 64, "pixels": "yuv422p"},
    "one.mp4": {"frames": 1},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_files_give_the_same_frames_as_pyav(name, craft):
    path = craft(name, **ORDINARY[name])
    with open_video(path) as pyav, open_video(path, backend="decord") as decord:
        assert (len(decord), decord.height, decord.width) == (len(pyav), pyav.height, pyav.width)
        assert decord.fps == pyav.fps
        for i in random.Random(0).sample(range(len(pyav)), len(pyav)):
            np.testing.assert_array_equal(next(decord.frames([i]))[1], next(pyav.frames([i]))[1])
            pictures = [next(reader.pictures([i]))[1] for reader in (decord, pyav)]
            assert pictures[0].shape == pictures[1].shape
            parts = [picture.pixels(slice(5, 33), slice(2, 40), order="bgr") for picture in pictures]
            np.testing.assert_array_equal(*parts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "clips/arm_wrestling_340x256_28fps.mp4",
        "clips/exactly_32_frames.mp4",
        "clips/flipping_a_pancake.mkv",
        "clips/people_340x256_6fps.mp4",
        "odd/nasa_13013_rotated.mp4",
        "odd/test_non_zero_start.mp4",
        "odd/testsrc2_odd_height_and_width_444.mp4",
        "odd/unordered.mov",
        "odd/video_0.mov",
        "odd/video_90.mov",
    ],
)
def test_real_files_give_the_same_frames_as_pyav(name, real_videos):
    with open_video(real_videos / name) as pyav, open_video(real_videos / name, backend="decord") as decord:
        wanted = sorted(random.Random(3).sample(range(len(pyav)), min(len(pyav), 12)))
        for (i, ours), (j, theirs) in zip(pyav.frames(wanted), decord.frames(wanted), strict=True):
            assert i == j
            np.testing.assert_array_equal(ours, theirs)


# decord 0.6 returns other frames than PyAV for each of these, or frames of another shape.
REFUSED = {
    "hevc.mp4": (
        {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
        "reads only H.264 exactly, not hevc",
    ),
    "mpeg4.avi": ({"codec": "mpeg4"}, "reads only H.264 exactly, not mpeg4"),
    "transport.ts": ({}, "reads only mp4/mov and mkv exactly, not mpegts"),
    "h264.avi": ({}, "reads only mp4/mov and mkv exactly, not avi"),
    "ten_bits.mp4": ({"pixels": "yuv420p10le"}, "converts yuv420p10le to other colours"),
    "interlaced.mp4": ({"options": {"x264-params": "tff=1"}}, "deinterlaces wrongly"),
    "open.mp4": ({"options": OPEN_264}, "it has open groups of pictures"),
    "gradual.mp4": ({"width": 96, "options": GRADUAL}, "packet 12 says that decoding can begin there, but it cannot"),
    "recovery.mp4": (
        {"gop": 5, "frames": 7, "width": 64, "pixels": "gray", "options": RECOVERY},
        r"its key packet \d is not an IDR picture, and decord gives other frames behind such",
    ),
    "turned_422.mp4": ({"rotation": 180, "pixels": "yuv422p"}, "decord turns yuv422p before it converts it, to other"),
    "mirrored.mp4": ({"mirrored": True}, "its pictures are mirrored"),
    "narrow.mp4": ({"width": 16}, r"decord gives pictures of shape \(48, 16, 6\) at a width of 16 px"),
    "unlucky.mp4": ({"width": 48}, r"decord gives pictures of shape \(48, 48, 4\) at a width of 48 px"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_decord_gets_wrong_is_refused_and_pyav_named(name, craft):
    options, reason = REFUSED[name]
    with pytest.raises(VideoDecodeError, match=f"{reason}.*; use backend='pyav', which reads it exactly"):
        open_video(craft(name, **options), backend="decord")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("clips/nasa_13013.mp4", "chooses another one of its 2 video streams"),
        ("clips/mpeg4_320x240.avi", "reads only H.264 exactly, not mpeg4"),
        ("odd/av1_video.mkv", "reads only H.264 exactly, not libdav1d"),
        ("odd/discard_first_keyframe.mp4", "an edit list hides frames, which decord shows"),
        ("odd/h264_10bits.mp4", "converts yuv420p10le to other colours"),
        ("odd/h265_video.mp4", "reads only H.264 exactly, not hevc"),
        ("odd/testsrc2_vp9.webm", "reads only H.264 exactly, not vp9"),
    ],
)
def test_real_files_that_decord_gets_wrong_are_refused(name, reason, real_videos):
    with pytest.raises(VideoDecodeError, match=reason):
        open_video(real_videos / name, backend="decord")


class FakeError(Exception):
    pass


def fake_decord(monkeypatch, *, count=36, opening=None):
    class Video:
        def __init__(self, path, **_):
            if opening:
                raise opening

        def __len__(self):
            return count

        def __getitem__(self, index):
            if index > 5:
                raise FakeError("gone\nStack trace:")
            return SimpleNamespace(asnumpy=lambda: np.zeros((48, 64, 3), dtype=np.uint8))

    monkeypatch.setitem(
        sys.modules, "decord", SimpleNamespace(VideoReader=Video, DECORDError=FakeError, cpu=lambda device: device)
    )


@pytest.mark.parametrize(
    "error",
    [
        FakeError("[10:00:00] video_reader.cc:151: no luck\nStack trace:\n  0x1"),
        RuntimeError("Error reading v.mp4: no luck"),  # where its reader comes back empty
    ],
)
def test_an_error_of_decord_names_the_file_and_leaves_out_the_stack_trace(error, craft, monkeypatch):
    fake_decord(monkeypatch, opening=error)
    with pytest.raises(VideoDecodeError, match=r"v\.mp4: decord cannot open it: .*no luck$"):
        open_video(craft("v.mp4"), backend="decord")


def test_another_count_than_pyavs_is_refused(craft, monkeypatch):
    fake_decord(monkeypatch, count=37)
    with pytest.raises(VideoDecodeError, match="decord counts 37 frames instead of 36; use backend='pyav'"):
        open_video(craft("v.mp4"), backend="decord")


def test_a_frame_that_decord_cannot_decode_is_an_error(craft, monkeypatch):
    fake_decord(monkeypatch)
    with (
        open_video(craft("v.mp4"), backend="decord") as video,
        pytest.raises(VideoDecodeError, match=r"v\.mp4: frame 6: gone$"),
    ):
        list(video.frames([5, 6]))


def test_times_that_cannot_be_trusted_are_refused(craft, monkeypatch):
    monkeypatch.setattr("vidgn.data.readers.pyav.index_plan.index_by_time", lambda packets, **_: None)
    with pytest.raises(VideoDecodeError, match="its times cannot be trusted, and decord trusts them"):
        open_video(craft("v.mp4"), backend="decord")


def test_a_picture_of_another_size_at_a_key_is_refused(craft, monkeypatch):
    picture = SimpleNamespace(height=48, width=32, format=SimpleNamespace(name="yuv420p"))
    monkeypatch.setattr("vidgn.data.readers.decord.DecordReader.__len__", lambda self: 36)
    monkeypatch.setattr("vidgn.data.readers.pyav.reader.PyavReader._upright_shape", lambda self: (48, 64))
    monkeypatch.setattr(
        "vidgn.data.readers.pyav.packet_decoder.PictureDecoder.decode", lambda *_, **__: iter([(0, picture)])
    )
    with pytest.raises(VideoDecodeError, match="its pictures change size"):
        open_video(craft("v.mp4"), backend="decord")


def test_a_missing_package_says_how_to_install_it(craft, monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(ImportError, match=r"backend='decord' needs the package decord; pip install decord, or use"):
        open_video(craft("v.mp4"), backend="decord")
