"""Weights that come with the package: `init=motions`, `--ckpt motions`, `create_model(..., weights="motions")`.

    weights/motions.ckpt           an ordinary checkpoint, its tensors in float16
    weights/motions.ckpt.sha256    its sum, checked each time it is read
    weights/motions.json           its card: command, seed, versions, accuracy of this very file

`python -m experiments.ship RUN` makes the three from a run of the main job, `vidgn train`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

SHIPPED = ("motions",)
_FOLDER = Path(__file__).parents[1] / "weights"


def shipped_checkpoint(name: str) -> Path:
    """Return the file of weights that come with the package.

    Raises:
        ValueError: there are none of this name, or the file is damaged.

    >>> shipped_checkpoint("motions").name
    'motions.ckpt'
    """
    if name not in SHIPPED:
        raise ValueError(f"weights={name} do not come with the package; use one of {', '.join(SHIPPED)}.")
    path = _FOLDER / f"{name}.ckpt"
    wanted = path.with_name(f"{path.name}.sha256").read_text("utf-8").split()[0]
    if hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
        raise ValueError(f"{path} is damaged: its SHA-256 is not {wanted[:12]}...; install vidgn again.")
    return path


def shipped_card(name: str) -> dict[str, Any]:
    """Return how weights of the package were made and what they reach.

    >>> shipped_card("motions")["seed"]
    0
    """
    card: dict[str, Any] = json.loads(shipped_checkpoint(name).with_suffix(".json").read_text("utf-8"))
    return card
