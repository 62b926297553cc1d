"""Parts of pictures have the bits of the whole, whatever is cut before the conversion to RGB."""

import random

import av
import numpy as np
import pytest

from vidgn.data.readers.pyav import color_converter
from vidgn.data.readers.pyav.color_converter import Converter
from vidgn.data.readers.types import EVERYTHING
from vidgn.data.video import open_video

from ..test_colours import write

KINDS = {
    "yuv420p": {}, "full range": {"pixels": "yuvj420p"}, "not a multiple of 8": {"width": 86, "height": 54},
    "odd height": {"codec": "ffv1", "width": 86, "height": 53}, "odd width": {"codec": "ffv1", "width": 85},
    "yuv422p": {"pixels": "yuv422p"}, "yuv444p": {"pixels": "yuv444p"}, "10-bit": {"pixels": "yuv420p10le"},
    "gray": {"pixels": "gray"}, "rgb": {"codec": "ffv1", "pixels": "bgr0"},
}  # fmt: skip


FORMATS = [
    "yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv410p", "yuv411p", "yuv440p", "nv12", "yuyv422", "yuva420p",
    "yuv420p10le", "yuv422p10le", "yuv444p10le", "p010le", "gray", "gray10le", "gbrp", "rgba", "bgr0",
]  # fmt: skip


def check_parts(picture, *, number=20):
    """Compare random parts, one pixel and the whole with the whole, in both orders of colours."""
    height, width = picture.shape
    draws = random.Random(height * width)
    ends = [(0, 1, 0, 1), (height - 1, height, width - 1, width), (0, height, 0, width)]
    for _ in range(number):
        ends.append((*sorted(draws.sample(range(height + 1), 2)), *sorted(draws.sample(range(width + 1), 2))))
    whole = picture.pixels()
    assert whole.shape == (height, width, 3)
    for top, bottom, left, right in ends:
        rows, columns = slice(top, bottom), slice(left, right)
        np.testing.assert_array_equal(picture.pixels(rows, columns), whole[rows, columns])
        np.testing.assert_array_equal(picture.pixels(rows, columns, order="bgr"), whole[rows, columns, ::-1])


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_pictures_are_those_of_the_whole(kind, craft):
    with open_video(craft("v.mkv", frames=2, **KINDS[kind])) as video:
        for _, picture in video.pictures([0, 1]):
            check_parts(picture)


@pytest.mark.parametrize("height", [54, 53])
@pytest.mark.parametrize("pixels", FORMATS)
def test_blue_first_is_the_same_picture(pixels, height):
    """Swscale's own bgr24 is not: of odd heights and in some formats its chroma is that of other neighbours."""
    frame = av.VideoFrame(86, height, pixels)
    draws = np.random.default_rng(0)
    for plane in frame.planes:
        plane.update(draws.integers(0, 255, plane.buffer_size, dtype=np.uint8).tobytes())
    converter = Converter()
    whole = converter.pixels(frame, EVERYTHING, EVERYTHING, order="rgb")
    np.testing.assert_array_equal(converter.pixels(frame, EVERYTHING, EVERYTHING, order="bgr"), whole[..., ::-1])


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_parts_of_turned_pictures_are_those_of_the_whole(rotation, craft):
    with open_video(craft("v.mp4", frames=2, rotation=rotation)) as video:
        ((_, picture),) = video.pictures([1])
        assert picture.shape == ((48, 64) if rotation == 180 else (64, 48))
        check_parts(picture)


@pytest.mark.parametrize(("matrix", "full"), [("bt709", False), ("bt2020", False), ("bt601", True)])
def test_parts_keep_what_the_file_says_of_colours(matrix, full, tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    write(tmp_path / "v.mkv", rgb, pixels="yuv420p", matrix=matrix, full=full)
    with open_video(tmp_path / "v.mkv") as video:
        ((_, picture),) = video.pictures([0])
        check_parts(picture)


@pytest.fixture
def warnings():
    """What FFmpeg says."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.WARNING)
    with av.logging.Capture() as said:
        yield said
    av.logging.set_level(level)


def test_a_stream_may_change_what_it_says_of_its_pictures(tmp_path, warnings):
    converter, part = Converter(), (slice(8, 30), slice(16, 40))
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    for pixels, matrix, full in (
        ("yuv420p", "bt709", False), ("yuv420p", "bt601", True), ("yuvj420p", "bt601", True),
        ("yuv420p", "bt709", True),
    ):  # fmt: skip
        write(tmp_path / "v.mkv", rgb, pixels="yuv420p", matrix=matrix, full=full)
        with av.open(str(tmp_path / "v.mkv")) as container:
            picture = next(container.decode(video=0)).reformat(format=pixels)
        whole = Converter().pixels(picture, EVERYTHING, EVERYTHING, order="rgb")
        np.testing.assert_array_equal(converter.pixels(picture, *part, order="rgb"), whole[part])
    assert [said for said in warnings if said[1] != "swscaler"] == []  # which calls yuvj420p deprecated


@pytest.mark.slow
def test_parts_of_real_files_are_those_of_the_whole(real_videos):
    files = sorted(real_videos.glob("clips/*")) + sorted(real_videos.glob("odd/*"))
    assert len(files) == 17
    for path in files:
        with open_video(path) as video:
            for _, picture in video.pictures([0, len(video) // 2, len(video) - 1]):
                check_parts(picture, number=6)


def test_only_blocks_that_hold_the_part_are_converted(craft, monkeypatch):
    converted = []
    whole = Converter._convert

    def spy(self, picture, order):
        converted.append((picture.height, picture.width))
        return whole(self, picture, order)

    monkeypatch.setattr(color_converter.Converter, "_convert", spy)
    with open_video(craft("v.mp4", width=128, height=96)) as video:
        for _, picture in video.pictures(range(5)):
            assert picture.pixels(slice(9, 30), slice(40, 41)).shape == (21, 1, 3)
    assert converted == [(24, 8)] * 5
