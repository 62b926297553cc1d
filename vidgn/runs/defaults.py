"""The clip of a run: what the words say, and the model's own where they are silent."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from vidgn.data.spec import PICTURES
from vidgn.models.registry import MODELS, Clip


def fill_clip(config: DictConfig) -> None:
    """Set `clip_len`, `span` and `crop` where they are null to those the model was published with."""
    for word, value in own_clip(config.model)._asdict().items():
        if config[word] is None:
            config[word] = value


def check_task(config: DictConfig) -> None:
    """Check that the data set holds what the task looks at.

    Raises:
        ValueError: pictures for `task=video`, videos for `task=image`, or no such task.
    """
    task, data = config.task.name, config.data.name
    if task not in ("video", "image"):
        raise ValueError(f"task.name ({task}) is unknown; use task=video or task=image.")
    if (task == "image") != (data in PICTURES):
        holds, needed = ("pictures", "image") if data in PICTURES else ("videos", "video")
        others = "images or data=exposures" if task == "image" else "motions, folder or kinetics400"
        raise ValueError(
            f"data={data} holds {holds}, which task={task} does not take; use task={needed}, or data={others}."
        )


def own_clip(model: Mapping[str, Any]) -> Clip:
    """Return the published clip of the words `model.*`; an unknown name has the I3D's, and fails where it is built.

    >>> own_clip({"name": "x3d_s"})
    Clip(clip_len=13, span=78, crop=160)
    >>> own_clip({"name": "i3d", "depth": 50, "pool1": "pytorchvideo"}).clip_len
    8
    """
    i3d = "i3d_r50_8x8" if model.get("pool1") == MODELS["i3d_r50_8x8"].pool1 else "i3d_r50"
    return MODELS[model["name"] if model["name"] in MODELS else i3d].clip
