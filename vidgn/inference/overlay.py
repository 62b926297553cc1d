"""Burn what was recognized into a copy of the video: `vidgn predict --overlay`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vidgn.data.readers.types import Reader
from vidgn.data.synthetic.motions import write_video
from vidgn.data.video import open_video
from vidgn.inference.predict import Segment
from vidgn.inference.windows import shown_at
from vidgn.terminal.escape import plot_label


def write_overlay(video: str, segments: Sequence[Segment], target: Path) -> None:
    """Write an mp4 with a line of text over each frame; no audio, one frame in memory at a time.

    Odd heights and widths lose their last row or column: 4:2:0 video has even ones.

    Raises:
        OSError, VideoDecodeError: a file cannot be read or written.
    """
    with open_video(video) as reader:
        frames = _Labelled(reader, segments)
        times = shown_at(np.arange(len(reader) + 1), reader.seconds())
        # write_video asks for the shape and for one frame after the other, never for the array.
        write_video(target, cast("NDArray[np.uint8]", frames), seconds=times)


class _Labelled:
    """The frames of a video with their text, drawn when they are asked for."""

    def __init__(self, reader: Reader, segments: Sequence[Segment]) -> None:
        self._reader = reader
        self._found = segments
        self.shape = (len(reader), reader.height // 2 * 2, reader.width // 2 * 2, 3)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for index, frame in self._reader.frames(range(self.shape[0])):
            shown = next((item for item in self._found if item.start <= index < item.end), None)
            text = "" if shown is None else f"{plot_label(shown.name)} {shown.score:.0%}"
            yield draw_label(frame[: self.shape[1], : self.shape[2]], text)


def draw_label(frame: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """Return uint8 (H, W, 3) with `text`, white on a dark bar at the top that is as high as the text needs."""
    picture = Image.fromarray(np.ascontiguousarray(frame))
    size = max(9, min(frame.shape[0] // 12, int(1.7 * frame.shape[1] / max(len(text), 1))))
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, picture.width, round(1.5 * size)), fill=(0, 0, 0))
    draw.text((size // 3, size // 6), text, fill=(255, 255, 255), font=font)
    return np.asarray(picture)
