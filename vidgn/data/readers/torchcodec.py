"""Frames by torchcodec, which decodes with the FFmpeg that is installed on the machine.

PyAV looks at each file first. torchcodec 0.17 gives the same bits for H.264, HEVC, VP9 and AV1 of 8 bits in mp4/mov
and mkv/webm. It is wrong without saying so on transport streams, AVI and fragmented mp4 with keys a few pictures apart
(other frames), on interlacing and more than 8 bits (other colours) and on mirrored pictures, and it loses frames
behind keys of H.264 that are not IDR pictures; such a file is refused. What cannot be known beforehand is compared: the
number of frames, one picture of every file bit for bit, and the time of every frame that is delivered, for torchcodec
gives the next frame where it lacks one. Damaged pictures pass unnoticed where none is lost: torchcodec has no strict
mode.
"""

import re
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vidgn.data.readers.gather import ArrayPicture, as_pictures, distinct, gather_frames
from vidgn.data.readers.preflight import (
    EIGHT_BITS,
    close_keys,
    first_line,
    key_without_idr,
    mirrored,
    obstacle_in_keys,
    obstacle_in_start,
    refusal,
)
from vidgn.data.readers.pyav.reader import PyavReader
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.storage.remote import open_file

_CONTAINERS = {"mov", "matroska"}
# Standards that define every bit of a decoded picture, so that no version of FFmpeg decodes another one.
_CODECS = {"h264": "H.264", "hevc": "HEVC", "vp9": "VP9", "libdav1d": "AV1"}


class TorchcodecReader:
    """One open file, read by torchcodec; see `vidgn.data.video.Reader`."""

    def __init__(self, path: str, *, num_threads: int, max_pixels: int) -> None:
        decoders, self._ffmpeg = load_torchcodec()
        self.path = path
        with PyavReader(path, num_threads=1, max_pixels=max_pixels) as probe:
            why = _obstacle(probe)
            if why:
                raise refusal(path, why)
            sample = _sample(probe)
            ((_, picture),) = probe.frames([sample])
            self.fps, self.notes, self._seconds = probe.fps, probe.notes, probe.seconds()
            stream, times = probe.source.stream, probe.source.packets.times
            number = stream.index  # asked here: a closed container's streams are gone
            assert stream.time_base is not None  # without one no packet has a time
            self._tick = float(stream.time_base)
            self._times = array("q", [times[packet] for packet in probe.index.order])
        self.height, self.width = picture.shape[:2]
        self._file = open_file(path)  # opened by us: no name is taken for a URL, no input/output error for bad data
        self._video: Any = None
        try:
            self._video = self._open(decoders, stream_index=number, num_threads=num_threads)
            self._compare(sample, picture)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._times)

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
        wanted = distinct(indices, num_frames=len(self), path=self.path)
        return ((index, self._picture(index)) for index in wanted)

    def pictures(self, indices: Iterable[int]) -> Iterator[tuple[int, ArrayPicture]]:
        """Yield the same frames as pictures; see `vidgn.data.video.Reader.pictures`."""
        return as_pictures(self.frames(indices))

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read frames in any order and shape; see `vidgn.data.video.Reader.read`."""
        return gather_frames(indices, self.frames)

    def close(self) -> None:
        """Let torchcodec free its memory and close the file."""
        self._video = None
        self._file.close()

    def __enter__(self) -> "TorchcodecReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, decoders: ModuleType, *, stream_index: int, num_threads: int) -> Any:
        with self._blame("torchcodec cannot open it"):
            return decoders.VideoDecoder(
                self._file, stream_index=stream_index, dimension_order="NHWC", num_ffmpeg_threads=num_threads
            )

    def _compare(self, sample: int, expected: NDArray[np.uint8]) -> None:
        if len(self._video) != len(self):
            raise refusal(self.path, f"torchcodec counts {len(self._video)} frames instead of {len(self)}")
        if not np.array_equal(self._picture(sample), expected):
            raise refusal(self.path, f"with FFmpeg {self._ffmpeg}, torchcodec gives other pixels of frame {sample}")

    def _picture(self, index: int) -> NDArray[np.uint8]:
        with self._blame(f"frame {index} of {len(self)}"):
            frame = self._video.get_frame_at(index)
        if round(frame.pts_seconds / self._tick) != self._times[index]:
            due = f"{self._times[index] * self._tick:.3f} s"
            why = f"frame {index} of {len(self)}, due at {due}: torchcodec gave that of {frame.pts_seconds:.3f} s"
            raise VideoDecodeError(self.path, f"{why}; backend='pyav' reads it if the file is sound")
        image: NDArray[np.uint8] = frame.data.numpy()
        if image.shape[:2] != (self.height, self.width):
            sizes = f"{self.width}x{self.height} to {image.shape[1]}x{image.shape[0]}"
            raise VideoDecodeError(self.path, f"the size of its pictures changes from {sizes} px")
        return image

    @contextmanager
    def _blame(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as err:  # of our own file, through torchcodec
            err.filename = err.filename or self.path
            raise
        except (RuntimeError, ValueError, IndexError) as err:
            raise VideoDecodeError(self.path, f"{what}: {_sentence(err)}") from err


def load_torchcodec() -> tuple[ModuleType, int]:
    """Import torchcodec's decoders and tell the major version of the FFmpeg that they found.

    Raises:
        ImportError: torchcodec is not installed, or finds no FFmpeg.
    """
    try:
        import torchcodec
        from torchcodec import decoders
    except ImportError as err:
        raise ImportError(
            "backend='torchcodec' needs the package torchcodec; pip install torchcodec, or use backend='pyav'."
        ) from err
    except RuntimeError as err:  # before 0.17 it does not import without FFmpeg
        raise ImportError(_NO_FFMPEG) from err
    version: int | None = torchcodec.ffmpeg_major_version
    if version is None:
        raise ImportError(_NO_FFMPEG)
    return decoders, version


_NO_FFMPEG = (
    "backend='torchcodec' needs the shared libraries of FFmpeg (4 to 9), and torchcodec finds none that fits; install "
    "FFmpeg (apt install ffmpeg, conda install ffmpeg) or put its libraries' folder into LD_LIBRARY_PATH, or use "
    "backend='pyav', which carries its own."
)


def _obstacle(probe: PyavReader) -> str | None:
    """Name the first thing in a file that torchcodec is known to get wrong."""
    probe.settle()
    if probe.source.cropping is not None:
        return "its container crops the pictures, which torchcodec does not"
    facts = probe.source.facts
    if facts.codec not in _CODECS:
        return f"torchcodec reads only {', '.join(_CODECS.values())} exactly, not {facts.codec}"
    if not facts.formats & _CONTAINERS:
        return f"torchcodec reads only mp4/mov and mkv/webm exactly, not {min(facts.formats)}"
    why = obstacle_in_start(probe.path)
    if why:
        return why
    if not facts.is_progressive:
        return "torchcodec converts interlaced pictures to other colours"
    if not probe.is_timed:
        return "its times cannot be trusted, and torchcodec trusts them"
    if facts.codec == "h264":
        key = key_without_idr(probe)
        if key is not None:
            return f"its key packet {key} is not an IDR picture, and torchcodec loses frames behind such"
    pair = close_keys(probe)
    if pair is not None:
        return f"its key packets {pair[0]} and {pair[1]} lie so close that torchcodec can begin at the wrong one"
    return obstacle_in_keys(probe, in_picture=_obstacle_in_picture)


def _obstacle_in_picture(picture: VideoFrame) -> str | None:
    if picture.format.name not in EIGHT_BITS:
        return f"torchcodec converts {picture.format.name} to other colours"
    return mirrored(picture)


def _sample(probe: PyavReader) -> int:
    """Choose the frame to compare: a key in the middle, since films begin with black; the first where none is shown."""
    keys = set(probe.index.keys)
    shown = [frame for frame, packet in enumerate(probe.index.order) if packet in keys]
    return shown[len(shown) // 2] if shown else 0


def _sentence(err: Exception) -> str:
    """Take the sentence out of torchcodec's message, which names its source file and line first."""
    return re.sub(r"^.*?\.cpp:\d+, ", "", first_line(err))
