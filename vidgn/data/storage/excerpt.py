"""The path of a video that is a part of a longer one, a folder of images, or is read at another frame rate."""

from dataclasses import dataclass
from typing import Literal

Unit = Literal["seconds", "frames"]


@dataclass(frozen=True)
class Interval:
    """A part of a video, from `start` up to but not including `end`; None is the beginning or the end of the video.

    In seconds, counted from the video's first frame, it holds the frames with `start <= time < end`. In frames, counted
    from 0, it holds the frames `start` to `end - 1`.
    """

    start: float | None
    end: float | None
    unit: Unit = "seconds"

    def __str__(self) -> str:
        """Return the segment as a fragment of a name: `t=1.5,3` in seconds, `f=10,40` in frames."""
        start, end = ("" if value is None else f"{value:.12g}" for value in (self.start, self.end))
        return f"{'t' if self.unit == 'seconds' else 'f'}={start},{end}"


@dataclass(frozen=True)
class ImageFolder:
    """How a folder of images is a video.

    Attributes:
        pattern: Names of the images, with `*` or a format such as `img_{:05d}.jpg` for their number; None: every image.
        fps: Images per second.
        gaps: `error` or `close`: whether a missing number makes the video unreadable, or the images move together.
    """

    pattern: str | None = None
    fps: float = 30.0
    gaps: Literal["error", "close"] = "error"


class Excerpt(str):
    """The path of a video with what is to be read of it; as text it names the file and the segment.

    >>> cut = Excerpt.of("/data/a.mp4", segment=Interval(1.5, 3.0))
    >>> cut, cut.file, cut.segment.end
    ('/data/a.mp4#t=1.5,3', '/data/a.mp4', 3.0)
    """

    file: str
    segment: Interval | None
    images: ImageFolder | None
    fps: float | None  # frames per second that the video is read at; 0: its own mean rate; None: frame by frame

    @classmethod
    def of(
        cls,
        file: str,
        *,
        segment: Interval | None = None,
        images: ImageFolder | None = None,
        fps: float | None = None,
    ) -> "Excerpt":
        """Make the path of a part of `file`, which is a path, an address or a member of a tar."""
        excerpt = cls(f"{file}#{segment}" if segment is not None else file)
        excerpt.file, excerpt.segment, excerpt.images, excerpt.fps = file, segment, images, fps
        return excerpt
