"""Two made sets of different kinds, on which the default of `data=folder` is checked: persons who act, and a yard.

figures   stick figures of nine persons, six actions, one clip of 40 frames each, as in Weizmann: persons 1 to 5 are for
          training, 6 for validation, 7 to 9 for the test. A person has its own colour, size, build and ground.
yard      a fixed camera over one of four yards, 250 frames: `event` is something small that crosses, for a third of
          the video at most; `nothing` is not. In both, light flickers, a bush moves, and the sensor has noise. The
          yards are the same in training and test.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.videos import write_missing

ACTIONS = ("bend", "jack", "jump", "run", "walk", "wave")
PERSONS = {"train": range(1, 6), "val": range(6, 7), "test": range(7, 10)}
EVENTS = ("event", "nothing")
DAYS = {"train": 8, "val": 2, "test": 8}  # videos of a class
YARDS = 4
_HEIGHT, _WIDTH = 96, 128  # pixels
_FRAMES, _LONG = 40, 250
_FPS = 25

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]


def draw_figures(root: Path, *, seed: int) -> Path:
    """Write ROOT/SPLIT/ACTION/pPERSON_ACTION.mp4 and return ROOT; files that are there stay."""
    for split, persons in PERSONS.items():
        for person in persons:
            for action in ACTIONS:
                file = root / split / action / f"p{person}_{action}.mp4"
                write_missing(file, partial(figure, action, key=(seed, person)))
    return root


def figure(action: str, *, key: tuple[int, ...]) -> Pixels:
    """Draw a clip (40, H, W, 3); the person of a key looks alike in all actions."""
    looks, draws = np.random.default_rng([0, *key]), np.random.default_rng([1, *key, ACTIONS.index(action)])
    ground = looks.integers(40, 200, 3) + looks.normal(0, 12, (_HEIGHT // 8, _WIDTH // 8, 1)).repeat(8, 0).repeat(8, 1)
    colour, size, thick = looks.integers(0, 256, 3), looks.uniform(0.75, 1.0), looks.uniform(1.8, 3.2)
    rate, phase, start = draws.uniform(0.85, 1.15), draws.uniform(), draws.uniform(0.25, 0.4)
    frames = np.empty((_FRAMES, _HEIGHT, _WIDTH, 3), np.uint8)
    for number in range(_FRAMES):
        turn = rate * number / _FPS + phase  # in cycles of about a second
        at = start + (0.35 if action == "run" else 0.18) * number / _FRAMES * (action in ("run", "walk"))
        inside = _near(_limbs(action, turn, size=size * 70, hip=(_WIDTH * at, 0.62 * _HEIGHT)), within=thick)
        frame = np.where(inside[..., None], colour, ground) + draws.normal(0, 4, (_HEIGHT, _WIDTH, 1))
        frames[number] = np.clip(frame, 0, 255)
    return frames


def _limbs(action: str, turn: float, *, size: float, hip: tuple[float, float]) -> Iterator[tuple[Floats, Floats]]:
    """Give the two ends (x, y) of each limb and of the head, in pixels."""
    swing = np.sin(2 * np.pi * turn)
    up = (1 + swing) / 2  # 0 to 1
    lean = {"bend": 1.4 * up, "run": 0.3}.get(action, 0.0)
    legs = {"walk": (0.45 * swing, -0.45 * swing), "run": (0.9 * swing, -0.9 * swing), "jack": (0.6 * up, -0.6 * up)}
    arms = {
        "walk": (-0.4 * swing, 0.4 * swing), "run": (-1.0 * swing, 1.0 * swing), "jack": (2.8 * up, -2.8 * up),
        "wave": (2.5 + 0.5 * np.sin(4 * np.pi * turn), -0.1), "bend": (0.2, 0.1),
    }  # fmt: skip
    pelvis = np.array(hip) - [0.0, 0.2 * size * abs(swing) if action in ("jump", "jack") else 0.0]
    neck = pelvis + 0.38 * size * _down(np.pi - lean)
    yield pelvis, neck
    yield neck, neck + 0.14 * size * _down(np.pi - lean)
    for leg in legs.get(action, (0.08, -0.08)):
        yield pelvis, pelvis + 0.45 * size * _down(leg)
    for arm in arms.get(action, (0.15, -0.15)):
        yield neck, neck + 0.36 * size * _down(arm)


def _down(angle: float) -> Floats:
    """Return the direction that hangs down, turned by an angle in radians."""
    return np.array([np.sin(angle), np.cos(angle)])


def _near(limbs: Iterator[tuple[Floats, Floats]], *, within: float) -> NDArray[np.bool_]:
    """Return which pixels are at most so far from a limb, (H, W)."""
    pixels = np.stack(np.meshgrid(np.arange(_WIDTH), np.arange(_HEIGHT)), -1).astype(float)  # (H, W, xy)
    inside = np.zeros((_HEIGHT, _WIDTH), bool)
    for one, other in limbs:
        along = other - one
        share = np.clip(((pixels - one) @ along) / (along @ along), 0, 1)[..., None]
        inside |= np.linalg.norm(pixels - one - share * along, axis=-1) < within
    return inside


def draw_yards(root: Path, *, seed: int) -> Path:
    """Write ROOT/SPLIT/CLASS/camYARD_DAY.mp4 and return ROOT; files that are there stay."""
    for part, (split, count) in enumerate(DAYS.items()):
        for label, name in enumerate(EVENTS):
            for day in range(count):
                file = root / split / name / f"cam{day % YARDS + 1}_{split}{day // YARDS + 1}.mp4"
                key = (seed, part, label, day)
                write_missing(file, partial(yard, has_event=name == "event", place=(seed, day % YARDS), day=key))
    return root


def yard(*, has_event: bool, place: tuple[int, ...], day: tuple[int, ...]) -> Pixels:
    """Draw a video (250, H, W, 3); a place looks alike on all days."""
    site, draws = np.random.default_rng([2, *place]), np.random.default_rng([3, *day])
    ground = site.integers(60, 150, (_HEIGHT // 16, _WIDTH // 16, 3)).repeat(16, 0).repeat(16, 1).astype(float)
    bush = (site.integers(8, _HEIGHT - 24), site.integers(8, _WIDTH - 24))
    light = draws.uniform(0.8, 1.2) + np.cumsum(draws.normal(0, 0.004, _LONG))
    first, length = draws.integers(10, 150), draws.integers(50, 85)  # frames
    ends = draws.uniform([0.1, 0.1], [0.9, 0.9], (2, 2)) * [_HEIGHT, _WIDTH]
    ends[0, 1], ends[1, 1] = draws.permutation([0, _WIDTH - 1])  # from one side to the other
    colour, half = draws.integers(0, 256, 3), draws.integers(2, 5)
    frames = np.empty((_LONG, _HEIGHT, _WIDTH, 3), np.uint8)
    for number in range(_LONG):
        frame = ground * light[number]
        sway = round(2 * float(np.sin(number / 6 + draws.normal(0, 0.3))))
        frame[bush[0] : bush[0] + 16, bush[1] + sway : bush[1] + sway + 16] *= [0.5, 0.9, 0.5]
        share = (number - first) / length
        if has_event and 0 <= share <= 1:
            y, x = ((1 - share) * ends[0] + share * ends[1]).astype(int)
            frame[max(y - 2 * half, 0) : y + half, max(x - half, 0) : x + half] = colour
        frames[number] = np.clip(frame + draws.normal(0, 3, (_HEIGHT, _WIDTH, 1)), 0, 255)
    return frames
