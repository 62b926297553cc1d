"""Small videos that a test makes, and the plain decode they are compared with."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from vidgn.data import dataset, views

from .small_videos import FakeReader, write_noise

Craft = Callable[..., Path]


@pytest.fixture
def craft(tmp_path: Path) -> Craft:
    """Return a function that writes a video of this test: `craft(name, frames=36, codec="libx264", ...)`."""

    def write(name: str, **options: object) -> Path:
        write_video(tmp_path / name, **options)  # type: ignore[arg-type]
        return tmp_path / name

    return write


@pytest.fixture
def decode_all() -> Callable[[Path], list[NDArray[np.uint8]]]:
    """Return the oracle: every frame of a file by one plain decode from its beginning, in one thread."""
    return plain_decode


def plain_decode(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1
        # rotation is counter-clockwise, as np.rot90 turns
        return [np.rot90(to_rgb(f), f.rotation // 90) for f in container.decode(stream)]


def to_rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Convert as FFmpeg does by default, above 8 bits with accurate chroma (docs/data.md); see test_colours."""
    deep = frame.format.components[0].bits > 8
    return frame.to_ndarray(format="rgb24", interpolation=2 + 0x2000 * deep)  # SWS_BILINEAR, SWS_FULL_CHR_H_INT


def write_video(
    path: Path,
    *,
    frames: int = 36,
    width: int = 64,
    height: int = 48,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    gop: int = 12,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    times: Callable[[int], int] | None = None,
    rotation: int | None = None,
    mirrored: bool = False,
    first: int = 0,
) -> None:
    """Encode moving stripes; `times` gives milliseconds per frame, otherwise there are 25 per second."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.options = {"g": str(gop)} | (options or {})
        stream.codec_context.gop_size = gop
        if rotation is not None or mirrored:
            stream.set_display_rotation(rotation or 0, hflip=mirrored)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(first + index, height, width), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times(index), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def picture(index: int, height: int, width: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([3 * x + 4 * index, 2 * y + 3 * index, x + y + 11 * index], axis=-1).astype(np.uint8)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeReader]:
    """Files named FRAMES_HEIGHTxWIDTH."""

    def open_fake(path: str, *, backend: str) -> FakeReader:
        assert backend == "pyav"
        frames, size = Path(path).name.split("_")
        return FakeReader(path, int(frames), *map(int, size.split("x")))

    FakeReader.opened = FakeReader.passes = 0
    for module in (dataset, views):
        monkeypatch.setattr(module, "open_video", open_fake)
    return FakeReader


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small videos: longer and shorter than the span, wide and upright."""
    root = tmp_path_factory.mktemp("videos")
    for index in range(6):
        height, width = ((24, 32), (32, 24))[index % 2]
        write_noise(root / f"{index}.mkv", num_frames=5 + 4 * index, height=height, width=width, seed=index)
    return root
