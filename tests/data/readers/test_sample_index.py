"""A prepared file brings the table of its packets: it is read as any other file, and opened without parsing it."""

import io
import math
import os
import struct
import zlib
from array import array

import av
import numpy as np
import pytest

from vidgn.curation.encode import PrepareSpec, prepare_file
from vidgn.data.readers import sample_index
from vidgn.data.readers.pyav.reader import PyavReader
from vidgn.data.readers.sample_index import SampleIndex, pack_index, read_index
from vidgn.data.readers.types import MAX_PIXELS, VideoDecodeError
from vidgn.data.storage.byte_ranges import FileRange
from vidgn.data.video import open_video

FILE = bytes(1000)
INDEX = SampleIndex(
    height=240, width=320, fps=25.0, tick=0.04, duration=0.12, reorder_depth=1, extradata=bytes([1, *range(100, 107)]),
    sizes=array("i", [400, 100, 90]), starts=array("q", [48, 448, 548]), times=array("q", [0, 2, 1]),
    keys=array("i", [0]),
)  # fmt: skip


@pytest.fixture
def prepared(craft, tmp_path):
    """Return a prepared file of 36 frames and the same file without its index."""
    source = craft("source.mp4", frames=36)
    file, plain = tmp_path / "prepared.mp4", tmp_path / "plain.mp4"
    prepare_file(source, file, spec=PrepareSpec(gop=6))
    data = file.read_bytes()
    plain.write_bytes(data[: -struct.unpack("<I", data[-12:-8])[0]])
    return file, plain


def reader(path):
    return PyavReader(os.fspath(path), num_threads=1, max_pixels=MAX_PIXELS)


def box(*changes):
    """Return the box of an index that states something else, with a checksum that fits."""
    usual = pack_index(INDEX, file_bytes=len(FILE))
    body = bytearray(usual[24:-16])
    for kind, at, value in changes:
        struct.pack_into(kind, body, at, value)
    return usual[:24] + bytes(body) + struct.pack("<I", zlib.crc32(body)) + usual[-12:]


def test_an_index_is_read_as_it_was_written():
    assert read_index(io.BytesIO(FILE + pack_index(INDEX, file_bytes=1000))) == INDEX


def test_an_index_that_is_larger_than_one_read_is_read_too(monkeypatch):
    monkeypatch.setattr(sample_index, "_USUAL_BYTES", sample_index._SMALLEST)
    assert read_index(io.BytesIO(FILE + pack_index(INDEX, file_bytes=1000))) == INDEX


def test_a_file_that_states_no_duration_has_none():
    index = INDEX._replace(duration=None)
    assert read_index(io.BytesIO(FILE + pack_index(index, file_bytes=1000))) == index


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],  # cut off
        lambda data: data[1:],  # of another file
        lambda data: data + b"\0",  # something was appended
        lambda data: data[:1060] + bytes([data[1060] ^ 1]) + data[1061:],  # one bit
        lambda data: data[:-12] + struct.pack("<I", 1 << 31) + data[-8:],  # longer than the file
        lambda data: data[:-12] + struct.pack("<I", 0) + data[-8:],
        lambda data: data[-8:],  # the mark alone
        lambda data: b"",
    ],
)
def test_a_damaged_index_is_not_used(change):
    assert read_index(io.BytesIO(change(FILE + pack_index(INDEX, file_bytes=1000)))) is None


HEAD = 56 + 8  # bytes of the head and of INDEX's extradata


@pytest.mark.parametrize(
    ("kind", "at", "value"),
    [
        ("<I", 0, 0),  # no rows
        ("<I", 8, 4),  # more packets than it lists
        ("<I", 12, 0),  # no keys
        ("<I", 16, 7),  # less extradata
        ("<I", 20, 17),  # holds back more than H.264 allows
        ("<Q", 24, 999),  # bytes of another file
        ("<d", 32, math.inf),  # rate
        ("<d", 40, 0.0),  # tick
        ("<d", 40, math.nan),
        ("<d", 48, -1.0),  # duration
        ("<B", 56, 0),  # not an avcC
        ("<i", HEAD, 0),  # an empty packet
        ("<i", HEAD, -5),
        ("<i", HEAD + 8, 900),  # a packet that ends behind the file
        ("<i", HEAD + 12, -1),  # and one that begins before it
        ("<i", HEAD + 24, 1),  # two frames of one time
        ("<i", HEAD + 36, 1),  # the first packet is no key
    ],
)
def test_an_index_that_cannot_be_so_is_not_used(kind, at, value):
    assert read_index(io.BytesIO(FILE + box())) == INDEX
    assert read_index(io.BytesIO(FILE + box((kind, at, value)))) is None


@pytest.mark.parametrize(
    "index",
    [
        INDEX._replace(starts=array("q", [48, 448, 1 << 31])),
        INDEX._replace(times=array("q", [-1, 2, 1])),
        INDEX._replace(keys=array("i", [0, 3])),
        INDEX._replace(keys=array("i", [0, 2, 1])),
        INDEX._replace(extradata=b"\0\0\0\1\x67\x64\x00\x1e"),  # with start codes
    ],
)
def test_no_box_is_written_that_could_not_be_read(index):
    assert pack_index(index, file_bytes=1 << 32) is None


def test_a_prepared_file_is_read_without_ffmpegs_demuxer_and_as_without_its_index(prepared, decode_all):
    indexed, plain = prepared
    with reader(indexed) as video, reader(plain) as same:
        assert (video.source.has_index, same.source.has_index) == (True, False)
        pixels = video.read(np.arange(len(video)))
        assert video.source.opens == 0
        assert np.array_equal(pixels, same.read(np.arange(len(same))))
        assert np.array_equal(pixels, np.stack(decode_all(plain)))
        assert video.source.facts == same.source.facts
        assert list(video.source.packets) == list(same.source.packets)
        assert (video.index.order, video.index.rank, video.index.keys) == (
            same.index.order, same.index.rank, same.index.keys,
        )  # fmt: skip
        assert (video.fps, video.height, video.width, video.notes) == (same.fps, same.height, same.width, same.notes)
        assert np.array_equal(video.seconds(), same.seconds())
        assert video.source.reorder_depth == same.source.reorder_depth == 1


@pytest.mark.parametrize("frame", [0, 7, 17, 35])
def test_any_frame_of_a_prepared_file_is_that_of_a_plain_decode(frame, prepared, decode_all):
    with open_video(prepared[0]) as video:
        assert np.array_equal(video.read(np.array([frame]))[0], decode_all(prepared[1])[frame])


def test_other_programs_read_a_prepared_file_as_one_without_an_index(prepared, decode_all):
    frames, expected = (decode_all(path) for path in prepared)
    assert len(frames) == 36
    assert np.array_equal(np.stack(frames), np.stack(expected))


def test_the_demuxer_of_a_prepared_file_is_opened_when_it_is_asked(prepared):
    with reader(prepared[0]) as video:
        assert video.source.stream.frames == 36
        assert video.source.opens == 1
        assert len(video.read(np.arange(36))) == 36


def test_a_prepared_file_in_a_tar_brings_its_index(prepared, tmp_path):
    data, tar = prepared[0].read_bytes(), tmp_path / "t.tar"
    tar.write_bytes(bytes(512) + data + bytes(700))
    with reader(FileRange.of(str(tar), start=512, size=len(data), name="a.mp4")) as video:
        assert video.source.has_index
        with open_video(prepared[1]) as same:
            assert np.array_equal(video.read(np.arange(36)), same.read(np.arange(36)))


def test_a_copy_by_another_program_has_no_index(prepared, remux):
    with reader(remux(prepared[0], "copy.mp4")) as video:
        assert not video.source.has_index
        assert len(video) == 36


def test_a_truncated_prepared_file_is_still_refused(prepared):
    data = prepared[0].read_bytes()
    prepared[0].write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoDecodeError, match=r"truncated|are there|ends"):
        open_video(prepared[0])


def test_damage_within_a_prepared_file_is_still_an_error(prepared):
    with reader(prepared[0]) as video:
        start, size = video.source.sample_index().starts[0], video.source.packets.sizes[0]
    data = bytearray(prepared[0].read_bytes())
    data[start + 40 : start + size] = bytes(size - 40)
    prepared[0].write_bytes(data)
    with open_video(prepared[0]) as video, pytest.raises(VideoDecodeError, match=r"packet 0|frame 0"):
        video.read(np.arange(3))


def test_max_pixels_holds_for_a_prepared_file(prepared):
    with pytest.raises(VideoDecodeError, match="max_pixels"):
        open_video(prepared[0], max_pixels=100)


def test_a_prepared_file_of_keys_alone_is_read_without_an_index(craft, tmp_path):
    prepare_file(craft("source.mp4", frames=5), tmp_path / "keys.mp4", spec=PrepareSpec(gop=1))
    with reader(tmp_path / "keys.mp4") as video:  # without a table of keys, which are all, its packets are looked at
        assert (video.source.has_index, len(video)) == (False, 5)
    with av.open(str(tmp_path / "keys.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
