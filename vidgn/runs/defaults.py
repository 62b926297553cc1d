"""What follows from the model and the start of a run: clip, shape of the net, standardized kernels, the rate."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vidgn.checkpoints.description import Description
from vidgn.data.spec import PICTURES
from vidgn.models.registry import MODELS, Clip
from vidgn.runs.config import RunConfig

_DEPTHS = {"c2d_r50": 50, "c2d_r101": 101}
_INFLATED = {  # of a 2-D depth; tsn_r50 and tsm_r50 take the kernels as they are
    "i3d_r50": (50, 101), "i3d_r101": (50, 101), "i3d_r50_8x8": (50,), "slow_r50": (50,), "tsn_r50": (50,),
    "tsm_r50": (50,),
}  # fmt: skip


def fill_clip(config: RunConfig) -> RunConfig:
    """Set `clip_len`, `span` and `crop` where they are null to those the model was published with."""
    own = own_clip(config.model.name)._asdict()
    return replace(config, **{name: value for name, value in own.items() if getattr(config, name) is None})


def fill_standardization(config: RunConfig) -> RunConfig:
    """Decide `model.weight_standardization=auto` and `optim.lr=null`.

    Kernels are standardized where group norm starts from random weights: there it is as good as batch norm is at
    large batches, and takes twice the rate (docs/norms.md). Weights to start from keep the net they were made for.
    """
    model = config.model
    if model.weight_standardization == "auto":
        model = replace(model, weight_standardization=config.norm.name == "gn" and config.init is None)
    optim = config.optim
    if optim.lr is None:
        optim = replace(optim, lr=SCRATCH_RATES[bool(model.weight_standardization)])
    return replace(config, model=model, optim=optim)


SCRATCH_RATES = {False: 0.24, True: 0.48}  # at 64 clips per step, by whether kernels are standardized


def check_task(task: str, data: str) -> None:
    """Check that the data set holds what the task looks at.

    Raises:
        ValueError: pictures for `task=video`, videos for `task=image`, or no such task.
    """
    if task not in ("video", "image"):
        raise ValueError(f"task.name ({task}) is unknown; use task=video or task=image.")
    if (task == "image") != (data in PICTURES):
        holds, needed = ("pictures", "image") if data in PICTURES else ("videos", "video")
        others = "images or data=exposures" if task == "image" else "motions, folder or kinetics400"
        raise ValueError(
            f"data={data} holds {holds}, which task={task} does not take; use task={needed}, or data={others}."
        )


def own_clip(model: str) -> Clip:
    """Return the published clip of a model; an unknown one has the I3D's, and fails where it is built.

    >>> own_clip("x3d_s")
    Clip(clip_len=13, span=78, crop=160)
    """
    return MODELS[model if model in MODELS else "i3d_r50"].clip


def shape_from(description: Description, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options `model.*` that a net must have to start from a checkpoint, `dropout` left out.

    Of videos they are the checkpoint's own. A ResNet of pictures is inflated: the net keeps its kind and takes the
    depth and the width.

    Args:
        description: of the checkpoint.
        model: the options of the net that is to be trained.

    Raises:
        ValueError: the net is not what the checkpoint of pictures becomes.
    """
    theirs = {key: value for key, value in description.model.items() if key != "dropout"}
    theirs.setdefault("weight_standardization", False)
    name, wanted = theirs["name"], model["name"]
    if not description.is_of_images or name == wanted:
        return theirs
    if name not in _DEPTHS or _DEPTHS[name] not in _INFLATED.get(wanted, ()):
        takers = {
            "c2d_r50": "i3d_r50, i3d_r50_8x8, slow_r50, tsn_r50, tsm_r50 or c2d_r50",
            "c2d_r101": "i3d_r101 or c2d_r101",
        }
        raise ValueError(
            f"model={wanted} cannot start from init=, a {name} of pictures; use model={takers.get(name, name)}."
        )
    kept = {key: value for key, value in model.items() if key != "dropout"}
    same_depth = {"name": f"i3d_r{_DEPTHS[name]}"} if wanted in ("i3d_r50", "i3d_r101") else {}
    return {**kept, **same_depth, **{key: theirs[key] for key in ("width", "weight_standardization")}}
