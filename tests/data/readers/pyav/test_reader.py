import random

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type as SideDataType

from vidgn.data.readers.pyav import demuxer
from vidgn.data.readers.pyav.reader import PyavReader
from vidgn.data.video import open_video

from ...conftest import picture

NO_B = {"x264-params": "bframes=0:scenecut=0"}
OPEN_264 = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=12:min-keyint=12:scenecut=0"}
OPEN_265 = {"x265-params": OPEN_264["x264-params"] + ":log-level=none", "preset": "ultrafast"}
GRADUAL = {"x264-params": "intra-refresh=1:bframes=0:scenecut=0"}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}

# name: (how it is written, does the index come from its times)
CRAFTED = {
    "b_frames.mp4": ({}, True),
    "b_pyramid.mp4": ({"options": {"x264-params": "b-pyramid=normal:bframes=7:b-adapt=0"}, "gop": 24}, True),
    "fragmented.mp4": ({"container_options": FRAGMENTS}, True),  # a seek by time lands on wrong frames here
    "transport.ts": ({"times": lambda i: 40 * i + 10_000}, True),  # and here on all of them
    "open_gop.mp4": ({"options": OPEN_264}, True),
    "open_gop.ts": ({"options": OPEN_264}, True),
    "open_gop_hevc.mp4": ({"codec": "libx265", "options": OPEN_265}, True),
    "open_gop_hevc.mkv": ({"codec": "libx265", "options": OPEN_265}, True),
    "uneven.mkv": ({"times": lambda i: 40 * i + i % 3 * 15 + 500 * (i > 20)}, True),  # variable frame rate
    "late.mp4": ({"times": lambda i: 40 * i + 10_000}, True),  # begins at ten seconds
    "early.mkv": ({"times": lambda i: 40 * i - 400}, True),  # begins before zero
    "gradual.mp4": ({"width": 96, "options": GRADUAL}, True),  # keys that are none
    "interlaced.mp4": ({"options": {"x264-params": "tff=1"}}, False),
    "h264.avi": ({}, False),  # AVI stores no times of showing
    "mpeg4.avi": ({"codec": "mpeg4", "options": {"bf": "2"}}, False),
    "mjpeg.avi": ({"codec": "mjpeg", "pixels": "yuvj420p"}, False),
    "mpeg4.mp4": ({"codec": "mpeg4", "options": {"bf": "2"}}, False),
    "mpeg2.mpg": ({"codec": "mpeg2video", "options": {"bf": "2"}}, False),
    "flash.flv": ({"codec": "flv"}, False),
    "windows.wmv": ({"codec": "wmv2"}, False),
    "vp8.webm": ({"codec": "libvpx"}, False),
    "vp9.webm": ({"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}}, True),
    "one.mp4": ({"frames": 1}, True),
    "gray.mp4": ({"pixels": "gray"}, True),
    "ten_bits.mp4": ({"pixels": "yuv420p10le"}, True),
    "odd_444.mp4": ({"pixels": "yuv444p", "width": 61, "height": 47}, True),
    "tiny.mp4": ({"width": 2, "height": 2}, True),
    "lossless.mkv": ({"codec": "ffv1"}, False),
}


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0, 1 << 24], ids=["read again", "kept"])  # bytes of packets kept from the first pass
@pytest.mark.parametrize("name", CRAFTED)
def test_any_frame_in_any_order_equals_a_plain_decode(name, kept, craft, decode_all, monkeypatch):
    monkeypatch.setattr(demuxer, "_KEPT_BYTES", kept)
    options, is_timed = CRAFTED[name]
    path = craft(name, **options)
    truth = decode_all(path)
    with open_video(path) as video:
        assert isinstance(video, PyavReader)
        assert video.is_timed is is_timed
        assert len(video) == len(truth) == options.get("frames", 36)
        order = random.Random(0).sample(range(len(truth)), len(truth))
        wrong = [i for i in order if not np.array_equal(next(video.frames([i]))[1], truth[i])]
    assert wrong == []


@pytest.mark.parametrize("name", ["b_frames.mp4", "open_gop_hevc.mp4", "h264.avi", "gradual.mp4", "transport.ts"])
def test_any_set_of_frames_equals_a_plain_decode(name, craft, decode_all):
    path = craft(name, **CRAFTED[name][0])
    truth = decode_all(path)
    rng = random.Random(1)
    with open_video(path) as video:
        for _ in range(12):
            wanted = sorted(rng.sample(range(36), rng.randint(1, 12)))
            got = dict(video.frames(wanted))
            assert list(got) == wanted
            assert [i for i in wanted if not np.array_equal(got[i], truth[i])] == []


REAL = {
    "clips/arm_wrestling_340x256_28fps.mp4": (280, 256, 340, 28.0),
    "clips/exactly_32_frames.mp4": (32, 256, 340, 30.0),
    "clips/flipping_a_pancake.mkv": (310, 240, 426, 30.0),
    "clips/mpeg4_320x240.avi": (164, 240, 320, 25.0),
    "clips/nasa_13013.mp4": (325, 180, 320, 25.0),
    "clips/people_340x256_6fps.mp4": (57, 256, 340, 6.0),
    "odd/av1_video.mkv": (125, 360, 640, 25.0),
    "odd/discard_first_keyframe.mp4": (25, 64, 64, 25.0),
    "odd/h264_10bits.mp4": (30, 200, 200, 30.0),
    "odd/h265_video.mp4": (10, 128, 128, 10.0),
    "odd/nasa_13013_rotated.mp4": (17, 480, 270, 29.97),
    "odd/test_non_zero_start.mp4": (12, 112, 200, 30.0),
    "odd/testsrc2_odd_height_and_width_444.mp4": (25, 241, 321, 25.0),
    "odd/testsrc2_vp9.webm": (30, 720, 1280, 30.0),
    "odd/unordered.mov": (4, 50, 50, 32.0),
    "odd/video_0.mov": (3, 320, 568, 30.0),
    "odd/video_90.mov": (3, 568, 320, 30.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_files_are_read_exactly(name, real_videos, decode_all):
    num_frames, height, width, fps = REAL[name]
    truth = decode_all(real_videos / name)
    with open_video(real_videos / name) as video:
        assert (len(video), len(truth)) == (num_frames, num_frames)
        assert (video.height, video.width) == (height, width)
        assert video.fps == pytest.approx(fps, abs=0.005)
        wrong = []
        for first in range(3):  # every frame once, two of three passed over
            wrong += [
                i for i, frame in video.frames(range(first, num_frames, 3)) if not np.array_equal(frame, truth[i])
            ]
        for i in random.Random(2).sample(range(num_frames), min(num_frames, 8)):
            wrong += [i for _, frame in video.frames([i]) if not np.array_equal(frame, truth[i])]
    assert wrong == []


def test_every_real_file_is_in_the_table(real_videos):
    assert {f"{p.parent.name}/{p.name}" for p in real_videos.glob("[co][ld]*/*")} == set(REAL)


# np.rot90 turns counter-clockwise, as the angle in the file does.
@pytest.mark.parametrize(("rotation", "turns"), [(0, 0), (90, 1), (180, 2), (270, 3)])
def test_rotated_videos_come_out_upright(rotation, turns, craft):
    stored = craft("stored.mp4", frames=3)
    turned = craft("turned.mp4", frames=3, rotation=rotation)
    with open_video(stored) as video:
        pictures = video.read(np.arange(3))
    with open_video(turned) as video:
        assert (video.height, video.width) == np.rot90(pictures[0], turns).shape[:2]
        np.testing.assert_array_equal(video.read(np.arange(3)), np.rot90(pictures, turns, axes=(1, 2)))


def test_mirrored_videos_come_out_mirrored(craft):
    with open_video(craft("stored.mp4", frames=1)) as video:
        stored = video.read(np.arange(1))
    with open_video(craft("mirrored.mp4", frames=1, mirrored=True)) as video:
        np.testing.assert_array_equal(video.read(np.arange(1)), stored[:, :, ::-1])


def test_slice_threads_change_no_pixel(craft, decode_all):
    path = craft("slices.mp4", options={"x264-params": "slices=4"})
    with open_video(path, num_threads=2) as video:
        np.testing.assert_array_equal(video.read(np.arange(36)), np.stack(decode_all(path)))


def test_ten_clips_come_from_one_opening_and_one_pass(craft, decode_all):
    path = craft("long.mp4", frames=120)
    truth = np.stack(decode_all(path))
    clips = (np.arange(10)[:, None] * 12 + np.arange(8) * 2) % 120  # (10, 8)
    with open_video(path) as video:
        assert isinstance(video, PyavReader)
        got = video.read(clips)
        assert video.source.opens == 1
        assert video.decoder.packets_decoded <= 120
    np.testing.assert_array_equal(got, truth[clips])


@pytest.mark.parametrize(("spare", "is_kept"), [(0, True), (-1, False)])
def test_kept_packets_count_with_what_each_takes_beside_its_bytes(spare, is_kept, craft, monkeypatch):
    path = craft("plain.mkv", options=NO_B)
    with open_video(path) as video:
        sizes = [video.source.packets[number].size for number in range(36)]
    monkeypatch.setattr(demuxer, "_KEPT_BYTES", sum(sizes) + 36 * 600 + spare)
    with open_video(path) as video:
        assert (video.source._kept is not None) is is_kept


def test_nothing_is_decoded_before_the_key_or_after_the_last_wanted_frame(craft):
    # Keys at 0, 12, 24: frames 14 and 15 need packets 12 to 15, frame 25 needs 24 and 25.
    path = craft("plain.mp4", options=NO_B)
    with open_video(path) as video:
        assert isinstance(video, PyavReader)
        assert [i for i, _ in video.frames([25, 14, 15, 14])] == [14, 15, 25]
        assert video.decoder.packets_decoded == 6


def test_frames_come_one_by_one(craft):
    with open_video(craft("plain.mp4", options=NO_B)) as video:
        assert isinstance(video, PyavReader)
        pictures = video.frames(range(36))
        next(pictures)
        assert video.decoder.packets_decoded < 5


def test_a_key_that_is_none_costs_packets_and_no_frame(craft, decode_all):
    path = craft("gradual.mp4", **CRAFTED["gradual.mp4"][0])
    truth = decode_all(path)
    with open_video(path) as video:
        assert isinstance(video, PyavReader)
        assert list(video.index.keys) == [0, 12, 24]
        key = 24
        np.testing.assert_array_equal(next(video.frames([key]))[1], truth[key])
        assert video.decoder.packets_decoded > 2  # the key alone gave nothing, so it began earlier


def test_side_data_that_pyav_does_not_name_is_passed_over(craft, tmp_path, decode_all):
    # EXIF in every picture, as cameras write it (JPEG's APP1, CIPA DC-008, 4.7.2): side data of kind 31 since FFmpeg 8.
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\x04\0\0\0abc\0\0\0\0\0"
    path = with_exif(craft("plain.avi", frames=5, codec="mjpeg", pixels="yuvj420p"), tmp_path / "exif.avi", exif)
    with av.open(str(path)) as container:
        assert [data.type.name for data in next(container.decode(video=0)).side_data if data.type.value == 31]
    with open_video(path) as video:
        np.testing.assert_array_equal(video.read(np.arange(5)), np.stack(decode_all(path)))


def with_exif(source, target, exif):
    """Copy MJPEG with a segment of EXIF behind the first marker of each picture."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        out = new.add_stream_from_template(stream)
        for old_packet in old.demux(stream):
            data = bytes(old_packet)
            if data:
                segment = b"\xff\xe1" + (2 + len(exif)).to_bytes(2, "big") + exif
                packet = av.Packet(data[:2] + segment + data[2:])
                packet.pts, packet.dts, packet.time_base = old_packet.pts, old_packet.dts, stream.time_base
                packet.is_keyframe, packet.stream = True, out
                new.mux(packet)
    return target


@pytest.mark.parametrize("kind", [29, 31, 999])  # the view of spatial video, EXIF, one that may come
def test_a_kind_of_side_data_that_pyav_does_not_name_has_a_number(kind):
    assert SideDataType(kind).value == kind


def test_an_animated_gif_is_a_video(tmp_path, decode_all):
    path = tmp_path / "v.gif"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8"
        for index in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index, 48, 64), format="rgb24")))
        container.mux(stream.encode())
    truth = np.stack(decode_all(path))
    with open_video(path) as video:
        assert len(video) == 12
        np.testing.assert_array_equal(video.read(np.array([7, 0, 11])), truth[[7, 0, 11]])
