"""How a picture of the embedded data sets is drawn: light textured shapes in a layer over a dark background.

The layer repeats itself without end in all directions; a pose puts it over the background: a shift, an angle and a
scale.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SCALES = (0.6, 1.5)  # one repeat of the layer in frame sides, smallest and largest
_LAYER = 128  # pixels of one repeat of the layer; a power of two, so that wrapping is a mask


class Trajectory(NamedTuple):
    """Pose of the layer in every frame, shape (F,) each."""

    x: NDArray[np.float64]  # shift to the right, in frame sides
    y: NDArray[np.float64]  # shift down, in frame sides
    angle: NDArray[np.float64]  # radians, clockwise on the screen
    scale: NDArray[np.float64]  # one repeat of the layer, in frame sides


class Look(NamedTuple):
    """What a picture is made of."""

    background: NDArray[np.uint8]  # (side, side, 3)
    colour: NDArray[np.uint8]  # (_LAYER * _LAYER, 3), one repeat of the layer
    cover: NDArray[np.bool_]  # (_LAYER * _LAYER,), where the layer has a shape


def draw_look(rng: np.random.Generator, side: int) -> Look:
    """Draw the pixels of background and layer."""
    background = _texture(rng, int(rng.integers(2, 6)), side, darkest=0, brightest=80)
    colour = np.zeros((_LAYER, _LAYER, 3), np.uint8)
    cover = np.zeros((_LAYER, _LAYER), np.bool_)
    grid = np.arange(_LAYER, dtype=np.float32) / _LAYER
    for _ in range(rng.integers(4, 7)):
        shape, size, angle = int(rng.integers(4)), rng.uniform(0.14, 0.22), rng.uniform(0, 2 * np.pi)
        dx, dy = (((grid - np.float32(at) + 0.5) % 1 - 0.5) / np.float32(size) for at in rng.random(2))
        u, v = _turned(dx, dy, np.cos(angle), np.sin(angle))
        inside = _inside(shape, u, v) > 0
        texture = _texture(rng, int(rng.integers(3, 9)), _LAYER, darkest=100, brightest=255)
        colour[inside] = texture[inside]
        cover |= inside
    return Look(background, colour.reshape(-1, 3), cover.reshape(-1))


def render(look: Look, trajectory: Trajectory, side: int) -> NDArray[np.uint8]:
    """Lay the moving layer over the background, (F, side, side, 3)."""
    grid = ((np.arange(side, dtype=np.float32) + 0.5) / side - 0.5).astype(np.float32)
    out = np.empty((len(trajectory.x), side, side, 3), np.uint8)
    for frame, (x, y, angle, scale) in zip(out, zip(*trajectory, strict=True), strict=True):
        # Screen to layer: undo the shift, then the turn, then the scale; the layer's own period is 1.
        u, v = _turned(grid - np.float32(x), grid - np.float32(y), np.cos(angle) / scale, np.sin(angle) / scale)
        column, row = (np.floor(at * _LAYER).astype(np.int32) & (_LAYER - 1) for at in (u, v))
        index = row * _LAYER + column  # (side, side)
        shown = look.cover[index]
        frame[:] = look.background
        frame[shown] = look.colour[index[shown]]
    return out


def _texture(rng: np.random.Generator, cells: int, size: int, *, darkest: int, brightest: int) -> NDArray[np.uint8]:
    """Draw a smooth random field between two random colours, (size, size, 3)."""
    grid = rng.random((cells + 1, cells + 1))
    at = np.linspace(0, cells - 1e-6, size)
    low, part = at.astype(int), at % 1
    rows = grid[low] * (1 - part)[:, None] + grid[low + 1] * part[:, None]
    field = np.clip((rows[:, low] * (1 - part) + rows[:, low + 1] * part - 0.5) * 2 + 0.5, 0, 1)
    one, other = rng.uniform(darkest, brightest, (2, 3))
    return np.asarray(one + (other - one) * field[..., None], np.uint8)


def _turned(
    dx: NDArray[np.floating], dy: NDArray[np.floating], cos: float, sin: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the coordinates of the points (dx, dy) of a grid in a frame turned clockwise, each (dy, dx)."""
    c, s = np.float32(cos), np.float32(sin)
    u, v = c * dx[None] + s * dy[:, None], c * dy[:, None] - s * dx[None]
    return u.astype(np.float32, copy=False), v.astype(np.float32, copy=False)


def _inside(shape: int, u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a function of the place that is positive inside the shape of half-width 1."""
    inside: NDArray[np.float32]
    if shape == 0:  # disc
        inside = 1 - np.hypot(u, v)
    elif shape == 1:  # square
        inside = np.float32(0.85) - np.maximum(np.abs(u), np.abs(v))
    elif shape == 2:  # triangle
        inside = np.minimum(np.float32(0.6) - v, np.float32(0.5) * (v + 1) - np.float32(0.87) * np.abs(u))
    else:  # diamond
        inside = 1 - np.abs(u) - np.abs(v) * np.float32(0.7)
    return inside
