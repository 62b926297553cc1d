"""From a decoded picture to RGB: the part that is wanted, upright.

    whole    planes -> RGB -> turned upright -> rows, columns
    part     planes -> blocks of 8 x 8 that hold it -> RGB -> rows, columns         4:2:0 of 8 bits, not turned

Both give the same bits, since the conversion of 4:2:0 of 8 bits looks at no neighbours (libswscale/yuv2rgb.c). The part
that a training clip shows of pictures of 340x256 is two fifths of them.
"""

from functools import cache
from typing import Any

import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type as SideDataType
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from vidgn.data.readers.pyav.cropping import Cropping
from vidgn.data.readers.pyav.orientation import upright
from vidgn.data.readers.types import ChannelOrder

_LOCAL = {"yuv420p", "yuvj420p"}  # of even sizes: where the height is odd, swscale goes another way and interpolates
_BLUE_FIRST = {*_LOCAL, "yuv422p", "yuvj422p"}  # of even heights, what swscale converts to bgr24 just as to rgb24
_STEP = 8  # px; what SIMD converts at once, and a whole number of chroma samples
_Area = tuple[int, int, int, int]  # left, top, width, height


class Converter:
    """Converts the pictures of one video; keeps what FFmpeg sets up for them."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._matrices: dict[int, NDArray[np.int32] | None] = {}
        self._cutters: dict[tuple[str, _Area], Graph] = {}

    def shape(self, picture: VideoFrame) -> tuple[int, int]:
        """Return height and width of the upright picture.

        Raises:
            ValueError: Its display matrix turns it by another angle than quarter turns.
        """
        height, width = picture.height, picture.width
        matrix = self._matrix_of(picture)
        if matrix is None:
            return height, width
        small: NDArray[np.uint8] = np.empty((1, 2, 3), np.uint8)
        return (height, width) if upright(small, matrix).shape == small.shape else (width, height)

    def pixels(self, picture: VideoFrame, rows: slice, columns: slice, *, order: ChannelOrder) -> NDArray[np.uint8]:
        """Return a part of the upright picture, uint8 (h, w, 3); its rows may be padded in memory."""
        matrix = self._matrix_of(picture)
        if matrix is not None:
            return upright(self._convert(picture, order), matrix)[rows, columns]
        height, width = picture.height, picture.width
        if picture.format.name not in _LOCAL or height % 2 or width % 2:
            return self._convert(picture, order)[rows, columns]
        top, bottom = _blocks(rows, height)
        left, right = _blocks(columns, width)
        part = self._convert(self._cut(picture, (left, top, right - left, bottom - top)), order)
        first_row, last_row, _ = rows.indices(height)
        first_column, last_column, _ = columns.indices(width)
        return part[first_row - top : last_row - top, first_column - left : last_column - left]

    def _convert(self, picture: VideoFrame, order: ChannelOrder) -> NDArray[np.uint8]:
        name = picture.format.name
        if order == "bgr" and not _is_deep(name) and (name not in _BLUE_FIRST or picture.height % 2):
            return self._convert(picture, "rgb")[..., ::-1]  # its bgr24 takes chroma from other neighbours
        # One thread: a worker owns one core, and the pixels are the same.
        rgb = self._reformatter.reformat(
            picture, format=f"{order}24", interpolation=_chroma_interpolation(name), threads=1
        )
        # A view: rows end in padding, and the plane keeps its picture alive.
        (plane,) = rgb.planes
        pixels: Any = plane  # has the buffer protocol, which its type does not say
        return np.ndarray((rgb.height, rgb.width, 3), np.uint8, buffer=pixels, strides=(plane.line_size, 3, 1))

    def cropped(self, picture: VideoFrame, cropping: Cropping) -> VideoFrame:
        """Return a picture that is what a container shows of this one; its ends are rounded to whole samples of chroma.

        So does FFmpeg's filter `crop`, with which the ffmpeg command applies it.
        """
        left, top, right, bottom = cropping
        return self._cut(picture, (left, top, picture.width - left - right, picture.height - top - bottom))

    def _cut(self, picture: VideoFrame, area: _Area) -> VideoFrame:
        """Return a picture that is an area of this one, in the same memory."""
        if area == (0, 0, picture.width, picture.height):
            return picture
        # A stream may change what it says of itself from picture to picture.
        size, colours = (
            f"{picture.width}x{picture.height}",
            f"colorspace={picture.colorspace}:range={picture.color_range}",
        )
        source = f"video_size={size}:pix_fmt={picture.format.name}:time_base=1/1:{colours}"
        graph = self._cutters.get((source, area))
        if graph is None:
            graph = self._cutters[source, area] = _cutter(source, area)
        graph.vpush(picture)
        return graph.vpull()

    def _matrix_of(self, picture: VideoFrame) -> NDArray[np.int32] | None:
        if picture.rotation not in self._matrices:
            self._matrices[picture.rotation] = display_matrix(picture)
        return self._matrices[picture.rotation]


def _unknown_side_data(kind: type[SideDataType], value: object) -> SideDataType:
    """Make a member for a kind of side data that PyAV does not name."""
    member: Any = object.__new__(kind)
    member._name_, member._value_ = f"UNKNOWN_{value}", value
    unknown: SideDataType = member
    return unknown


# PyAV 18 names the kinds up to 27 and raises at any other, such as the view of spatial video (29) and the EXIF of MJPEG
# (31; AV_FRAME_DATA_VIEW_ID, AV_FRAME_DATA_EXIF, libavutil/frame.h). Then not even the display matrix could be read.
SideDataType._missing_ = classmethod(_unknown_side_data)  # type: ignore[assignment]


def display_matrix(picture: VideoFrame) -> NDArray[np.int32] | None:
    """Read the matrix that turns a picture upright; None where the file has none."""
    # Asking a picture for its side data ties it into a reference cycle, which keeps its pixels alive until the
    # garbage collector runs. A copy of two by two pixels has the same side data.
    small = VideoReformatter().reformat(picture, width=2, height=2, format="gray", interpolation="POINT", threads=1)
    data: Any = small.side_data.get("DISPLAYMATRIX")
    return None if data is None else np.frombuffer(bytes(data), dtype=np.int32)


def _cutter(source: str, area: _Area) -> Graph:
    left, top, width, height = area
    graph = Graph()
    graph.threads = 1
    first, crop = graph.add("buffer", source), graph.add("crop", f"{width}:{height}:{left}:{top}")
    last = graph.add("buffersink")
    first.link_to(crop)
    crop.link_to(last)
    graph.configure()
    return graph


def _blocks(part: slice, size: int) -> tuple[int, int]:
    """Return the ends of the whole blocks that hold a part; the last block may be smaller."""
    first, last, _ = part.indices(size)
    return first - first % _STEP, min(-(-last // _STEP) * _STEP, size)


@cache
def _chroma_interpolation(pixels: str) -> int:
    """Return swscale's flags for a conversion to RGB: FFmpeg's default up to 8 bits, accurate chroma above.

    Its default gives two neighbouring pixels of 10-bit 4:2:0 one colour, off by up to 115 of 255 at sharp edges; with
    SWS_FULL_CHR_H_INT every pixel is within 1 of the definition (ITU-T H.273, 8.3) with interpolated chroma.
    """
    return int(Interpolation.BILINEAR) | (int(Interpolation.FULL_CHR_H_INT) if _is_deep(pixels) else 0)


@cache
def _is_deep(pixels: str) -> bool:
    return any(component.bits > 8 for component in VideoFormat(pixels).components)
