"""Pictures of which the container shows a part; the oracle is FFmpeg's filter `crop`, which its command applies."""

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from vidgn.data.readers.pyav.cropping import Cropping, cropping_of_matroska, cropping_of_mp4
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.video import open_video

from ...conftest import to_rgb

PARENTS = (b"avc1", b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov")


def add_clap(path: Path, *, width: int, height: int, right: int = 0, down: int = 0) -> Path:
    """Add a clean aperture to the one track (ISO/IEC 14496-12, 12.1.4); offsets are in half pixels."""
    clap = struct.pack(">I4s8i", 40, b"clap", width, 1, height, 1, right, 2, down, 2)
    data = bytearray(path.read_bytes())
    entry = data.index(b"avc1", data.index(b"stsd")) - 4
    end = entry + int.from_bytes(data[entry : entry + 4], "big")
    data[end:end] = clap
    for parent in PARENTS:
        at = data.rindex(parent, 0, end) - 4
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + len(clap))
    path.write_bytes(data)
    return path


def cropped_frames(path: Path, crop: str) -> list[np.ndarray]:
    """Decode plainly and crop with FFmpeg's filter; whole pictures if `crop` is empty."""
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        source, last = graph.add_buffer(template=stream), graph.add("buffersink")
        part = graph.add("crop", crop)
        source.link_to(part), part.link_to(last)
        graph.configure()
        for frame in container.decode(stream):
            turns = frame.rotation // 90
            graph.vpush(frame)
            frames.append(np.rot90(to_rgb(graph.vpull()), turns))
    return frames


# name: (aperture, what FFmpeg crops)
APERTURES = {
    "centre": ({"width": 48, "height": 32}, "iw-16:ih-16:8:8"),
    "corner": ({"width": 40, "height": 32, "right": -24, "down": -16}, "iw-24:ih-16:0:0"),
    "odd": ({"width": 50, "height": 34}, "iw-14:ih-14:7:7"),  # rounded to whole samples of chroma
}


@pytest.mark.parametrize("rotation", [None, 90])
@pytest.mark.parametrize("name", APERTURES)
def test_the_clean_aperture_of_an_mp4_is_shown(name, rotation, craft):
    aperture, crop = APERTURES[name]
    path = add_clap(craft("v.mp4", frames=12, rotation=rotation), **aperture)
    expected = np.stack(cropped_frames(path, crop))
    with open_video(path) as video:
        assert (video.height, video.width) == expected[0].shape[:2]
        assert np.array_equal(video.read(np.arange(12)), expected)
        for _, picture in video.pictures([3]):
            part = picture.pixels(slice(3, 20), slice(5, 30))
            assert np.array_equal(part, expected[3][3:20, 5:30])


@pytest.mark.parametrize(
    "aperture", [{"width": 64, "height": 48}, {"width": 96, "height": 48}, {"width": 64, "height": 48, "right": 9}]
)
def test_an_aperture_of_the_whole_picture_or_beyond_it_crops_nothing(aperture, craft):
    path = add_clap(craft("v.mp4", frames=2), **aperture)
    with open_video(path) as video:
        assert (video.height, video.width) == (48, 64)


def test_pixel_crop_of_matroska_is_applied(craft):
    path = craft("v.mkv", frames=12)
    data = path.read_bytes()
    unit = b"\x54\xb2\x81\x04"  # DisplayUnit (RFC 9559, 5.1.4.1.28), of the length that the element for the crop has
    assert data.count(unit) == 1
    path.write_bytes(data.replace(unit, b"\x54\xcc\x81\x0c"))  # PixelCropLeft
    expected = np.stack(cropped_frames(path, "iw-12:ih:12:0"))
    with open_video(path) as video:
        assert (video.height, video.width) == (48, 52)
        assert np.array_equal(video.read(np.arange(12)), expected)


def element(number: bytes, body: bytes) -> bytes:
    return number + bytes([0x80 | len(body)]) + body


def matroska(*entries: bytes) -> io.BytesIO:
    head, tracks = element(b"\x1a\x45\xdf\xa3", b"\x42\x82\x81\x61"), element(b"\x16\x54\xae\x6b", b"".join(entries))
    return io.BytesIO(head + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + element(b"\xec", bytes(5)) + tracks)


def track(kind: int, *crop: bytes) -> bytes:
    return element(b"\xae", element(b"\x83", bytes([kind])) + element(b"\xe0", b"".join(crop)))


BOTTOM, TOP = element(b"\x54\xaa", b"\x02"), element(b"\x54\xbb", b"\x04")
LEFT, RIGHT = element(b"\x54\xcc", b"\x06"), element(b"\x54\xdd", b"\x08")


@pytest.mark.parametrize(
    ("entries", "index", "expected"),
    [
        ([track(1, BOTTOM, TOP, LEFT, RIGHT)], 0, Cropping(6, 4, 8, 2)),
        ([track(2), track(16), track(1, RIGHT)], 1, Cropping(0, 0, 8, 0)),  # streams: sound, video; a logo is none
        ([track(2), track(1, RIGHT)], 0, None),
        ([track(1)], 0, None),
        ([track(1, element(b"\x54\xaa", b"\x30"))], 0, None),  # nothing would be left
    ],
)
def test_elements_of_matroska(entries, index, expected):
    assert cropping_of_matroska(matroska(*entries), index=index, height=48, width=64) == expected


@pytest.mark.parametrize("cut", [0, 3, 6, 20, 40])
def test_half_a_header_crops_nothing(cut):
    data = matroska(track(1, LEFT)).getvalue()[:cut]
    assert cropping_of_matroska(io.BytesIO(data), index=0, height=48, width=64) is None


def test_a_damaged_aperture_crops_nothing(craft):
    path = add_clap(craft("v.mp4", frames=1), width=48, height=32)
    data = path.read_bytes()
    moov = data[data.rindex(b"moov") + 4 :]
    assert cropping_of_mp4(moov, track=1, height=48, width=64) == Cropping(8, 8, 8, 8)
    assert cropping_of_mp4(moov, track=2, height=48, width=64) is None
    at = moov.index(b"clap") + 4
    broken = moov[: at + 4] + bytes(4) + moov[at + 8 :]  # a denominator of 0
    assert cropping_of_mp4(broken, track=1, height=48, width=64) is None
    assert cropping_of_mp4(moov[: at + 10], track=1, height=48, width=64) is None


@pytest.mark.parametrize("backend", ["decord"])
def test_another_back_end_refuses_what_it_would_not_crop(backend, craft):
    pytest.importorskip(backend)
    path = add_clap(craft("v.mp4", frames=4), width=48, height=32)
    with pytest.raises(VideoDecodeError, match="its container crops the pictures, which decord does not; use"):
        open_video(path, backend=backend)
