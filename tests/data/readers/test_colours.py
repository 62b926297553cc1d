"""Colours against FFmpeg's own filters and against the definitions of the standards, in every depth and sampling."""

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from vidgn.data.video import open_video

# The matrices of ITU-T H.273, table 4: number there, and (K_R, K_B).
MATRICES = {"bt709": (1, 0.2126, 0.0722), "bt601": (6, 0.299, 0.114), "bt2020": (9, 0.2627, 0.0593)}
LIMITED, FULL = 1, 2
PATCHES = np.array(
    [[255, 255, 255], [0, 0, 0], [128, 128, 128], [200, 60, 60], [60, 200, 60], [60, 60, 200], [220, 200, 40],
     [40, 160, 180]], np.uint8,
)  # fmt: skip


def to_yuv(rgb: NDArray[np.uint8], *, matrix: str, full: bool, bits: int) -> list[NDArray[np.uint16]]:
    """Quantize as H.273 8.3 defines: E'_Y = K_R R + (1 - K_R - K_B) G + K_B B, and so on."""
    _, kr, kb = MATRICES[matrix]
    r, g, b = np.moveaxis(rgb / 255, -1, 0)
    y = kr * r + (1 - kr - kb) * g + kb * b
    u, v = (b - y) / 2 / (1 - kb), (r - y) / 2 / (1 - kr)
    step, most = 1 << bits - 8, (1 << bits) - 1
    if full:
        planes = [most * y, most * u + 128 * step, most * v + 128 * step]
    else:
        planes = [step * (219 * y + 16), step * (224 * u + 128), step * (224 * v + 128)]
    return [np.rint(plane).clip(0, most).astype(np.uint16) for plane in planes]


def write(path: Path, rgb: NDArray[np.uint8], *, pixels: str, matrix: str, full: bool, codec: str = "ffv1") -> None:
    """Write one lossless picture whose planes are computed here; chroma is that of every second pixel."""
    bits = 10 if "10" in pixels else 8
    y, u, v = to_yuv(rgb, matrix=matrix, full=full, bits=bits)
    down = slice(None, None, 1 if "444" in pixels else 2)
    rows = slice(None, None, 2 if "420" in pixels else 1)
    height, width = rgb.shape[:2]
    frame = av.VideoFrame(width, height, pixels)
    for plane, values in zip(frame.planes, (y, u[rows, down], v[rows, down]), strict=True):
        line = np.zeros((plane.height, plane.line_size // (2 if bits > 8 else 1)), np.uint16 if bits > 8 else np.uint8)
        line[:, : plane.width] = values
        plane.update(line.tobytes())
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.options = {"qp": "0"} if codec == "libx264" else {}
        stream.codec_context.colorspace = MATRICES[matrix][0]
        stream.codec_context.color_range = FULL if full else LIMITED
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def read(path: Path) -> NDArray[np.uint8]:
    with open_video(path) as video:
        return next(video.frames([0]))[1]


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"])
def test_flat_colours_come_out_as_they_went_in(pixels, matrix, full, tmp_path):
    rgb = np.broadcast_to(PATCHES[:, None, :], (8, 16, 3)).repeat(8, 0).reshape(64, 16, 3)
    write(tmp_path / "v.mkv", rgb, pixels=pixels, matrix=matrix, full=full)
    got = read(tmp_path / "v.mkv")[3::8, 8]  # in the middle of each patch
    assert np.abs(got.astype(int) - PATCHES).max() <= (3 if "10" not in pixels else 1)


# Where the chroma sample of two by two pixels lies: H.264's default is the left (its figure E-1, type 0); where a
# file does not say, swscale takes the centre.
@pytest.mark.parametrize(("codec", "left"), [("libx264", True), ("ffv1", False)])
@pytest.mark.parametrize("size", [(48, 64), (47, 61)], ids=["even", "odd"])
@pytest.mark.parametrize("matrix", MATRICES)
def test_ten_bits_at_sharp_edges_are_within_two_of_the_definition(matrix, size, codec, left, tmp_path):
    if codec == "libx264" and size[0] % 2:
        pytest.skip("H.264 has no odd sizes at 4:2:0 in this encoder")
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (*size, 3), np.uint8).repeat(4, 0).repeat(4, 1)[: size[0], : size[1]]
    write(tmp_path / "v.mkv", rgb, pixels="yuv420p10le", matrix=matrix, full=False, codec=codec)
    expected = convert(*to_yuv(rgb, matrix=matrix, full=False, bits=10), matrix=matrix, left=left)
    assert np.abs(read(tmp_path / "v.mkv").astype(int) - expected).max() <= 2


def convert(
    y: NDArray[np.uint16], u: NDArray[np.uint16], v: NDArray[np.uint16], *, matrix: str, left: bool
) -> NDArray[np.int64]:
    """Convert 10-bit planes to RGB in floating point, with every second chroma sample interpolated."""
    _, kr, kb = MATRICES[matrix]
    height, width = y.shape
    cb, cr = (interpolate(plane[::2, ::2], height, width, left=left) / 4 - 128 for plane in (u, v))
    luma, cb, cr = (y / 4 - 16) / 219, cb / 224, cr / 224
    red, blue = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    return np.rint(255 * np.stack([red, green, blue], -1)).clip(0, 255).astype(np.int64)


def interpolate(plane: NDArray[np.uint16], height: int, width: int, *, left: bool) -> NDArray[np.float64]:
    # swscale stretches the plane over the picture, so with odd sizes a sample is a little less than two pixels.
    rows = (np.arange(height) + 0.5) * plane.shape[0] / height - 0.5
    columns = (np.arange(width) + 0.5) * plane.shape[1] / width - 0.5 + (0.25 if left else 0)
    across = np.stack([np.interp(columns, np.arange(plane.shape[1]), line) for line in plane])
    return np.stack([np.interp(rows, np.arange(plane.shape[0]), line) for line in across.T], -1)


def by_filters(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Convert by libavfilter, the way of `ffmpeg -i FILE -pix_fmt rgb24`."""
    graph = av.filter.Graph()
    source = graph.add(
        "buffer",
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/25:"
        f"colorspace={int(frame.colorspace)}:range={int(frame.color_range)}",
    )
    scale, pixels, sink = graph.add("scale"), graph.add("format", "pix_fmts=rgb24"), graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(pixels)
    pixels.link_to(sink)
    graph.configure()
    frame.pts = 0
    graph.push(frame)
    return graph.pull().to_ndarray()


SAME = {
    "yuv420p": {}, "yuv422p": {"pixels": "yuv422p"}, "yuv444p": {"pixels": "yuv444p"},
    "odd 444": {"pixels": "yuv444p", "width": 61, "height": 47}, "full range": {"pixels": "yuvj420p"},
    "gray": {"pixels": "gray"}, "10-bit 444": {"pixels": "yuv444p10le"}, "rgb": {"codec": "ffv1", "pixels": "bgr0"},
}  # fmt: skip


@pytest.mark.parametrize("kind", SAME)
def test_colours_are_ffmpegs_to_the_bit(kind, craft):
    path = craft("v.mkv", frames=1, **SAME[kind])
    with av.open(str(path)) as container:
        expected = by_filters(next(container.decode(video=0)))
    np.testing.assert_array_equal(read(path), expected)


def test_colours_of_real_files_are_ffmpegs_to_the_bit(real_videos):
    files = [
        p for p in sorted(real_videos.glob("clips/*")) + sorted(real_videos.glob("odd/*")) if "10bits" not in p.name
    ]
    wrong = []
    for path in files:
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
            expected = np.rot90(by_filters(frame), frame.rotation // 90)
        if not np.array_equal(read(path), expected):
            wrong.append(path.name)
    assert len(files) == 16
    assert wrong == []


def test_bright_colours_of_hdr_are_not_mapped(tmp_path):
    """A transfer function (PQ) is left alone: RGB is what the matrix gives, as for any other file."""
    rgb = np.broadcast_to(PATCHES[:, None, :], (8, 16, 3)).repeat(8, 0).reshape(64, 16, 3)
    write(tmp_path / "plain.mkv", rgb, pixels="yuv420p10le", matrix="bt2020", full=False)
    with av.open(str(tmp_path / "plain.mkv")) as old, av.open(str(tmp_path / "hdr.mkv"), "w") as new:
        stream = new.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 64, "yuv420p10le"
        stream.codec_context.colorspace, stream.codec_context.color_range = 9, LIMITED
        stream.codec_context.color_primaries, stream.codec_context.color_trc = 9, 16  # BT.2020, SMPTE ST 2084
        for frame in old.decode(video=0):
            new.mux(stream.encode(frame))
        new.mux(stream.encode())
    with av.open(str(tmp_path / "hdr.mkv")) as container:
        assert container.streams.video[0].codec_context.color_trc == 16
    np.testing.assert_array_equal(read(tmp_path / "hdr.mkv"), read(tmp_path / "plain.mkv"))
