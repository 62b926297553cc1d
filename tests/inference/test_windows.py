import numpy as np
import pytest

from vidgn.data.clips import ClipSpec
from vidgn.data.synthetic.motions import write_video
from vidgn.data.video import open_video
from vidgn.inference.windows import read_windows, window_starts


@pytest.mark.parametrize(
    ("num_frames", "span", "stride", "starts"),
    [
        (64, 64, 64, [0]),
        (10, 64, 8, [0]),  # shorter than the span: one window, which loops
        (128, 64, 32, [0, 32, 64]),
        (130, 64, 32, [0, 32, 64, 66]),  # the last one ends with the video
    ],
)
def test_windows_begin_every_stride_and_reach_the_end(num_frames, span, stride, starts):
    assert window_starts(num_frames, span=span, stride=stride) == starts


def test_a_stride_below_one_is_refused():
    with pytest.raises(ValueError, match=r"--stride \(0\) must be at least 1 frame"):
        window_starts(100, span=64, stride=0)


@pytest.fixture
def ramp(tmp_path):
    """40 grey frames, frame i of value 6 i."""
    values = (6 * np.arange(40, dtype=np.uint8))[:, None, None, None]
    path = tmp_path / "ramp.mp4"
    write_video(path, np.broadcast_to(values, (40, 32, 48, 3)))
    return path


@pytest.mark.slow
def test_a_window_holds_the_frames_it_says(ramp):
    with open_video(ramp) as reader:
        found = list(read_windows(reader, clip=ClipSpec(4, 8), side=16, starts=[0, 4, 32]))
    assert [(window.start, window.end) for window in found] == [(0, 8), (4, 12), (32, 40)]
    for window, first in zip(found, (0, 4, 32), strict=True):
        assert window.clip.shape == (3, 4, 16, 16)
        means = window.clip.float().mean((0, 2, 3)).numpy()
        np.testing.assert_allclose(means, [6 * (first + k) for k in (0, 2, 4, 6)], atol=3)


@pytest.mark.slow
def test_a_short_video_loops_to_its_start(ramp):
    with open_video(ramp) as reader:
        (window,) = read_windows(reader, clip=ClipSpec(8, 64), side=16, starts=[0])
    assert (window.start, window.end) == (0, 40)
    means = window.clip.float().mean((0, 2, 3)).numpy()
    np.testing.assert_allclose(means, [6 * k for k in (0, 8, 16, 24, 32, 0, 8, 16)], atol=3)
