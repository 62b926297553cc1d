"""Exact frames by PyAV: one pass over the packets plans, a second one decodes what is needed and no more."""

from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vidgn.data.readers.gather import distinct, gather_frames
from vidgn.data.readers.pyav.color_converter import Converter
from vidgn.data.readers.pyav.demuxer import PacketSource
from vidgn.data.readers.pyav.frame_index import DecodeRun
from vidgn.data.readers.pyav.frame_times import frame_seconds, mean_rate
from vidgn.data.readers.pyav.index_plan import IndexPlan
from vidgn.data.readers.pyav.packet_decoder import PictureDecoder
from vidgn.data.readers.types import EVERYTHING, ChannelOrder, VideoDecodeError


class PyavReader:
    """One open file, read by PyAV; see `vidgn.data.video.Reader`.

    `is_timed` tells whether the times in the file gave the index; if not, everything was decoded once for it.
    """

    def __init__(self, path: str, *, num_threads: int, max_pixels: int) -> None:
        self.path = path
        self._converter = Converter()
        self._shape: tuple[int, int] | None = None
        self._is_closed = False
        self._seconds: NDArray[np.float64] | None = None
        self.source = PacketSource(path, max_pixels=max_pixels)
        self.decoder = PictureDecoder(self.source, num_threads=num_threads)
        try:
            self._plan = IndexPlan(self.source, self.decoder)
            self.is_timed, self.index = self._plan.make()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self.index)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is left out, one sentence each."""
        count, total = len(self.index.left_out), len(self.source.packets)
        amid = f"the stream begins amid a group of frames: {count} of its {total} packets cannot be decoded"
        return (*self.source.notes, *((f"{amid} and are left out",) if count else ()))

    @property
    def height(self) -> int:
        """Rows of an upright frame; decodes the first frame where none was read yet."""
        return self._upright_shape()[0]

    @property
    def width(self) -> int:
        """Columns of an upright frame; decodes the first frame where none was read yet."""
        return self._upright_shape()[1]

    @property
    def fps(self) -> float:
        """Frames per second, on average; 0.0 where the file does not say."""
        return mean_rate(self.seconds(), stated=self.source.facts.fps)

    def seconds(self) -> NDArray[np.float64]:
        """Return when frames are shown; see `vidgn.data.video.Reader.seconds`."""
        if self._seconds is None or len(self._seconds) != len(self) + 1:
            facts = self.source.facts
            self._seconds = frame_seconds(
                self.source.packets, self.index.order, tick=facts.tick, fps=facts.fps, length=facts.duration
            )
        return self._seconds

    def frames(self, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield distinct frames in ascending order; see `vidgn.data.video.Reader.frames`.

        Raises:
            ValueError: The reader is closed.
        """
        return ((index, picture.pixels()) for index, picture in self.pictures(indices))

    def pictures(self, indices: Iterable[int]) -> Iterator[tuple[int, "PyavPicture"]]:
        """Yield the same frames before they are converted; see `vidgn.data.video.Reader.pictures`.

        Raises:
            ValueError: The reader is closed.
        """
        if self._is_closed:
            raise ValueError(f"the reader of {self.path} is closed; open the video again.")
        wanted = distinct(indices, num_frames=len(self), path=self.path)
        self.settle(wanted)
        return self._deliver(wanted)

    def settle(self, wanted: Iterable[int] | None = None) -> None:
        """Compare the order by times with that of the stream where frames lie, and ask the decoder where they differ.

        Times can mislead: a file may hold those of decoding in place of those of showing, as `ffmpeg -i X.avi -c copy
        Y.mp4` writes them. `pictures` does this by itself; call it before the index is used in another way.

        Args:
            wanted: Frames, ascending; None for all.

        Raises:
            VideoDecodeError: The decoder gives another number of frames than there are packets with times.
        """
        if not self.is_timed or self.source.has_index:  # prepare compared them all before it wrote the index
            return
        order = self._plan.order
        first = self.index.keys[0]  # a packet before it may refer to missing ones
        runs = self.index.runs(range(len(self)) if wanted is None else wanted)
        if all(order.holds(max(run.start, first), run.last) for run in runs):
            return
        count = len(self)
        index = self._plan.by_decoding(has_gaps=order.has_gaps)
        self.is_timed, self.index, self._seconds = False, index, None
        if len(self.index) != count:
            why = f"the times of its packets contradict the stream, of which {len(self.index)} frames can be decoded"
            raise VideoDecodeError(self.path, f"{why} and not {count}")

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read frames in any order and shape; see `vidgn.data.video.Reader.read`."""
        return gather_frames(indices, self.frames)

    def close(self) -> None:
        """Close the container and the file."""
        self._is_closed = True
        self.source.close()

    def __enter__(self) -> "PyavReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _deliver(self, wanted: list[int]) -> Iterator[tuple[int, "PyavPicture"]]:
        for run in self.index.runs(wanted):
            for frame, picture in self.decode_run(run):
                yield frame, self._to_picture(picture)

    def decode_run(self, run: DecodeRun) -> Iterator[tuple[int, VideoFrame]]:
        """Decode a run's frames in ascending order, from an earlier key where the first one does not serve.

        A key packet may promise too much (gradual refresh, a wrong flag); the first packet cannot. Behind a cut a
        packet may be whole and name a missing picture: the decoder has to pass over that.
        """
        todo = deque(run.frames)
        attempts = self._attempts(run)
        start, lenient = next(attempts)
        while True:
            early: dict[int, VideoFrame] = {}
            try:
                for frame, picture in self._decode_wanted(start, run.last, todo, lenient=lenient):
                    early[frame] = picture
                    while todo and todo[0] in early:
                        yield todo[0], early.pop(todo.popleft())
                return
            except VideoDecodeError:
                attempt = next(attempts, None)
                if attempt is None:
                    raise
                start, lenient = attempt

    def _attempts(self, run: DecodeRun) -> Iterator[tuple[int, bool]]:
        """Yield from where a run may be decoded, and whether leniently."""
        starts = [run.start, *self.index.earlier_starts(run.start)]
        yield from ((start, False) for start in starts)
        for start in starts:
            if self.decoder.is_whole(start, run.last, partial(self.index.may_fail, start=start)):
                yield start, True

    def _decode_wanted(
        self, start: int, last: int, wanted: Iterable[int], *, lenient: bool
    ) -> Iterator[tuple[int, VideoFrame]]:
        frame_of = {self.index.order[frame]: frame for frame in wanted}
        # Only where a packet is one whole picture can a packet be passed over for the sake of another.
        needed = set(frame_of) if self.is_timed else None
        may_fail = partial(self.index.may_fail, start=start)
        for packet, picture in self.decoder.decode(start, last, needed=needed, may_fail=may_fail, lenient=lenient):
            frame = frame_of.pop(packet, None)
            if frame is None:
                continue
            if picture.is_corrupt:
                raise VideoDecodeError(self.path, f"frame {frame} of {len(self)} is damaged")
            yield frame, picture
            if not frame_of:
                return
        lost = min(frame_of.values())
        raise VideoDecodeError(self.path, f"frame {lost} of {len(self)} is promised and cannot be decoded")

    def _to_picture(self, picture: VideoFrame) -> "PyavPicture":
        height, width = self.source.facts.height, self.source.facts.width
        if (picture.height, picture.width) != (height, width):
            height, width = self.source.learn_size()
        if (picture.height, picture.width) != (height, width):
            sizes = f"{width}x{height} to {picture.width}x{picture.height}"
            raise VideoDecodeError(self.path, f"the size of its pictures changes from {sizes} px")
        if self.source.cropping is not None:
            picture = self._converter.cropped(picture, self.source.cropping)
        try:
            self._shape = self._converter.shape(picture)
        except ValueError as err:
            raise VideoDecodeError(self.path, str(err)) from err
        return PyavPicture(self._converter, picture, self._shape)

    def _upright_shape(self) -> tuple[int, int]:
        if self._shape is None:
            next(self.pictures([0]))
        assert self._shape is not None
        return self._shape


class PyavPicture(NamedTuple):
    """A decoded picture; see `vidgn.data.video.Picture`."""

    converter: Converter
    decoded: VideoFrame
    shape: tuple[int, int]

    def pixels(
        self, rows: slice = EVERYTHING, columns: slice = EVERYTHING, *, order: ChannelOrder = "rgb"
    ) -> NDArray[np.uint8]:
        """Convert a part of it; see `vidgn.data.video.Picture.pixels`."""
        return self.converter.pixels(self.decoded, rows, columns, order=order)
