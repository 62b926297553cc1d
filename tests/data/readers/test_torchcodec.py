"""The back end torchcodec: beside the real one where it loads, beside a stand-in for its faults everywhere."""

import io
import random
import re
import sys
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidgn.data.readers.torchcodec import load_torchcodec
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.storage.remote import open_file
from vidgn.data.video import open_video

from ..conftest import plain_decode, to_rgb, write_video
from ..test_video import BROKEN
from .pyav.test_reader import CRAFTED, FRAGMENTS, REAL
from .test_any_window import FILES, Window


def why_not() -> str:
    try:
        load_torchcodec()
    except ImportError as err:
        return str(err)
    return ""


WHY_NOT = why_not()
real = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "torchcodec loads")

CLOSE = {"x265-params": "log-level=none:bframes=4:open-gop=1:keyint=5:min-keyint=1:scenecut=0", "preset": "ultrafast"}
KINDS = (
    {name: options for name, (options, _) in CRAFTED.items()}
    | FILES
    | {
        "turned.mp4": {"rotation": 90, "width": 80, "height": 64},
        "mirrored.mp4": {"mirrored": True},
        "close.mp4": {"codec": "libx265", "gop": 5, "options": CLOSE, "container_options": FRAGMENTS},
        "close_in_one.mp4": {"codec": "libx265", "gop": 5, "options": CLOSE},
    }
)
REFUSED = {  # what torchcodec 0.17 gives other frames or other colours of, and what cannot be compared with it
    "transport.ts": "torchcodec reads only mp4/mov and mkv/webm exactly, not mpegts",
    "open_gop.ts": "torchcodec reads only mp4/mov and mkv/webm exactly, not mpegts",
    "start.ts": "torchcodec reads only mp4/mov and mkv/webm exactly, not mpegts",
    "h264.avi": "torchcodec reads only mp4/mov and mkv/webm exactly, not avi",
    "h264_120.avi": "torchcodec reads only mp4/mov and mkv/webm exactly, not avi",
    "mpeg4.mp4": "torchcodec reads only H.264, HEVC, VP9, AV1 exactly, not mpeg4",
    "mjpeg.avi": "torchcodec reads only H.264, HEVC, VP9, AV1 exactly, not mjpeg",
    "vp8.webm": "torchcodec reads only H.264, HEVC, VP9, AV1 exactly, not vp8",
    "lossless.mkv": "torchcodec reads only H.264, HEVC, VP9, AV1 exactly, not ffv1",
    "interlaced.mp4": "torchcodec converts interlaced pictures to other colours",
    "ten_bits.mp4": "torchcodec converts yuv420p10le to other colours",
    "open_gop.mp4": "is not an IDR picture, and torchcodec loses frames behind such",
    "open_gop_120.mp4": "is not an IDR picture, and torchcodec loses frames behind such",
    "mirrored.mp4": "its pictures are mirrored",
    "close.mp4": r"its key packets \d+ and \d+ lie so close that torchcodec can begin at the wrong one",
    "gradual.mp4": "its key packet 12 is not an IDR picture, and torchcodec loses frames behind such",
}
UNLIKE = {"mpeg4.avi", "mpeg2.mpg", "flash.flv", "windows.wmv"}  # refused as those are, by codec
EXACT = sorted(set(KINDS) - set(REFUSED) - UNLIKE)
REFUSED_REAL = {
    "clips/mpeg4_320x240.avi": "exactly, not mpeg4",
    "odd/h264_10bits.mp4": "torchcodec converts yuv420p10le to other colours",
}
WIDTHS = [2, 16, 30, 32, 34, 46, 62, 64, 66, 96, 126, 340, 426]  # torchcodec converts multiples of 32 another way
PIXELS = ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "gray"]


@pytest.fixture(scope="module")
def crafted(tmp_path_factory):
    return tmp_path_factory.mktemp("torchcodec")


@real
@pytest.mark.parametrize("name", EXACT)
def test_any_windows_equal_a_plain_decode(name, crafted):
    path = crafted / name
    write_video(path, **KINDS[name])
    truth = np.stack(plain_decode(path))
    with open_video(path) as ours, open_video(path, backend="torchcodec") as video:
        assert (len(video), video.height, video.width) == (len(ours), ours.height, ours.width)
        assert video.fps == ours.fps
        for i in random.Random(0).sample(range(len(video)), len(video)):
            assert np.array_equal(next(video.frames([i]))[1], truth[i]), i

        @settings(max_examples=8, deadline=None, database=None)
        @given(st.builds(Window, st.integers(0, 400), st.integers(1, 16), st.integers(1, 8)))
        def check(window):
            indices = window.of(len(truth))
            assert np.array_equal(video.read(indices), truth[indices]), window

        check()


@real
@pytest.mark.parametrize("name", [name for name in REAL if name not in REFUSED_REAL])
def test_real_files_equal_a_plain_decode(name, real_videos):
    truth = plain_decode(real_videos / name)
    with open_video(real_videos / name, backend="torchcodec") as video:
        assert len(video) == len(truth)
        wrong = [i for i, image in video.frames(range(0, len(truth), 2)) if not np.array_equal(image, truth[i])]
        for i in random.Random(2).sample(range(len(truth)), min(len(truth), 8)):
            wrong += [i for _, image in video.frames([i]) if not np.array_equal(image, truth[i])]
    assert wrong == []


@real
@pytest.mark.parametrize("pixels", PIXELS)
@pytest.mark.parametrize("width", WIDTHS)
def test_colours_are_pyavs_at_every_width(width, pixels, tmp_path):
    write_video(tmp_path / "v.mp4", frames=2, width=width, height=34, pixels=pixels)
    with open_video(tmp_path / "v.mp4", backend="torchcodec") as video:
        np.testing.assert_array_equal(video.read(np.arange(2)), np.stack(plain_decode(tmp_path / "v.mp4")))


@real
def test_what_torchcodec_is_refused_for_is_so(crafted):
    # Else the refusal could go: from a transport stream it gives frames of other times.
    decoders, _ = load_torchcodec()
    write_video(crafted / "late.ts", times=lambda i: 40 * i + 10_000)
    truth = plain_decode(crafted / "late.ts")
    video = decoders.VideoDecoder(str(crafted / "late.ts"), dimension_order="NHWC")
    assert not all(np.array_equal(video.get_frame_at(i).data.numpy(), truth[i]) for i in range(20))


@real
def test_torchcodec_loses_the_last_frames_behind_a_key_that_is_no_idr(tmp_path):
    params = "bframes=3:open-gop=1:b-pyramid=normal:ref=4:keyint=5:min-keyint=2"
    write_video(tmp_path / "open.mp4", gop=5, width=96, height=64, options={"x264-params": params})
    decoders, _ = load_torchcodec()
    video = decoders.VideoDecoder(str(tmp_path / "open.mp4"))
    with pytest.raises(RuntimeError, match="no more frames left"):
        [video.get_frame_at(i) for i in (35, 34, 33)]


@real
@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_say_what_is_wrong_with_them(name, real_videos):
    path, reason = str(real_videos / "broken" / name), re.escape(BROKEN[name])
    if name == "corrupted.mp4":  # which torchcodec itself finds
        reason = r"frame \d+ of 50: Could not push packet to decoder: Invalid data found when processing input"
    with (
        pytest.raises(VideoDecodeError, match=f"^{re.escape(path)}: {reason}$"),
        open_video(path, backend="torchcodec") as video,
    ):
        list(video.frames(range(len(video))))


@real
def test_an_input_output_error_stays_one_and_names_the_file(craft, monkeypatch):
    path = craft("v.mp4")
    monkeypatch.setattr("vidgn.data.readers.torchcodec.open_file", Failing)
    with pytest.raises(OSError, match=r"Input/output error: .*v\.mp4") as caught:
        open_video(path, backend="torchcodec")
    assert not isinstance(caught.value, VideoDecodeError)


class Failing(io.FileIO):
    def readinto(self, buffer):
        raise OSError(5, "Input/output error")

    read = readinto


@pytest.fixture
def stand_in(monkeypatch):
    """A torchcodec that decodes with PyAV and has one fault after the first frame, which the reader compares."""

    def install(*, count=None, opening=None, failing=None, late=0, first=None, change=None):
        class Video:
            def __init__(self, file, *, stream_index, dimension_order, num_ffmpeg_threads):
                assert (dimension_order, num_ffmpeg_threads) == ("NHWC", 1)
                if opening:
                    raise opening
                with av.open(file) as container:
                    pictures = list(container.decode(container.streams[stream_index]))
                self.times = [float(picture.pts * picture.time_base) for picture in pictures]
                self.images = [to_rgb(picture) for picture in pictures]
                self.asked = 0

            def __len__(self):
                return len(self.images) if count is None else count

            def get_frame_at(self, index):
                self.asked += 1
                image = self.images[index].copy()
                if self.asked == 1:
                    return frame(first(image) if first else image, self.times[index])
                if failing:
                    raise failing
                return frame(change(image) if change else image, self.times[index + late])

        def frame(image, seconds):
            return SimpleNamespace(data=torch.from_numpy(image), pts_seconds=seconds)

        module = SimpleNamespace(ffmpeg_major_version=7, decoders=SimpleNamespace(VideoDecoder=Video))
        monkeypatch.setitem(sys.modules, "torchcodec", module)

    return install


def test_frames_clips_and_parts_of_pictures(craft, stand_in):
    stand_in()
    path = craft("v.mp4")
    truth = np.stack(plain_decode(path))
    with open_video(path, backend="torchcodec") as video:
        assert (video.path, len(video), video.height, video.width, video.fps) == (str(path), 36, 48, 64, 25.0)
        assert [index for index, _ in video.frames([7, 3, 7])] == [3, 7]
        indices = np.array([[30, 4, 4], [0, 35, 1]])
        np.testing.assert_array_equal(video.read(indices), truth[indices])
        ((_, picture),) = video.pictures([5])
        assert picture.shape == (48, 64)
        part = picture.pixels(slice(3, 20), slice(7, 60), order="bgr")
        np.testing.assert_array_equal(part, truth[5][3:20, 7:60, ::-1])
        with pytest.raises(IndexError, match=r"frame 36 of .*v\.mp4 does not exist; its frames are 0\.\.35\."):
            video.frames([36])
        file = video._file
    assert file.closed
    with pytest.raises(ValueError, match=r"the reader of .*v\.mp4 is closed; open the video again"):
        video.frames([0])


@pytest.mark.parametrize("name", REFUSED)
def test_what_torchcodec_gets_wrong_is_refused_and_pyav_named(name, craft, stand_in):
    stand_in()
    with pytest.raises(VideoDecodeError, match=f"{REFUSED[name]}; use backend='pyav', which reads it exactly"):
        open_video(craft(name, **KINDS[name]), backend="torchcodec")


@pytest.mark.parametrize("name", REFUSED_REAL)
def test_real_files_that_torchcodec_gets_wrong_are_refused(name, real_videos, stand_in):
    stand_in()
    with pytest.raises(VideoDecodeError, match=REFUSED_REAL[name]):
        open_video(real_videos / name, backend="torchcodec")


def test_times_that_cannot_be_trusted_are_refused(craft, stand_in, monkeypatch):
    stand_in()
    monkeypatch.setattr("vidgn.data.readers.pyav.index_plan.index_by_time", lambda packets, **_: None)
    with pytest.raises(VideoDecodeError, match="its times cannot be trusted, and torchcodec trusts them; use"):
        open_video(craft("v.mp4"), backend="torchcodec")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"count": 37}, "torchcodec counts 37 frames instead of 36; use backend='pyav'"),
        (
            {"first": lambda image: image ^ 1},
            r"with FFmpeg 7, torchcodec gives other pixels of frame \d+; use backend='p",
        ),
        ({"first": lambda image: image[:, :32].copy()}, "size of its pictures changes from 64x48 to 32x48 px$"),
        ({"opening": RuntimeError("Decoder, /a/b/D.cpp:41, Could not open\nat 0x1")}, "not open it: Could not open$"),
        ({"opening": ValueError("no stream")}, "torchcodec cannot open it: no stream$"),
    ],
    ids=["count", "colours", "size", "open", "stream"],
)
def test_a_fault_at_opening_names_the_file_and_lets_go_of_it(fault, reason, craft, stand_in, monkeypatch):
    stand_in(**fault)
    files = []
    monkeypatch.setattr(
        "vidgn.data.readers.torchcodec.open_file", lambda path: files.append(open_file(path)) or files[-1]
    )
    with pytest.raises(VideoDecodeError, match=rf"v\.mp4: .*{reason}"):
        open_video(craft("v.mp4"), backend="torchcodec")
    assert [file.closed for file in files] == [True]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"late": 1}, r"frame 6 of 36, due at 0\.240 s: torchcodec gave that of 0\.280 s; backend='pyav' reads it if"),
        ({"failing": RuntimeError("Requested next frame while there are none\nat 0x1")}, "frame 6 of 36: .* are none$"),
        ({"failing": IndexError("Invalid frame index=6")}, "frame 6 of 36: Invalid frame index=6$"),
        ({"change": lambda image: image[:24].copy()}, "the size of its pictures changes from 64x48 to 64x24 px$"),
    ],
    ids=["late", "lost", "index", "size"],
)
def test_a_fault_in_a_frame_is_an_error(fault, reason, craft, stand_in):
    stand_in(**fault)
    with (
        open_video(craft("v.mp4"), backend="torchcodec") as video,
        pytest.raises(VideoDecodeError, match=rf"v\.mp4: {reason}"),
    ):
        list(video.frames([6]))


def test_a_missing_package_says_how_to_install_it(craft, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    with pytest.raises(ImportError, match=r"backend='torchcodec' needs the package torchcodec; pip install torchcodec"):
        open_video(craft("v.mp4"), backend="torchcodec")


def test_a_missing_ffmpeg_says_what_to_install(craft, monkeypatch):
    found_none = SimpleNamespace(ffmpeg_major_version=None, decoders=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchcodec", found_none)
    with pytest.raises(ImportError, match=r"needs the shared libraries of FFmpeg \(4 to 9\).*or use backend='pyav'"):
        open_video(craft("v.mp4"), backend="torchcodec")


def test_an_older_torchcodec_that_does_not_import_says_the_same(craft, monkeypatch, tmp_path):
    (tmp_path / "torchcodec").mkdir()
    (tmp_path / "torchcodec" / "__init__.py").write_text("raise RuntimeError('Could not load libtorchcodec')")
    for name in [name for name in sys.modules if name.split(".")[0] == "torchcodec"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ImportError, match=r"needs the shared libraries of FFmpeg \(4 to 9\), and torchcodec finds none"
    ):
        open_video(craft("v.mp4"), backend="torchcodec")
