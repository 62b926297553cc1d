"""Good files that are out of the ordinary: edit lists, empty samples, streams that begin amid a group of frames."""

import random
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from vidgn.data.clips import ClipSpec
from vidgn.data.dataset import ClipDataset
from vidgn.data.readers.plain_decode import check_order
from vidgn.data.readers.pyav import demuxer
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.transforms import CropSpec
from vidgn.data.video import open_video
from vidgn.data.views import ViewDataset

from ..conftest import plain_decode
from ..small_videos import manifest

NO_B = {"bf": "0", "x264-params": "scenecut=0"}
WITH_B = {"bf": "3", "x264-params": "scenecut=0:b-adapt=0"}
OPEN = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=12:min-keyint=12:scenecut=0"}
HEVC = {"preset": "ultrafast", "x265-params": "bframes=3:b-adapt=0:open-gop=0:scenecut=0:log-level=none"}
OPEN_HEVC = {
    "preset": "ultrafast",
    "x265-params": "bframes=3:b-adapt=0:open-gop=1:keyint=12:min-keyint=12:log-level=none",
}


def assert_equals_plain_decode(path: Path, *, num_frames: int) -> None:
    """Compare all frames, and some alone, with a plain decode."""
    truth = plain_decode(path)
    assert len(truth) == num_frames
    with open_video(path) as video:
        assert len(video) == num_frames
        assert np.array_equal(video.read(np.arange(num_frames)), np.stack(truth))
        alone = random.Random(0).sample(range(num_frames), min(num_frames, 8))
        assert [i for i in alone if not np.array_equal(next(video.frames([i]))[1], truth[i])] == []


def with_edits(path: Path, *edits: tuple[int, int]) -> Path:
    """Replace the edit list of a track of 512 ticks a frame; edits are (first frame, number of frames)."""
    data = path.read_bytes()
    box = data.index(b"elst") - 4
    (size,) = struct.unpack_from(">I", data, box)
    delay = struct.unpack_from(">i", data, box + 20)[0]  # media_time at which the first frame is shown
    rows = b"".join(struct.pack(">IiI", 40 * count, delay + 512 * first, 1 << 16) for first, count in edits)
    elst = struct.pack(">I4sII", 16 + len(rows), b"elst", 0, len(edits)) + rows
    grown = len(elst) - size
    data = bytearray(data[:box] + elst + data[box + size :])
    for parent in (b"edts", b"trak", b"moov"):
        at = data.rindex(parent, 0, box) - 4
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + grown)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("first", "count"), [(0, 24), (13, 20), (40, 20)], ids=["start", "middle", "end"])
@pytest.mark.parametrize(
    ("codec", "options"), [("libx264", NO_B), ("libx264", WITH_B), ("libx265", HEVC)], ids=["no B", "B", "HEVC"]
)
def test_an_edit_list_may_show_a_part_of_the_track(codec, options, first, count, craft):
    path = craft("v.mp4", frames=60, codec=codec, options=options, container_options={"video_track_timescale": "12800"})
    with open_video(path) as video:
        whole = video.read(np.arange(60))
    with_edits(path, (first, count))
    assert_equals_plain_decode(path, num_frames=count)
    with open_video(path) as video:
        assert np.array_equal(video.read(np.arange(count)), whole[first : first + count])
        assert video.notes == ()


def test_an_edit_list_may_show_two_parts(craft):
    path = craft("v.mp4", frames=60, options=WITH_B, container_options={"video_track_timescale": "12800"})
    with open_video(path) as video:
        whole = video.read(np.arange(60))
    with_edits(path, (5, 10), (40, 15))
    assert_equals_plain_decode(path, num_frames=25)
    with open_video(path) as video:
        assert np.array_equal(video.read(np.arange(25)), whole[[*range(5, 15), *range(40, 55)]])


def test_a_track_that_is_cut_off_is_truncated_in_spite_of_its_edit_list(craft):
    path = craft("v.mp4", options=NO_B, container_options={"movflags": "faststart", "video_track_timescale": "12800"})
    with_edits(path, (0, 30))
    data = path.read_bytes()
    box, cut = data.index(b"mdat") - 4, len(data) - 900
    path.write_bytes(data[:box] + (cut - box).to_bytes(4, "big") + data[box + 4 : cut])
    with pytest.raises(VideoDecodeError, match=r"truncated: \d+ of 36 promised frames are there"):
        open_video(path)


def test_an_empty_sample_is_no_frame_and_a_note(craft):
    path = craft("v.mp4", options=NO_B, container_options={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    at = data.index(b"stsz") + 16 + 4 * 35  # the size of the last sample (ISO/IEC 14496-12, 8.7.3)
    data[at : at + 4] = bytes(4)
    path.write_bytes(data)
    assert_equals_plain_decode(path, num_frames=35)
    with open_video(path) as video:
        assert video.notes == ("1 of its 36 samples are empty and left out",)


def test_a_last_sample_without_a_duration_is_not_shown(craft):
    path = craft("v.mov", frames=20, options=NO_B, container_options={"video_track_timescale": "12800"})
    data = bytearray(path.read_bytes())
    at = data.index(b"stts")
    assert struct.unpack_from(">III", data, at + 8) == (1, 20, 512)
    box = bytes(data[at - 4 : at + 20])
    grown = struct.pack(">I4sIIIIII", 32, b"stts", 0, 2, 19, 512, 1, 0)
    data[at - 4 : at - 4 + len(box)] = grown
    for parent in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        place = data.rindex(parent, 0, at) - 4
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + 8)
    duration = data.index(b"elst") + 12
    struct.pack_into(">I", data, duration, 19 * 40)
    path.write_bytes(data)
    assert_equals_plain_decode(path, num_frames=19)


def cut_start(source: Path, target: Path, *, packets: int) -> Path:
    """Copy all packets but the first ones."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        out = new.add_stream_from_template(stream)
        for packet in [packet for packet in old.demux(stream) if packet.size][packets:]:
            packet.stream = out
            new.mux(packet)
    return target


AMID = {
    "closed.ts": ("libx264", WITH_B),
    "closed.mkv": ("libx264", WITH_B),
    "closed.mp4": ("libx264", WITH_B),
    "closed.avi": ("libx264", WITH_B),
    "open.ts": ("libx264", OPEN),
    "open.mp4": ("libx264", OPEN),
    "closed_hevc.ts": ("libx265", HEVC),
    "closed_hevc.mkv": ("libx265", HEVC),
    "open_hevc.ts": ("libx265", OPEN_HEVC),
    "mpeg2.ts": ("mpeg2video", {"bf": "2"}),
}


@pytest.mark.parametrize("name", AMID)
def test_what_precedes_the_first_key_is_left_out(name, craft, tmp_path):
    codec, options = AMID[name]
    whole = craft(f"whole_{name}", frames=48, codec=codec, options=options)
    path = cut_start(whole, tmp_path / name, packets=5)
    shown = len(plain_decode(path))
    assert 30 <= shown < 43
    assert_equals_plain_decode(path, num_frames=shown)


@pytest.mark.parametrize(("suffix", "bf"), [("ts", "0"), ("ts", "2"), ("mkv", "2"), ("mp4", "2"), ("avi", "0")])
def test_mpeg_4_part_2_is_shown_from_its_first_key(suffix, bf, craft, tmp_path):
    """A plain decode shows gray pictures before the key, one twice: the truth is the end of the whole file."""
    options = {"bf": bf, "g": "12", "sc_threshold": "1000000000"}
    whole = craft(f"whole.{suffix}", frames=48, codec="mpeg4", options=options)
    truth = np.stack(plain_decode(whole))
    path = cut_start(whole, tmp_path / f"cut.{suffix}", packets=5)
    with open_video(path) as video:
        assert 30 <= len(video) < 43
        assert np.array_equal(video.read(np.arange(len(video))), truth[-len(video) :])
        assert np.array_equal(next(video.frames([20]))[1], truth[20 - len(video)])
        assert check_order(video).num_frames == len(video)
        (note,) = video.notes
    left_out = 43 - len(video)
    assert note.startswith(f"the stream begins amid a group of frames: {left_out} of its 43 packets cannot be decoded")


@pytest.mark.parametrize("name", ["closed.ts", "open.mp4", "open_hevc.ts"])
def test_what_is_left_out_is_a_note_that_strict_refuses(name, craft, tmp_path):
    codec, options = AMID[name]
    path = cut_start(craft(f"whole_{name}", frames=48, codec=codec, options=options), tmp_path / name, packets=5)
    with open_video(path) as video:
        (note,) = video.notes
        left_out = 43 - len(video)
    assert note.startswith(f"the stream begins amid a group of frames: {left_out} of its 43 packets cannot be decoded")
    videos = manifest(tmp_path, name)
    clips = {"clip": ClipSpec(clip_len=4, span=8), "crop": CropSpec(14), "deadline_seconds": None}
    for strict in (False, True):
        data = ClipDataset(videos, **clips, seed=0, flip=False, stream="train", strict=strict)
        views = ViewDataset(videos, **clips, num_clips=1, num_crops=1, rule="nonlocal", strict=strict)
        if not strict:
            assert data[0, 0].clips.shape[2] == 4
            assert views[0].error is None
            continue
        for read in (lambda data=data: data[0, 0], lambda views=views: views[0]):
            with pytest.raises(VideoDecodeError, match=r"begins amid a group of frames: .*strict=true refuses"):
                read()


def test_a_gradual_refresh_is_shown_from_where_it_is_complete(craft, tmp_path):
    options = {"x264-params": "intra-refresh=1:bframes=0:scenecut=0:keyint=12"}
    whole = craft("whole.ts", frames=60, width=96, options=options)
    path = cut_start(whole, tmp_path / "v.ts", packets=5)
    shown = len(plain_decode(path))
    assert 20 <= shown < 50
    assert_equals_plain_decode(path, num_frames=shown)


def test_a_trim_at_an_open_group_hides_what_refers_to_missing_frames(craft, tmp_path):
    """As `ffmpeg -ss 0.6 -c copy` makes it: the first packets after the key are kept and hidden by the edit list."""
    whole = craft("whole.mp4", frames=60, options=OPEN, container_options={"video_track_timescale": "12800"})
    with av.open(str(whole)) as container:
        stream = container.streams.video[0]
        keys = [n for n, packet in enumerate(container.demux(stream)) if packet.is_keyframe]
    path = cut_start(whole, tmp_path / "cut.mp4", packets=keys[1])
    assert_equals_plain_decode(path, num_frames=len(plain_decode(path)))
    with_edits(path, (5, 30))
    with av.open(str(path)) as container:
        assert any(packet.is_discard for packet in container.demux(container.streams.video[0]))
    shown = len(plain_decode(path))
    assert 25 < shown < 35
    assert_equals_plain_decode(path, num_frames=shown)


def test_damage_before_the_first_frame_that_an_edit_list_shows_is_an_error(craft):
    path = craft("v.mp4", frames=36, gop=36, options=NO_B, container_options={"video_track_timescale": "12800"})
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        spoiled = [bytes(packet) for packet in container.demux(stream) if packet.size][3]
    with_edits(path, (10, 20))
    data = path.read_bytes()
    path.write_bytes(data.replace(spoiled[8:], b"\xff" * (len(spoiled) - 8)))
    with open_video(path) as video, pytest.raises(VideoDecodeError, match=r"packet 3: |frame \d+ of 20 is damaged"):
        list(video.frames([0]))


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.flv"])
@pytest.mark.parametrize("pyramid", ["normal", "strict"])
def test_a_cut_at_an_open_group_may_name_references_that_are_missing(name, pyramid, craft, tmp_path):
    options = {"x264-params": f"open-gop=1:bframes=3:ref=3:b-pyramid={pyramid}:keyint=9:min-keyint=3:threads=1"}
    whole = craft("whole.mkv", frames=60, options=options | {"preset": "fast"}, gop=9)
    num_strict = 0
    for number, at in enumerate(keys(whole)[1:5]):
        (tmp_path / str(number)).mkdir()
        path = copy(whole, tmp_path / str(number) / name, which=lambda packet, at=at: packet >= at)
        num_strict += fails_strictly(path)
        truth = plain_decode(path)
        with open_video(path) as video:
            assert len(video) == len(truth)
            assert np.array_equal(video.read(np.arange(len(truth))), np.stack(truth))
            for alone in (0, 5, 11, len(truth) - 1):
                assert np.array_equal(next(video.frames([alone]))[1], truth[alone])
            assert check_order(video).num_frames == len(truth)
    assert num_strict  # a decoder that takes errors seriously refuses one of them


@pytest.mark.parametrize(("name", "is_large"), [("v.mkv", False), ("v.ts", False), ("v.mp4", False), ("v.mkv", True)])
def test_frames_that_a_decoder_does_not_show_behind_a_gap_are_not_counted(name, is_large, craft, tmp_path, monkeypatch):
    if is_large:
        monkeypatch.setattr(demuxer, "_KEPT_BYTES", 0)
    whole = craft("whole.mkv", frames=50, options=NO_B | {"preset": "ultrafast"}, gop=10)
    path = copy(whole, tmp_path / name, which=lambda packet: packet not in (17, 18, 19, 20, 21))  # 20 is a key
    truth = plain_decode(path)
    assert len(truth) < 45
    with open_video(path) as video:
        assert len(video) == len(truth)
        assert np.array_equal(video.read(np.arange(len(truth))), np.stack(truth))
        for alone in (0, 16, 17, 25, len(truth) - 1):
            assert np.array_equal(next(video.frames([alone]))[1], truth[alone])


def test_lost_packets_of_hevc_are_named(craft, tmp_path):
    whole = craft("whole.mkv", frames=40, codec="libx265", options=HEVC, gop=12)
    path = copy(whole, tmp_path / "v.mkv", which=lambda packet: packet not in (13, 14, 15))
    with pytest.raises(VideoDecodeError, match="packets of the stream are lost or damaged: packet "):
        open_video(path)


@pytest.mark.parametrize("lost", [(0, 1, 2, 3), (0, 1, 2, 3, 4, 5, 6)])
def test_a_joined_stream_whose_second_part_begins_amid_a_group(lost, craft, tmp_path):
    whole = craft("whole.ts", frames=40, options=WITH_B | {"preset": "ultrafast"}, gop=20)
    later = copy(whole, tmp_path / "later.ts", which=lambda packet: packet not in lost)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(whole.read_bytes() + later.read_bytes())
    truth = plain_decode(joined)
    assert 40 < len(truth) < 80 - len(lost)
    assert_equals_plain_decode(joined, num_frames=len(truth))


def test_a_stream_cut_behind_its_headers_says_so(craft, tmp_path):
    whole = craft("whole.mp4", frames=30, options=OPEN, gop=12)
    path = copy(whole, tmp_path / "v.ts", which=lambda packet: packet >= keys(whole)[1])
    with pytest.raises(VideoDecodeError, match="no packet says how large its frames are"):
        open_video(path)


def keys(path: Path) -> list[int]:
    """Return the numbers of the key packets."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    return [number for number, packet in enumerate(packets) if packet.is_keyframe]


def copy(source: Path, target: Path, *, which: Callable[[int], bool]) -> Path:
    """Copy some packets of a video, by their numbers, with their times."""
    with av.open(str(source)) as given, av.open(str(target), "w") as out:
        stream = given.streams.video[0]
        new = out.add_stream_from_template(stream)
        packets = [packet for packet in given.demux(stream) if packet.size]
        for number, packet in enumerate(packets):
            if which(number):
                packet.stream = new
                out.mux(packet)
    return target


def fails_strictly(path: Path) -> bool:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"err_detect": "explode"}
        stream.thread_type = "NONE"
        try:
            return not list(container.decode(stream))
        except av.FFmpegError:
            return True
