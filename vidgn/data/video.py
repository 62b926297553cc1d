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
from pathlib import Path
from typing import get_args

from vidgn.data.readers.types import MAX_PIXELS, Backend, Reader, VideoDecodeError
from vidgn.data.storage.byte_ranges import FileRange
from vidgn.data.storage.excerpt import Excerpt
from vidgn.data.storage.remote import Url, is_remote


def open_video(
    path: str | Path, *, backend: Backend = "pyav", num_threads: int = 1, max_pixels: int = MAX_PIXELS
) -> Reader:
    """Open a regular file, a `Url` or a `Piece` and index its first video stream that is not a cover picture.

    Args:
        path: A file in one of the containers mp4/mov, mkv/webm, avi, ts, mpg, flv, asf, ogg, gif, whose name proves
            nothing; or an `Excerpt` of one.
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
    if isinstance(file, Excerpt):
        return _open_excerpt(file, backend=backend, num_threads=num_threads, max_pixels=max_pixels)
    if not is_remote(file):
        _require_regular_file(file.container if isinstance(file, FileRange) else file)
    if backend != "pyav" and isinstance(file, (Url, FileRange)):
        raise ValueError(f"backend ({backend}) reads whole files of this machine only, not {file}; use pyav.")
    if backend == "decord":
        from vidgn.data.readers.decord import DecordReader

        return DecordReader(file, num_threads=num_threads, max_pixels=max_pixels)
    if backend == "torchcodec":
        from vidgn.data.readers.torchcodec import TorchcodecReader

        return TorchcodecReader(file, num_threads=num_threads, max_pixels=max_pixels)
    from vidgn.data.readers.pyav.reader import PyavReader

    return PyavReader(file, num_threads=num_threads, max_pixels=max_pixels)


def _open_excerpt(excerpt: Excerpt, *, backend: Backend, num_threads: int, max_pixels: int) -> Reader:
    """Open a part of a video, a folder of images, or either at another frame rate."""
    from vidgn.data.readers.excerpt import ExcerptReader
    from vidgn.data.readers.image_folder import ImageFolderReader

    if excerpt.images is not None:
        whole: Reader = ImageFolderReader(excerpt.file, excerpt.images, max_pixels=max_pixels)
    else:
        whole = open_video(excerpt.file, backend=backend, num_threads=num_threads, max_pixels=max_pixels)
    return whole if excerpt.segment is None and excerpt.fps is None else ExcerptReader(whole, excerpt)


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
