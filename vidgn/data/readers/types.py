"""What every reader offers, and the error that every reader raises."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

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
    where the file does not say). A picture is not stretched where its pixels are not square. `notes` say what of the
    file is left out without being an error, such as packets before the first key packet; it is empty for most files.
    """

    @property
    def notes(self) -> tuple[str, ...]:
        """What is left out, one sentence each."""

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

    def seconds(self) -> NDArray[np.float64]:
        """Return when each frame is shown, from the first one on, and when the last one ends: float64 (N + 1,).

        Frame i is shown from seconds[i] to seconds[i + 1], whatever the rate; nan where the file states no times.
        """

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


def refuse_notes(video: Reader) -> None:
    """Refuse a video of which something is left out, as `strict=true` asks.

    Raises:
        VideoDecodeError: It has notes.
    """
    if video.notes:
        raise VideoDecodeError(video.path, f"{'; '.join(video.notes)}; strict=true refuses such a file")
