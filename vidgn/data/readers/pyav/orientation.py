"""Turn a decoded picture upright, as its display matrix asks."""

import numpy as np
from numpy.typing import NDArray

# Entries below this share of the largest are noise of fixed-point rotation, not an angle (about one degree).
_TOLERANCE = 1 / 50


def upright(image: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Apply one of the eight quarter turns and mirrorings to an image (H, W, 3).

    Args:
        image: As decoded.
        matrix: Nine numbers a b u, c d v, x y w in row order; a point goes to (a x + c y, b x + d y)
            (ISO/IEC 14496-12, 6.2.2; FFmpeg's libavutil/display.h). All zero means: no statement.

    Raises:
        ValueError: The matrix turns by another angle.
    """
    a, b, c, d = (float(matrix[k]) for k in (0, 1, 3, 4))
    noise = _TOLERANCE * max(abs(a), abs(b), abs(c), abs(d))
    turned = abs(a) <= noise and abs(d) <= noise
    if not turned and (abs(b) > noise or abs(c) > noise):
        angle = float(np.degrees(np.arctan2(b, a)))
        raise ValueError(f"the display matrix turns by {angle:.0f} degrees; only quarter turns are applied")
    if turned and noise:
        image, a, d = image.transpose(1, 0, 2), c, b
    image = image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(image)


def is_mirrored(matrix: NDArray[np.int32]) -> bool:
    """Tell whether the matrix (see `upright`) flips the picture, turned or not."""
    a, b, c, d = (float(matrix[k]) for k in (0, 1, 3, 4))
    return a * d - b * c < 0
