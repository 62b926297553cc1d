"""The embedded data set: procedural videos in which only motion tells the class.

Every video shows a layer of light textured shapes that moves, as a whole, over a dark textured background that
stands still. Shapes, colours, textures and background are drawn independently of the class. The layer repeats
itself without end in all directions, and in *every* class its place, its angle and the logarithm of its scale are
uniform over one range: a frame on its own has the same distribution whatever the label, and only how the pose
changes from frame to frame tells it.

    class       motion of the layer (speed, amplitude and phase are random)
    ----------  -----------------------------------------------------------
    move_*      slides in one direction
    rotate_*    turns about a point
    zoom_*      its scale follows a saw-tooth, growing (in) or shrinking (out)
    orbit_*     circles without turning itself
    shake_*     swings to and fro along one axis
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CLASSES = (
    "move_down",
    "move_left",
    "move_right",
    "move_up",
    "orbit_clockwise",
    "orbit_counterclockwise",
    "rotate_clockwise",
    "rotate_counterclockwise",
    "shake_horizontally",
    "shake_vertically",
    "zoom_in",
    "zoom_out",
)


_LAYER = 128  # pixels of one repeat of the moving layer; a power of two, so that wrapping is a mask
_SCALES = (0.6, 1.5)  # one repeat of the layer in frame sides, smallest and largest


@dataclass(frozen=True)
class MotionsSpec:
    """What decides the pixels of the data set; a change of any value makes another cache folder.

    Attributes:
        train: videos per class to learn from.
        val: videos per class for the error during training.
        test: videos per class for the final test.
        num_frames: frames per video, at 25 frames per second.
        side: height and width in pixels.
        seed: of all random draws.
    """

    train: int = 120
    val: int = 10
    test: int = 20
    num_frames: int = 80
    side: int = 80
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < (0 if name == "seed" else 1):
                raise ValueError(f"motions: {name} ({value}) must be at least 1; leave it out for the default")
        if self.side % 2:
            raise ValueError(f"motions: side ({self.side}) must be even for 4:2:0 video; use {self.side + 1}")

    @property
    def folder_name(self) -> str:
        """Name of the cache folder of exactly this data set."""
        return "motions1-" + "-".join(f"{name[:2]}{value}" for name, value in asdict(self).items())


def prepare_motions(
    cache: str | Path,
    *,
    spec: MotionsSpec,
    num_workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the data set under `cache` unless it is there, and return its folder.

    The folder has the layout `SPLIT/CLASS/NUMBER.mp4`. It appears under its name only when it is whole; an
    interrupted run leaves a `.part` folder that the next one continues. Two runs at once wait for each other.

    Args:
        cache: folder that holds data sets; made if missing.
        spec: the data set.
        num_workers: encoding processes; the number of usable cores if None.
        progress: called with (videos done, videos in all).
    """
    cache = Path(cache).expanduser()
    folder = cache / spec.folder_name
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{spec.folder_name}.lock"):
        if not folder.is_dir():
            _write_all(folder, spec, num_workers or len(os.sched_getaffinity(0)), progress)
    return folder


class Trajectory(NamedTuple):
    """Pose of the layer in every frame, shape (F,) each."""

    x: NDArray[np.float64]  # shift to the right, in frame sides
    y: NDArray[np.float64]  # shift down, in frame sides
    angle: NDArray[np.float64]  # radians, clockwise on the screen
    scale: NDArray[np.float64]  # one repeat of the layer, in frame sides


def draw_video(label: str, *, spec: MotionsSpec, key: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw one video.

    Args:
        label: one of CLASSES.
        spec: the data set.
        key: (split, number of the video): the draws are a pure function of (spec.seed, key).

    Returns:
        (F, side, side, 3) uint8 RGB.
    """
    if label not in CLASSES:
        raise ValueError(f"label ({label!r}) must be one of {', '.join(CLASSES)}")
    rng = np.random.Generator(np.random.Philox(key=[spec.seed, 0x6D6F74], counter=[0, key[0], key[1], 0]))
    look = _draw_look(rng, spec.side)
    trajectory = draw_trajectory(rng, label, spec.num_frames)
    return _render(look, trajectory, spec.side)


def render_trajectory(rng: np.random.Generator, trajectory: Trajectory, *, side: int) -> NDArray[np.uint8]:
    """Draw shapes and a background and move the shapes along, for motions other than those of CLASSES.

    Returns:
        (F, side, side, 3) uint8 RGB.
    """
    return _render(_draw_look(rng, side), trajectory, side)


class _Look(NamedTuple):
    background: NDArray[np.uint8]  # (side, side, 3)
    colour: NDArray[np.uint8]  # (_LAYER * _LAYER, 3), one repeat of the layer
    cover: NDArray[np.bool_]  # (_LAYER * _LAYER,), where the layer has a shape


def _draw_look(rng: np.random.Generator, side: int) -> _Look:
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
    return _Look(background, colour.reshape(-1, 3), cover.reshape(-1))


def _texture(rng: np.random.Generator, cells: int, size: int, *, darkest: int, brightest: int) -> NDArray[np.uint8]:
    """Draw a smooth random field between two random colours, (size, size, 3)."""
    grid = rng.random((cells + 1, cells + 1))
    at = np.linspace(0, cells - 1e-6, size)
    low, part = at.astype(int), at % 1
    rows = grid[low] * (1 - part)[:, None] + grid[low + 1] * part[:, None]
    field = np.clip((rows[:, low] * (1 - part) + rows[:, low + 1] * part - 0.5) * 2 + 0.5, 0, 1)
    one, other = rng.uniform(darkest, brightest, (2, 3))
    return np.asarray(one + (other - one) * field[..., None], np.uint8)


def draw_trajectory(rng: np.random.Generator, label: str, num_frames: int) -> Trajectory:
    """Draw the pose of the layer in every frame of a video of class `label`."""
    kind, _, way = label.partition("_")
    time = np.arange(num_frames) / 64
    x, y, angle, level, phase = (value + 0 * time for value in rng.random(5))
    sign = -1 if way in ("left", "up", "counterclockwise", "out") else 1
    if kind == "move":
        along = sign * rng.uniform(0.4, 0.9) * time  # frame sides per 64 frames
        x, y = (x + along, y) if way in ("left", "right") else (x, y + along)
    elif kind == "rotate":
        angle = angle + sign * rng.uniform(0.25, 0.6) * time  # turns per 64 frames
    elif kind == "zoom":
        level = (level + sign * rng.uniform(0.9, 1.8) * time) % 1  # saw-teeth per 64 frames
    elif kind == "orbit":
        turn = 2 * np.pi * (phase + sign * rng.uniform(0.8, 1.5) * time)
        radius = rng.uniform(0.1, 0.16)
        x, y = x + radius * np.cos(turn), y + radius * np.sin(turn)
    elif kind == "shake":
        swing = rng.uniform(0.1, 0.16) * np.sin(2 * np.pi * (phase + rng.uniform(0.9, 1.6) * time))
        x, y = (x + swing, y) if way == "horizontally" else (x, y + swing)
    low, high = _SCALES
    return Trajectory(x, y, 2 * np.pi * angle, low * (high / low) ** level)


def _render(look: _Look, trajectory: Trajectory, side: int) -> NDArray[np.uint8]:
    """Lay the moving layer over the background, (F, side, side, 3)."""
    grid = ((np.arange(side, dtype=np.float32) + 0.5) / side - 0.5).astype(np.float32)
    out = np.empty((len(trajectory.x), side, side, 3), np.uint8)
    for frame, (x, y, angle, scale) in zip(out, zip(*trajectory, strict=True), strict=True):
        # Screen to layer: undo the shift, then the turn, then the scale; the layer's own period is 1.
        u, v = _turned(grid - np.float32(x), grid - np.float32(y), np.cos(angle) / scale, np.sin(angle) / scale)
        column, row = (np.floor(at * _LAYER).astype(np.int32) & (_LAYER - 1) for at in (u, v))
        place = row * _LAYER + column  # (side, side)
        shown = look.cover[place]
        frame[:] = look.background
        frame[shown] = look.colour[place[shown]]
    return out


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


def _write_all(folder: Path, spec: MotionsSpec, num_workers: int, progress: Callable[[int, int], None] | None) -> None:
    part = folder.with_name(folder.name + ".part")
    jobs = [
        (part / split / label / f"{number:04d}.mp4", label, spec, (split_id, class_id * count + number))
        for split_id, (split, count) in enumerate((("train", spec.train), ("val", spec.val), ("test", spec.test)))
        for class_id, label in enumerate(CLASSES)
        for number in range(count)
    ]
    for parent in {job[0].parent for job in jobs}:
        parent.mkdir(parents=True, exist_ok=True)
    todo = [job for job in jobs if not job[0].exists()]
    with ProcessPoolExecutor(min(num_workers, len(todo) or 1), mp_context=get_context("spawn")) as pool:
        for done, _ in enumerate(pool.map(_write_video, todo, chunksize=8), len(jobs) - len(todo) + 1):
            if progress is not None:
                progress(done, len(jobs))
    (part / "spec.json").write_text(json.dumps(asdict(spec), indent=1) + "\n")
    os.replace(part, folder)


def _write_video(job: tuple[Path, str, MotionsSpec, tuple[int, int]]) -> None:
    path, label, spec, key = job
    write_video(path, draw_video(label, spec=spec, key=key))


def write_video(path: str | Path, frames: NDArray[np.uint8], *, fps: int = 25) -> None:
    """Write (F, H, W, 3) uint8 RGB frames to an H.264 mp4 that appears under its name only when whole."""
    import av

    path = Path(path)
    part = path.with_name(path.name + ".part")
    with av.open(str(part), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # Quick to write and to read: one thread, no B-frames, a keyframe every 16 frames.
        stream.options = {"preset": "ultrafast", "crf": "22", "g": "16", "threads": "1"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    os.replace(part, path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock that dies with the process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_motions(cache: str | Path, *, spec: MotionsSpec) -> None:
    """Delete the data set of `spec` from `cache`, whole or half-made."""
    for name in (spec.folder_name, spec.folder_name + ".part"):
        shutil.rmtree(Path(cache).expanduser() / name, ignore_errors=True)
