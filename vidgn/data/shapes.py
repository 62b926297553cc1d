"""The embedded pictures: still frames of the world of `motions`, named by the shape that is in them.

A picture is drawn by the code that draws a frame of a video: light textured shapes over a dark textured background,
at a place, an angle and a scale that say nothing. All shapes of a picture are of one kind, which is its class, so the
four classes ask for edges and corners: what a net needs to see a motion, too, once it looks at more than one frame.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidgn.data.drawing import SHAPES, draw_frame
from vidgn.data.motions import locked

CLASSES = tuple(sorted(SHAPES))
_STREAM = 0x736870  # keeps these draws apart from those of motions ("shp" in ASCII)


@dataclass(frozen=True)
class ShapesSpec:
    """What decides the pixels of the data set; a change of any value makes another cache folder.

    Attributes:
        train: pictures per class to learn from.
        val: pictures per class for the error during training.
        test: pictures per class for the final test.
        side: height and width in pixels.
        seed: of all random draws.
    """

    train: int = 240
    val: int = 40
    test: int = 40
    side: int = 80
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < (0 if name == "seed" else 1):
                raise ValueError(f"shapes: {name} ({value}) must be at least 1; leave it out for the default.")

    @property
    def folder_name(self) -> str:
        """Name of the cache folder of exactly this data set."""
        return "shapes1-" + "-".join(f"{name[:2]}{value}" for name, value in asdict(self).items())


def prepare_shapes(cache: str | Path, *, spec: ShapesSpec, progress: Callable[[int, int], None] | None = None) -> Path:
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


def draw_picture(label: str, *, spec: ShapesSpec, key: tuple[int, int]) -> NDArray[np.uint8]:
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
    return draw_frame(rng, shape=label, side=spec.side)


def _write_all(folder: Path, spec: ShapesSpec, progress: Callable[[int, int], None] | None) -> None:
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
