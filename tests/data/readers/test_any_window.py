"""Any window of any file is what a plain decode of the whole file gives, bit for bit."""

import functools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vidgn.data.video import open_video

from ..conftest import plain_decode, write_video
from .pyav.test_reader import CRAFTED, NO_B, REAL

# Beside those of `test_pyav`: what no short file shows.
LONG = {
    "gop1000.mp4": {"frames": 200, "gop": 1000, "options": {"bf": "8", "b-adapt": "0"}},
    "open_gop_120.mp4": {"frames": 120, "options": {"x264-params": "open-gop=1:bframes=3"}},
    "uneven.mp4": {"times": lambda i: 40 * i + i % 3 * 15 + 500 * (i > 30), "frames": 60},
    "wide.mp4": {"width": 2000, "height": 16, "frames": 10},
    "square.mp4": {"width": 16, "height": 16, "frames": 60, "options": NO_B},
    "h264_120.avi": {"frames": 120},
    "start.ts": {"frames": 60, "times": lambda i: 40 * i + 10_000},
    "fragments.mp4": {"frames": 60, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
}
FILES = {name: options for name, (options, _) in CRAFTED.items()} | LONG


class Window:
    """Frames start, start + step, ... as a clip has them; beyond the end it goes on at the beginning."""

    def __init__(self, start: int, count: int, step: int) -> None:
        self.start, self.count, self.step = start, count, step

    def __repr__(self) -> str:
        return f"Window({self.start}, {self.count}, {self.step})"

    def of(self, num_frames: int) -> NDArray[np.int64]:
        return (self.start + self.step * np.arange(self.count)) % num_frames


windows = st.builds(Window, st.integers(0, 400), st.integers(1, 16), st.integers(1, 8))


@functools.cache
def truth(path: Path) -> NDArray[np.uint8]:
    return np.stack(plain_decode(path))


@pytest.fixture(scope="module")
def crafted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("windows")


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_any_windows_of_a_crafted_file(name, crafted):
    path = crafted / name
    write_video(path, **FILES[name])  # type: ignore[arg-type]

    @settings(max_examples=8, deadline=None, database=None)
    @given(st.lists(windows, min_size=1, max_size=3))
    def check(several: list[Window]) -> None:
        expected = truth(path)
        with open_video(path) as video:
            assert len(video) == len(expected)
            for window in several:  # from one opening, forwards and backwards
                indices = window.of(len(expected))
                assert np.array_equal(video.read(indices), expected[indices]), window

    check()


@pytest.mark.parametrize("name", REAL)
def test_any_window_of_a_real_file(name, real_videos):
    path = real_videos / name

    @settings(max_examples=3, deadline=None, database=None)
    @given(windows)
    def check(window: Window) -> None:
        expected = truth(path)
        indices = window.of(len(expected))
        with open_video(path) as video:
            assert np.array_equal(video.read(indices), expected[indices]), window

    check()
    truth.cache_clear()
