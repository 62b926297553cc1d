"""Re-encode one video for random access, and verify the new file frame by frame."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidgn.data.readers.plain_decode import check_order
from vidgn.data.readers.pyav.reader import PyavReader
from vidgn.data.readers.sample_index import pack_index
from vidgn.data.readers.types import MAX_PIXELS, Reader
from vidgn.data.transforms import resize, scaled_size
from vidgn.data.video import open_video
from vidgn.files.outputs import replacing


@dataclass(frozen=True)
class PrepareSpec:
    """How videos are written.

    Attributes:
        short_side: px; smaller videos keep their size.
        gop: frames from one key frame to the next.
        crf: x264's constant rate factor; 18 is hard to tell from the source; a step costs 7 % of decoding and 0.6 dB.
        min_psnr: dB; a file whose pictures differ more from the resized source is an error.

    Raises:
        ValueError: a number is out of range.
    """

    short_side: int = 256
    gop: int = 12
    crf: int = 23
    min_psnr: float = 30.0

    def __post_init__(self) -> None:
        if self.short_side < 16 or self.short_side % 2:
            raise ValueError(f"short_side ({self.short_side}) must be an even number of at least 16 px; use 256.")
        if self.gop < 1:
            raise ValueError(f"gop ({self.gop}) must be at least 1 frame; use 12.")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf ({self.crf}) must be in 0..51; use 23.")


def prepare_file(source: str | Path, target: str | Path, *, spec: PrepareSpec) -> tuple[int, float]:
    """Re-encode one video and verify it; return the number of frames and the PSNR of the luma (dB).

    The source is decoded plainly first, and a few random accesses to it are compared with that.

    Raises:
        VideoDecodeError: the source is damaged.
        ValueError: the new file does not hold the frames of the source, or differs by more than `min_psnr`.
        OSError: a file cannot be read or written.
    """
    with replacing(target) as part:
        with open_video(source) as video:
            if isinstance(video, PyavReader):
                check_order(video)
            _encode(video, part, spec)
            _append_index(part)
            result = _verify(video, part, spec)
        with part.open("rb") as file:
            os.fsync(file.fileno())
    return result


def _encode(video: Reader, part: Path, spec: PrepareSpec) -> None:
    import av

    with av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        # A rate with a short denominator: mp4 counts time in fractions of it.
        rate = Fraction(video.fps or 25.0).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate)
        stream.pix_fmt = "yuv420p"
        # fastdecode: no CABAC and no deblocking, the two costliest steps of decoding. One thread: one core a worker.
        stream.options = {
            "crf": str(spec.crf), "preset": "medium", "tune": "fastdecode",
            "g": str(spec.gop), "threads": "1",
            # To nine of 12 pictures no other refers: of these a clip with stride 2 decodes 7 or 8.
            "bf": "5", "b_strategy": "0", "b-pyramid": "none",
            "refs": "1", "partitions": "i8x8",  # whole macroblocks where pictures refer to others
            "direct-pred": "none",  # motion is written down: to derive it from the neighbours takes longer than to read
            # The fewest bits for the same PSNR: bits are what takes time to decode. By eye it is a little less good.
            "psy": "0", "aq-mode": "0", "trellis": "2", "x264-params": "subme=9:ipratio=1.25",
        }  # fmt: skip
        stream.codec_context.gop_size = spec.gop
        for index, image in _scaled(video, spec):
            if not index:
                stream.height, stream.width = image.shape[:2]
            # Converted here: where the encoder is left to do it, the same pictures do not always give the same bytes.
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _append_index(part: Path) -> None:
    """Write the table of a new file's packets behind it, once the order of its frames is compared with the stream."""
    with PyavReader(str(part), num_threads=1, max_pixels=MAX_PIXELS) as new:
        new.settle()
        index = new.source.sample_index() if new.is_timed else None
    box = None if index is None else pack_index(index, file_bytes=part.stat().st_size)
    if box is not None:
        with part.open("ab") as file:
            file.write(box)


def _scaled(video: Reader, spec: PrepareSpec) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield every frame at its new size, which is even in both directions, as 4:2:0 needs."""
    for index, image in video.frames(range(len(video))):
        height, width = image.shape[:2]
        short = min(spec.short_side, height, width)
        rows, columns = scaled_size(height, width, short_side=short)
        size = max(2, rows - rows % 2), max(2, columns - columns % 2)
        if size == (height, width):
            yield index, np.ascontiguousarray(image)
        else:
            scaled = resize(image[np.newaxis], size=size)[:, 0].permute(1, 2, 0)  # (h,w,3)
            yield index, np.ascontiguousarray(scaled.numpy())


def _verify(video: Reader, part: Path, spec: PrepareSpec) -> tuple[int, float]:
    with open_video(part) as new:
        if len(new) != len(video):
            raise ValueError(f"{video.path}: {len(new)} of {len(video)} frames were written; please report this")
        errors = [
            np.square(_luma(mine) - _luma(theirs)).mean()
            for (_, mine), (_, theirs) in zip(new.frames(range(len(new))), _scaled(video, spec), strict=True)
        ]
    psnr = float(10 * np.log10(255**2 / max(float(np.mean(errors)), 1e-9)))
    if psnr < spec.min_psnr:
        raise ValueError(
            f"{video.path}: the new pictures differ too much, PSNR {psnr:.1f} dB below {spec.min_psnr}; use a lower crf"
        )
    return len(errors), psnr


def _luma(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    weights = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, 2.5.1
    return image.astype(np.float32) @ weights
