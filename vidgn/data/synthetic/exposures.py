"""The embedded pictures: long exposures of the world of `motions`, named by how the layer moved meanwhile.

A picture is the mean of frames drawn by the code that draws a video, so that everything that moves is blurred along
its way. The blur has an axis and no direction: which of two opposite motions it was, a picture cannot tell.

    class         while the shutter was open, the layer
    ------------  -------------------------------------
    still         stood
    horizontally  slid to the left or to the right
    vertically    slid up or down
    turned        turned about a point, either way
    zoomed        grew or shrank

They are a preparation for videos since an inflated kernel is the same in all of its frames: the mean over frames is
what an inflated net sees of a clip before it learns more. The class with everything else the same, a still picture of
one of four shapes, does not prepare: at these sizes a net hardly learns it (benchmarks/image_to_video.md).
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidgn.data.synthetic.drawing import Trajectory, draw_look, render
from vidgn.data.synthetic.motions import cache_name, check_counts, draw_trajectory, locked

_WAYS = {
    "horizontally": ("move_left", "move_right"),
    "still": ("move_left",),  # of which one frame is taken
    "turned": ("rotate_clockwise", "rotate_counterclockwise"),
    "vertically": ("move_down", "move_up"),
    "zoomed": ("zoom_in", "zoom_out"),
}
CLASSES = tuple(_WAYS)
_EXPOSURES = (16, 32)  # frames; a kernel of 5 frames at a stride of 4 spans 17
_EVERY = 2  # frames between two that are averaged
_STREAM = 0x657870  # keeps these draws apart from those of motions ("exp" in ASCII)


@dataclass(frozen=True)
class ExposuresSpec:
    """What decides the pixels of the data set; a change of any value makes another cache folder.

    Attributes:
        train: pictures per class to learn from.
        val: pictures per class for the error during training.
        test: pictures per class for the final test.
        side: height and width in pixels.
        seed: of all random draws.
    """

    train: int = 400
    val: int = 40
    test: int = 40
    side: int = 80
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts("exposures", asdict(self))

    @property
    def folder_name(self) -> str:
        """Name of the cache folder of exactly this data set."""
        return cache_name("exposures1", asdict(self))


def prepare_exposures(
    cache: str | Path, *, spec: ExposuresSpec, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write the data set under `cache` unless it is there, and return its folder, `SPLIT/CLASS/NUMBER.png`.

    The folder appears under its name only when it is whole; two runs at once wait for each other.

    Args:
        cache: folder that holds data sets; made if missing.
        spec: the data set.
        progress: called with (pictures done, pictures in all).
    """
    cache = Path(cache).expanduser()
    folder = cache / spec.folder_name
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / f"{spec.folder_name}.lock"):
        if not folder.is_dir():
            _write_all(folder, spec, progress)
    return folder


def draw_picture(label: str, *, spec: ExposuresSpec, key: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw one picture.

    Args:
        label: one of CLASSES.
        spec: the data set.
        key: (split, number of the picture): the draws are a pure function of (spec.seed, key).

    Returns:
        (side, side, 3) uint8 RGB.

    Raises:
        ValueError: there is no such class.
    """
    if label not in CLASSES:
        raise ValueError(f"label ({label!r}) must be one of {', '.join(CLASSES)}.")
    rng = np.random.Generator(np.random.Philox(key=[spec.seed, _STREAM], counter=[0, key[0], key[1], 0]))
    look = draw_look(rng, spec.side)
    exposure = int(rng.integers(*_EXPOSURES))
    trajectory = draw_trajectory(rng, str(rng.choice(_WAYS[label])), exposure)
    shown = slice(0, 1) if label == "still" else slice(0, exposure, _EVERY)
    frames = render(look, Trajectory(*(pose[shown] for pose in trajectory)), spec.side)
    return np.asarray(frames.mean(0).round(), np.uint8)


def _write_all(folder: Path, spec: ExposuresSpec, progress: Callable[[int, int], None] | None) -> None:
    from PIL import Image

    part = folder.with_name(folder.name + ".part")
    splits = (("train", spec.train), ("val", spec.val), ("test", spec.test))
    done, total = 0, len(CLASSES) * sum(count for _, count in splits)
    for split_id, (split, count) in enumerate(splits):
        for class_id, label in enumerate(CLASSES):
            (part / split / label).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                picture = draw_picture(label, spec=spec, key=(split_id, class_id * count + number))
                Image.fromarray(picture).save(part / split / label / f"{number:04d}.png", compress_level=1)
                done += 1
                if progress is not None:
                    progress(done, total)
    (part / "spec.json").write_text(json.dumps(asdict(spec), indent=1) + "\n")
    os.replace(part, folder)
