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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidgn.data.faults.pools import process_pool
from vidgn.data.synthetic.drawing import SCALES, Trajectory, draw_look, render
from vidgn.files.outputs import replacing

_TICK = Fraction(1, 90_000)  # seconds
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
        check_counts("motions", asdict(self))
        if self.side % 2:
            raise ValueError(f"motions: side ({self.side}) must be even for 4:2:0 video; use {self.side + 1}")

    @property
    def folder_name(self) -> str:
        """Name of the cache folder of exactly this data set."""
        return cache_name("motions1", asdict(self))


def check_counts(data: str, sizes: Mapping[str, int]) -> None:
    """Check the numbers of a data set that is drawn.

    Raises:
        ValueError: one is below 1, or the seed below 0.
    """
    for name, value in sizes.items():
        if value < (0 if name == "seed" else 1):
            raise ValueError(f"{data}: {name} ({value}) must be at least 1; leave it out for the default")


def cache_name(data: str, sizes: Mapping[str, int]) -> str:
    """Return the name of the folder of a data set that is drawn, which no other numbers have."""
    return f"{data}-" + "-".join(f"{name[:2]}{value}" for name, value in sizes.items())


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
    with locked(cache / f"{spec.folder_name}.lock"):
        if not folder.is_dir():
            _write_all(folder, spec, num_workers or len(os.sched_getaffinity(0)), progress)
    return folder


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
    look = draw_look(rng, spec.side)
    trajectory = draw_trajectory(rng, label, spec.num_frames)
    return render(look, trajectory, spec.side)


def render_trajectory(rng: np.random.Generator, trajectory: Trajectory, *, side: int) -> NDArray[np.uint8]:
    """Draw shapes and a background and move the shapes along, for motions other than those of CLASSES.

    Returns:
        (F, side, side, 3) uint8 RGB.
    """
    return render(draw_look(rng, side), trajectory, side)


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
    low, high = SCALES
    return Trajectory(x, y, 2 * np.pi * angle, low * (high / low) ** level)


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
    with process_pool(min(num_workers, len(todo) or 1)) as pool:
        for done, _ in enumerate(pool.map(_write_video, todo, chunksize=8), len(jobs) - len(todo) + 1):
            if progress is not None:
                progress(done, len(jobs))
    (part / "spec.json").write_text(json.dumps(asdict(spec), indent=1) + "\n")
    os.replace(part, folder)


def _write_video(job: tuple[Path, str, MotionsSpec, tuple[int, int]]) -> None:
    path, label, spec, key = job
    write_video(path, draw_video(label, spec=spec, key=key))


def write_video(
    path: str | Path, frames: NDArray[np.uint8], *, fps: int = 25, seconds: NDArray[np.float64] | None = None
) -> None:
    """Write (F, H, W, 3) uint8 RGB frames to an H.264 mp4 that appears under its name only when whole.

    Args:
        path: Of the file.
        frames: Asked for their shape and for one after the other.
        fps: Frames per second, if `seconds` are not given.
        seconds: When each frame is shown, and when the last one ends, ascending (F + 1,).
    """
    import av

    with replacing(path) as part, av.open(str(part), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # Quick to write and to read: one thread, no B-frames, a keyframe every 16 frames.
        stream.options = {"preset": "ultrafast", "crf": "22", "g": "16", "threads": "1"}
        ticks = None if seconds is None else np.round((seconds - seconds[0]) / float(_TICK)).astype(np.int64)
        if ticks is not None:
            stream.codec_context.time_base = stream.time_base = _TICK
            lengths = np.diff(ticks)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if ticks is not None:
                frame.pts, frame.time_base, frame.duration = int(ticks[number]), _TICK, int(lengths[number])
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock that dies with the process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_motions(cache: str | Path, *, spec: MotionsSpec) -> None:
    """Delete the data set of `spec` from `cache`, whole or half-made."""
    for name in (spec.folder_name, spec.folder_name + ".part"):
        shutil.rmtree(Path(cache).expanduser() / name, ignore_errors=True)
