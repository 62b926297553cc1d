import numpy as np
import pytest

from vidgn.data.readers.pyav.orientation import is_mirrored, upright

# A picture of two rows and three columns; the letters name its corners and edges.
IMAGE = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)[:, :, None].repeat(3, axis=2)
ONE = 1 << 16  # 16.16 fixed point


def matrix(a, b, c, d):
    return np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], dtype=np.int32)


# A point (x, y), y downwards, goes to (a x + c y, b x + d y).
ORIENTATIONS = {
    "as stored": ((1, 0, 0, 1), [[1, 2, 3], [4, 5, 6]]),
    "turned by 180": ((-1, 0, 0, -1), [[6, 5, 4], [3, 2, 1]]),
    "turned clockwise": ((0, 1, -1, 0), [[4, 1], [5, 2], [6, 3]]),
    "turned counter-clockwise": ((0, -1, 1, 0), [[3, 6], [2, 5], [1, 4]]),
    "mirrored left to right": ((-1, 0, 0, 1), [[3, 2, 1], [6, 5, 4]]),
    "mirrored top to bottom": ((1, 0, 0, -1), [[4, 5, 6], [1, 2, 3]]),
    "transposed": ((0, 1, 1, 0), [[1, 4], [2, 5], [3, 6]]),
    "transposed along the other diagonal": ((0, -1, -1, 0), [[6, 3], [5, 2], [4, 1]]),
    "not stated": ((0, 0, 0, 0), [[1, 2, 3], [4, 5, 6]]),
}


@pytest.mark.parametrize(("numbers", "shown"), ORIENTATIONS.values(), ids=ORIENTATIONS.keys())
def test_a_picture_is_turned_as_its_matrix_says(numbers, shown):
    turned = upright(IMAGE, matrix(*(ONE * n for n in numbers)))
    assert turned[:, :, 0].tolist() == shown
    assert turned.flags.c_contiguous


def test_noise_of_fixed_point_numbers_is_no_angle():
    assert upright(IMAGE, matrix(12, ONE, -ONE, 12))[:, :, 0].tolist() == [[4, 1], [5, 2], [6, 3]]


def test_another_angle_is_refused():
    with pytest.raises(ValueError, match="turns by 45 degrees; only quarter turns are applied"):
        upright(IMAGE, matrix(46341, 46341, -46341, 46341))


@pytest.mark.parametrize(("name", "mirrored"), [(n, "mirrored" in n or "transposed" in n) for n in ORIENTATIONS])
def test_a_mirrored_picture_is_known(name, mirrored):
    assert is_mirrored(matrix(*(ONE * n for n in ORIENTATIONS[name][0]))) is mirrored
