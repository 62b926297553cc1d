"""What the tests of inference share."""

import numpy as np
import pytest

from vidgn.data.synthetic.motions import write_video


@pytest.fixture
def video(tmp_path):
    """A video of noise, 60 frames at 25 frames per second."""
    path = tmp_path / "noise.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3), np.uint8))
    return path
