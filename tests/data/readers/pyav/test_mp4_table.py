import io
import random
import struct

import av
import numpy as np
import pytest

from vidgn.data.readers.pyav import demuxer, mp4_table
from vidgn.data.readers.pyav.edit_list import read_moov
from vidgn.data.readers.pyav.mp4_table import find_samples
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.video import open_video

OPEN = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:scenecut=0"}
LISTED = {
    "b_frames.mp4": {},
    "no_b_frames.mp4": {"options": {"bf": "0"}},  # no table of delays
    "index_first.mp4": {"container_options": {"movflags": "faststart"}},
    "quicktime.mov": {},
    "open_gop.mp4": {"options": OPEN},  # keys that are recovery points
    "gradual.mp4": {"width": 96, "options": {"x264-params": "intra-refresh=1:bframes=0:scenecut=0"}},
    "uneven.mp4": {"times": lambda i: 40 * i + 500 * (i > 20)},
    "late.mp4": {"times": lambda i: 40 * i + 10_000},  # nothing is shown before
    "interlaced.mp4": {"options": {"x264-params": "tff=1"}},
    "one.mp4": {"frames": 1},
    "rotated.mp4": {"rotation": 90},
    "many_slices.mp4": {"options": {"x264-params": "slices=4:aud=1"}},
}


def read_all(path):
    """Demux all packets: (time, bytes, whether a key) of each."""
    with av.open(str(path)) as container:
        found = container.demux(container.streams.video[0])
        return [(packet.pts, bytes(packet), packet.is_keyframe) for packet in found if packet.size]


def look(path, use=lambda found, _: found):
    """Find the samples of a file, and use them while it is open."""
    with path.open("rb", buffering=0) as file, av.open(file, options={"skip_frame": "all"}) as container:
        place = file.tell()
        found = find_samples(file, container.streams.video[0], moov=read_moov(file))
        assert file.tell() == place
        return use(found, file)


def all_of(found, _):
    assert found is not None
    facts = list(found.table)
    got = []
    for number, packet in found.read(0, len(facts) - 1, needed=None, path="x"):
        assert number == len(got)
        got.append(bytes(packet))
    assert all(fact.shown and fact.size == len(data) for fact, data in zip(facts, got, strict=True))
    return [(fact.time, data, fact.is_key) for fact, data in zip(facts, got, strict=True)]


@pytest.mark.parametrize("name", LISTED)
def test_tables_say_what_reading_all_packets_says(name, craft):
    path = craft(name, **LISTED[name])
    assert look(path, all_of) == read_all(path)


@pytest.mark.parametrize("name", ["clips/arm_wrestling_340x256_28fps.mp4", "clips/nasa_13013.mp4"])
def test_tables_of_real_files_say_what_reading_all_packets_says(name, real_videos):
    assert look(real_videos / name, all_of) == read_all(real_videos / name)


@pytest.mark.parametrize(("at_once", "gap"), [(1, 1 << 16), (500, 1 << 16), (1 << 20, -1)])
def test_packets_are_the_same_however_many_are_read_at_once(at_once, gap, craft, monkeypatch):
    monkeypatch.setattr(mp4_table, "_AT_ONCE", at_once)
    monkeypatch.setattr(mp4_table, "_GAP", gap)
    path = craft("v.mp4")
    assert look(path, all_of) == read_all(path)


@pytest.mark.parametrize("name", ["b_frames.mp4", "many_slices.mp4", "open_gop.mp4", "no_b_frames.mp4"])
def test_what_nobody_needs_is_left_out(name, craft):
    """The decoder itself says which pictures no other refers to: told so, it passes over them."""
    path = craft(name, **LISTED[name])
    needed = {3, 4, 17}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.skip_frame = "NONREF"
        demuxer = [packet for packet in container.demux(stream) if packet.size]
        for number, packet in enumerate(demuxer):
            packet.pts = number
        referred = {picture.pts for packet in (*demuxer, None) for picture in stream.codec_context.decode(packet)}

    def numbers(found, _):
        return [number for number, _ in found.read(0, len(demuxer) - 1, needed=needed, path="x")]

    left = look(path, numbers)
    assert left == sorted(referred | needed)
    assert (len(left) < len(demuxer)) is (name != "no_b_frames.mp4")


def unit(kind, *, referred=0):
    return struct.pack(">IB", 4, referred << 5 | kind) + b"abc"


@pytest.mark.parametrize(
    ("data", "idle"),
    [
        (unit(1), True),
        (unit(9) + unit(6) + unit(1) + unit(1), True),
        (unit(1, referred=1), False),
        (unit(1) + unit(1, referred=2), False),
        (unit(8) + unit(1), False),  # parameters, which later pictures may need
        (unit(5, referred=3), False),
        (unit(2) + unit(3), False),  # partitions of a slice
        (unit(1)[:-1], False),  # damaged: the decoder shall say so
        (unit(1) + b"\0\0", False),
    ],
)
def test_only_pictures_that_nobody_refers_to_are_idle(data, idle):
    assert mp4_table._is_idle(b"..." + data, 3, 3 + len(data), width=4) is idle


def with_sound(path, source):
    """Copy a video beside a sound, so that its packets lie apart."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        video = new.add_stream_from_template(old.streams.video[0])
        sound = new.add_stream("pcm_s16le", rate=8000, layout="mono")
        for number, packet in enumerate(p for p in old.demux(video=0) if p.size):
            frame = av.AudioFrame.from_ndarray(np.full((1, 320), number, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8000, 320 * number
            new.mux(sound.encode(frame))
            packet.stream = video
            new.mux(packet)


def test_packets_between_sounds_are_read_rightly(craft, tmp_path):
    with_sound(tmp_path / "sound.mov", craft("v.mp4"))
    assert look(tmp_path / "sound.mov", all_of) == read_all(tmp_path / "sound.mov")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("v.mkv", {}),
        ("v.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("v.mp4", {"container_options": {"movflags": "frag_keyframe"}}),  # the first pictures are in no fragment
        ("v.mp4", {"container_options": {"movflags": "negative_cts_offsets"}}),
        ("v.mp4", {"gop": 1}),  # no table of keys
        ("v.mp4", {"codec": "mpeg4"}),
        ("v.mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none"}}),
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_reading(name, options, craft):
    assert look(craft(name, **options)) is None


def word(number):
    return number.to_bytes(4, "big")


def second_edit(data):
    edits = data.index(b"elst")
    return data[: edits + 8] + word(2) + data[edits + 12 :]


def last_packet_outside(data):
    place = data.index(b"stsz") + 16 + 4 * 35  # kind, version, size of all, number; the 36th
    return data[:place] + word(1 << 20) + data[place + 4 :]


def one_delay_less(data):
    place = data.index(b"ctts") + 12
    return data[:place] + word(int.from_bytes(data[place : place + 4], "big") + 1) + data[place + 4 :]


def another_key(data):
    place = data.index(b"stss") + 16  # the second one
    return data[:place] + word(int.from_bytes(data[place : place + 4], "big") + 1) + data[place + 4 :]


def two_descriptions(data):
    place = data.index(b"stsd") + 8
    return data[:place] + word(2) + data[place + 4 :]


def delays_cut_off(data):
    place = data.index(b"ctts") - 4
    return data[:place] + word(int.from_bytes(data[place : place + 4], "big") - 4) + data[place + 4 :]


@pytest.mark.parametrize(
    "change", [second_edit, last_packet_outside, one_delay_less, another_key, two_descriptions, delays_cut_off]
)
def test_tables_that_cannot_be_right_are_not_believed(change, craft):
    path = craft("v.mp4", container_options={"movflags": "faststart"})
    path.write_bytes(change(path.read_bytes()))
    assert look(path) is None


def test_a_file_that_changes_while_it_is_open_is_an_error(craft, monkeypatch):
    path, other = craft("v.mp4"), craft("other.mp4", first=7, frames=40)
    with open_video(path) as video:
        list(video.frames([3]))
        path.write_bytes(other.read_bytes())
        with pytest.raises(VideoDecodeError, match="packet 0 is not what it was: the file has changed"):
            list(video.frames([3]))


def test_a_file_that_became_shorter_is_an_error(craft, monkeypatch):
    monkeypatch.setattr(mp4_table, "_stamp", lambda file: None)
    path = craft("v.mp4")
    with open_video(path) as video:
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(VideoDecodeError, match="packet 0 is not what it was: the file has changed"):
            list(video.frames([3]))


def outcome(path):
    """Return all frames, or that the file is refused."""
    try:
        with open_video(path) as video:
            return [frame.tobytes() for _, frame in video.frames(range(len(video)))]
    except VideoDecodeError:
        return "refused"


@pytest.mark.slow
def test_damaged_tables_give_what_reading_all_packets_gives(craft, tmp_path, monkeypatch):
    data = craft("v.mp4", frames=24, container_options={"movflags": "faststart"}).read_bytes()
    kinds = (b"ctts", b"stss", b"stsz", b"stco", b"stsc", b"stts", b"elst", b"tkhd", b"stsd", b"avcC")
    places = [data.index(kind) for kind in kinds]
    rng, listed = random.Random(0), []

    def watch(file, stream, *, moov):
        listed.append(find_samples(file, stream, moov=moov))
        return listed[-1]

    for number in range(150):
        path, mutant = tmp_path / f"{number}.mp4", bytearray(data)
        mutant[rng.choice(places) + rng.randrange(40)] = rng.choice([0, 1, 255, rng.randrange(256)])
        path.write_bytes(mutant)
        monkeypatch.setattr(demuxer, "find_samples", watch)
        mine = outcome(path)
        monkeypatch.setattr(demuxer, "find_samples", lambda *_, **__: None)
        assert mine == outcome(path), number
    assert 30 < sum(found is not None for found in listed) < 120  # both ways were taken


class CountingFile(io.FileIO):
    """Counts the bytes that are read."""

    total = 0

    def read(self, size=-1):
        data = super().read(size)
        CountingFile.total += len(data)
        return data


def test_of_a_local_file_only_the_clip_is_read(craft, decode_all, monkeypatch):
    path = craft("v.mp4", frames=96, width=256, height=192, options={"crf": "4"})
    truth = decode_all(path)
    monkeypatch.setattr("vidgn.data.readers.pyav.demuxer.open_file", CountingFile)
    CountingFile.total = 0
    with open_video(path) as video:
        np.testing.assert_array_equal(video.read(np.arange(60, 70)), np.stack(truth[60:70]))
    assert 0 < CountingFile.total < 0.4 * path.stat().st_size
