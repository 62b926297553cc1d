"""The shape of a net that starts from a checkpoint of ours: the same, or of pictures the net that inflates them."""

from collections.abc import Mapping
from typing import Any

from vidgn.description import Description

_DEPTHS = {"c2d_r50": 50, "c2d_r101": 101}
_INFLATED = {"i3d": (50, 101), "slow_r50": (50,)}  # networks whose 2-D form c2d is, and their depths


def shape_from(description: Description, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the words `model.*` that a net must have to start from a checkpoint, `dropout` left out.

    Of videos they are the checkpoint's own. A ResNet of pictures is inflated: the net keeps its kind and takes the
    depth and the width.

    Args:
        description: of the checkpoint.
        model: the words of the net that is to be trained.

    Raises:
        ValueError: the net is not what the checkpoint of pictures becomes.
    """
    theirs = {key: value for key, value in description.model.items() if key != "dropout"}
    name, wanted = theirs["name"], model["name"]
    if not description.is_of_images or name == wanted:
        return theirs
    if name not in _DEPTHS or _DEPTHS[name] not in _INFLATED.get(wanted, ()):
        takers = {"c2d_r50": "i3d_r50, i3d_r50_8x8, slow_r50 or c2d_r50", "c2d_r101": "i3d_r101 or c2d_r101"}
        raise ValueError(
            f"model={wanted} cannot start from init=, a {name} of pictures; use model={takers.get(name, name)}."
        )
    kept = {key: value for key, value in model.items() if key != "dropout"}
    depth = {"depth": _DEPTHS[name]} if wanted == "i3d" else {}
    return {**kept, **depth, "width": theirs["width"]}
