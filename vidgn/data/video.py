"""Which pixels: open one video file and read exact frames of it by index.

Frame `i` is the i-th picture that a plain decode of the whole first video stream shows, whatever the container
says of times. Back ends differ in how they get there, never in what they return:

    with open_video("clip.mp4") as video:
        starts = test_starts(len(video), num_clips=10, span=64)
        indices = frame_indices(starts, clip_len=32, span=64, num_frames=len(video))  # (10, 32)
        clips = video.read(indices)  # (10, 32, H, W, 3)

The file is opened by us and must be a regular file: no URL, pipe, device or playlist is ever followed.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from vidgn.data.pieces import Piece
from vidgn.data.remote import Url, is_remote

Backend = Literal["pyav", "decord", "torchcodec"]
ChannelOrder = Literal["rgb", "bgr"]
EVERYTHING = slice(None)

# 4096 x 4096: above every common video, below what would fill a worker's memory with a few frames.
MAX_PIXELS = 16_777_216


class VideoDecodeError(Exception):
    """The content of a video file is not what it should be; the file itself could be opened.

    A file that cannot be opened or read at all (missing, no permission, input/output error) stays an
    `OSError`. A data loader's worker hands an error on as one text: `reason` is then this text, `path` empty.
    """

    def __init__(self, path: str, reason: str = "") -> None:
        super().__init__(*((path, reason) if reason else (path,)))
        self.path, self.reason = (path, reason) if reason else ("", path)

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class Picture(Protocol):
    """One upright picture of a video, whose pixels are made when they are asked for."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    def pixels(
        self, rows: slice = EVERYTHING, columns: slice = EVERYTHING, *, order: ChannelOrder = "rgb"
    ) -> NDArray[np.uint8]:
        """Return a part of it, uint8 (h, w, 3), its colours in this order; its rows may be padded in memory.

        Slices have no step.
        """


class Reader(Protocol):
    """One open video file; a context manager.

    `height` and `width` (px) are those of the upright picture; `fps` is the mean rate (frames per second, 0.0
    where the file does not say). A picture is not stretched where its pixels are not square.
    """

    @property
    def path(self) -> str:
        """The name as it was given."""

    @property
    def height(self) -> int:
        """Rows of an upright frame."""

    @property
    def width(self) -> int:
        """Columns of an upright frame."""

    @property
    def fps(self) -> float:
        """Frames per second, on average."""

    def __len__(self) -> int:
        """Count the frames exactly."""

    def frames(self, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield each distinct wanted frame once, in ascending order, from one forward pass.

        Yields:
            The index and the upright picture, uint8 (H, W, 3); its rows may be padded in memory.

        Raises:
            IndexError: An index is not in 0..len-1.
            VideoDecodeError: A wanted frame is damaged or has another size than the video.
        """

    def pictures(self, indices: Iterable[int]) -> Iterator[tuple[int, Picture]]:
        """Yield the same frames before they are converted, for callers that want a part of each.

        Raises:
            IndexError, VideoDecodeError: As `frames`.
        """

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read frames by index in any order, with repeats: any shape (...) gives uint8 (..., H, W, 3)."""

    def close(self) -> None:
        """Let go of the file; closing twice is allowed."""

    def __enter__(self) -> "Reader": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_video(
    path: str | Path, *, backend: Backend = "pyav", num_threads: int = 1, max_pixels: int = MAX_PIXELS
) -> Reader:
    """Open a regular file, a `Url` or a `Piece` and index its first video stream that is not a cover picture.

    Args:
        path: A file in one of the containers mp4/mov, mkv/webm, avi, ts, mpg, flv, asf, ogg; its name proves
            nothing.
        backend: `pyav` reads everything exactly. `decord` reads ordinary H.264 files, `torchcodec` H.264, HEVC, VP9
            and AV1 of 8 bits with an installed FFmpeg; they refuse the rest and do not notice damaged pictures.
        num_threads: Threads of the decoder, which share the slices of one picture.
        max_pixels: Largest picture (height x width) that is decoded.

    Raises:
        OSError: The file is missing, a directory, unreadable (the class says which).
        VideoDecodeError: It is not a regular file, not a video, truncated, or this back end does not read it exactly.
        ImportError: The package of the back end, or FFmpeg for torchcodec, is not installed.
        ValueError: An argument is out of range.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend ({backend!r}) must be one of {', '.join(get_args(Backend))}.")
    for name, value in (("num_threads", num_threads), ("max_pixels", max_pixels)):
        if value < 1:
            raise ValueError(f"{name} ({value}) must be at least 1.")
    file = os.fspath(path)
    if not is_remote(file):
        _require_regular_file(file.container if isinstance(file, Piece) else file)
    if backend != "pyav" and isinstance(file, (Url, Piece)):
        raise ValueError(f"backend ({backend}) reads whole files of this machine only, not {file}; use pyav.")
    if backend == "decord":
        from vidgn.data.readers.decord import DecordReader

        return DecordReader(file, num_threads=num_threads, max_pixels=max_pixels)
    if backend == "torchcodec":
        from vidgn.data.readers.torchcodec import TorchcodecReader

        return TorchcodecReader(file, num_threads=num_threads, max_pixels=max_pixels)
    from vidgn.data.readers.pyav import PyavReader

    return PyavReader(file, num_threads=num_threads, max_pixels=max_pixels)


_KINDS = {
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}


def _require_regular_file(path: str) -> None:
    """Refuse what would block or never end when read; asked before the file is opened."""
    if "\0" in path:
        raise VideoDecodeError(path, "the name holds a NUL byte, which no file name can")
    mode = os.stat(path).st_mode  # raises FileNotFoundError, PermissionError, ... with the name
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise VideoDecodeError(path, f"{_KINDS.get(stat.S_IFMT(mode), 'not a file')}, not a regular file")
