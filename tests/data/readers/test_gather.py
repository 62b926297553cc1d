import numpy as np
import pytest

from vidgn.data.readers.gather import distinct, gather_frames


def stills(indices):
    return ((index, np.full((2, 3, 3), index, dtype=np.uint8)) for index in indices)


def test_wanted_frames_are_sorted_and_named_once():
    assert distinct(np.array([5, 0, 5, 2]), num_frames=6, path="v.mp4") == [0, 2, 5]


@pytest.mark.parametrize("index", [-1, 6])
def test_a_frame_that_does_not_exist_is_refused(index):
    with pytest.raises(IndexError, match=rf"frame {index} of v\.mp4 does not exist; its frames are 0\.\.5\."):
        distinct([0, index], num_frames=6, path="v.mp4")


def test_frames_are_put_where_they_are_wanted():
    got = gather_frames(np.array([[4, 2, 4], [0, 2, 7]]), stills)
    assert got.shape == (2, 3, 2, 3, 3)
    assert got[..., 0, 0, 0].tolist() == [[4, 2, 4], [0, 2, 7]]


def test_no_indices_are_refused():
    with pytest.raises(ValueError, match=r"indices of shape \(0, 4\) name no frame"):
        gather_frames(np.zeros((0, 4), dtype=np.int64), stills)


def test_fractional_indices_are_refused():
    with pytest.raises(TypeError, match=r"indices \(float64\) must be integers"):
        gather_frames(np.array([0.5]), stills)
