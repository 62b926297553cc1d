"""Frames by decord, for ordinary H.264 files only.

decord 0.6 is wrong without saying so on open GOPs, edit lists, transport streams, AVI with B-frames, interlacing,
gradual refresh, 10-bit pictures, mirrored pictures, turned 4:2:2, small widths and files with several video streams.
PyAV looks at each file first, and a file with any of these is refused. Damaged pictures pass unnoticed: decord has no
strict mode.
"""

import os
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vidgn.data.readers.gather import ArrayPicture, as_pictures, distinct, gather_frames
from vidgn.data.readers.preflight import (
    EIGHT_BITS,
    first_line,
    key_without_idr,
    mirrored,
    obstacle_in_keys,
    obstacle_in_start,
    refusal,
)
from vidgn.data.readers.pyav.reader import PyavReader
from vidgn.data.readers.types import VideoDecodeError

_CONTAINERS = {"mov", "matroska"}
_TURNED_WRONGLY = {"yuv422p", "yuvj422p"}


class DecordReader:
    """One open file, read by decord; see `vidgn.data.video.Reader`."""

    def __init__(self, path: str, *, num_threads: int, max_pixels: int) -> None:
        try:
            import decord
        except ImportError as err:
            raise ImportError(
                "backend='decord' needs the package decord; pip install decord, or use backend='pyav'."
            ) from err
        self.path = path
        with PyavReader(path, num_threads=1, max_pixels=max_pixels) as probe:
            why = _obstacle(probe)
            self._num_frames, self.fps, self.notes = len(probe), probe.fps, probe.notes
            self.height, self.width = probe.height, probe.width
            self._seconds = probe.seconds()
        if why:
            raise refusal(path, why)
        self._error: type[Exception] = decord.DECORDError
        try:
            # An absolute path cannot be taken for a URL.
            self._video: Any = decord.VideoReader(os.path.abspath(path), ctx=decord.cpu(0), num_threads=num_threads)
        except (self._error, RuntimeError) as err:
            raise VideoDecodeError(path, f"decord cannot open it: {first_line(err)}") from err
        if len(self._video) != self._num_frames:
            raise refusal(path, f"decord counts {len(self._video)} frames instead of {self._num_frames}")
        shape = next(self.frames([0]))[1].shape
        if shape != (self.height, self.width, 3):
            raise refusal(path, f"decord gives pictures of shape {shape} at a width of {self.width} px")

    def __len__(self) -> int:
        return self._num_frames

    def seconds(self) -> NDArray[np.float64]:
        """Return when frames are shown; see `vidgn.data.readers.types.Reader.seconds`."""
        return self._seconds

    def frames(self, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield distinct frames in ascending order; see `vidgn.data.video.Reader.frames`.

        Raises:
            ValueError: The reader is closed.
        """
        if self._video is None:
            raise ValueError(f"the reader of {self.path} is closed; open the video again.")
        return self._deliver(distinct(indices, num_frames=len(self), path=self.path))

    def pictures(self, indices: Iterable[int]) -> Iterator[tuple[int, ArrayPicture]]:
        """Yield the same frames as pictures; see `vidgn.data.video.Reader.pictures`."""
        return as_pictures(self.frames(indices))

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read frames in any order and shape; see `vidgn.data.video.Reader.read`."""
        return gather_frames(indices, self.frames)

    def close(self) -> None:
        """Let decord free the file."""
        self._video = None

    def __enter__(self) -> "DecordReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _deliver(self, wanted: list[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        # Never get_batch: past the last decodable frame it can spin for ever, holding the interpreter
        # (dmlc/decord issue 373).
        for index in wanted:
            try:
                image: NDArray[np.uint8] = self._video[index].asnumpy()
            except self._error as err:
                raise VideoDecodeError(self.path, f"frame {index}: {first_line(err)}") from err
            yield index, image


def _obstacle(probe: PyavReader) -> str | None:
    """Name the first thing in a file that decord is known to get wrong."""
    probe.settle()
    if probe.source.cropping is not None:
        return "its container crops the pictures, which decord does not"
    facts, index, packets = probe.source.facts, probe.index, probe.source.packets
    if facts.codec != "h264":
        return f"decord reads only H.264 exactly, not {facts.codec}"
    if not facts.formats & _CONTAINERS:
        return f"decord reads only mp4/mov and mkv exactly, not {min(facts.formats)}"
    why = obstacle_in_start(probe.path)
    if why:
        return why
    if facts.num_video_streams > 1:
        return f"decord chooses another one of its {facts.num_video_streams} video streams"
    if not facts.is_progressive:
        return "decord deinterlaces wrongly"
    if len(packets.shown()) < len(packets):
        return "an edit list hides frames, which decord shows"
    if not probe.is_timed:
        return "its times cannot be trusted, and decord trusts them"
    if index.has_open_groups():
        return "it has open groups of pictures"
    why = obstacle_in_keys(probe, in_picture=_obstacle_in_picture)
    key = key_without_idr(probe)
    if why is None and key is not None:
        return f"its key packet {key} is not an IDR picture, and decord gives other frames behind such"
    return why


def _obstacle_in_picture(picture: VideoFrame) -> str | None:
    if picture.format.name not in EIGHT_BITS:
        return f"decord converts {picture.format.name} to other colours"
    if picture.rotation and picture.format.name in _TURNED_WRONGLY:
        return f"decord turns {picture.format.name} before it converts it, to other colours"
    return mirrored(picture)
