"""Checkpoints that describe themselves: reading them, and nothing they hold is executed."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FORMAT = 1  # of the description under the key `vidgn`


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of ours.

    Attributes:
        path: the file.
        net: the network's tensors, without the prefix `net.`.
        describe: what the file says of itself: classes, model, norm, clip, crop, normalize, test, data,
            versions. Plain containers and primitives.
        step: optimizer steps done.
        epoch: epochs done.
    """

    path: Path
    net: Mapping[str, Tensor]
    describe: Mapping[str, Any]
    step: int
    epoch: int


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint that `train.py` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds more than tensors and plain values, or is not a checkpoint of ours.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"ckpt={path} {kind}; give a file such as runs/NAME/checkpoints/last.ckpt")
    if not zipfile.is_zipfile(path):
        size = path.stat().st_size
        raise ValueError(
            f"ckpt={path} ({size} bytes) is not a whole checkpoint: no zip directory at its end; it may be cut "
            "off, take another one"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as err:  # torch raises many kinds on damaged and on refused files
        raise ValueError(
            f"ckpt={path} cannot be read as tensors and plain values ({_first_line(err)}); it is damaged or not a "
            "checkpoint of vidgn"
        ) from err
    if not isinstance(state, dict) or not isinstance(state.get("vidgn"), dict):
        raise ValueError(
            f"ckpt={path} does not describe itself (no key 'vidgn'), so it is not a checkpoint of train.py; "
            "use such weights with train.py init=PATH"
        )
    describe = state["vidgn"]
    if describe.get("format") != FORMAT:
        raise ValueError(
            f"ckpt={path} has format {describe.get('format')!r}, this vidgn reads {FORMAT}; use the version that "
            f"wrote it ({describe.get('versions', {}).get('vidgn', 'unknown')})"
        )
    prefix = "net."
    net = {key[len(prefix) :]: value for key, value in state["state_dict"].items() if key.startswith(prefix)}
    return Checkpoint(path, net, describe, int(state.get("global_step", 0)), int(state.get("epoch", 0)))


def _first_line(err: Exception) -> str:
    lines = str(err).strip().splitlines()
    return f"{type(err).__name__}: {lines[0][:200] if lines else 'no message'}"
