"""The stages of a net by name, and leaving some of them as they are."""

from collections.abc import Sequence

from torch import nn

from vidgn.models.net import VideoNet

NAMES = ("stem", "res2", "res3", "res4", "res5", "head")


def stages(net: VideoNet) -> dict[str, nn.Module]:
    """Return the parts that learn, from the stem to the head; a VGG's five stages have the same names.

    A net that ends with res4 has no res5.

    Raises:
        ValueError: the net has another number of stages.
    """
    parts = [block for block in net.blocks if any(True for _ in block.parameters())]
    if len(parts) == len(NAMES) - 1:
        return dict(zip([name for name in NAMES if name != "res5"], parts, strict=True))
    if len(parts) != len(NAMES):
        raise ValueError(f"a net of {len(parts)} stages has no names for them; known are {', '.join(NAMES)}.")
    return dict(zip(NAMES, parts, strict=True))


def frozen_names(freeze: Sequence[str], train_only: str | None) -> tuple[str, ...]:
    """Return the stages that are not trained, by the options `freeze` and `train_only`.

    Raises:
        ValueError: both are given, a stage is unknown, or nothing is left to train.

    >>> frozen_names(["stem", "res2"], None)
    ('stem', 'res2')
    >>> frozen_names([], "head")
    ('stem', 'res2', 'res3', 'res4', 'res5')
    """
    if freeze and train_only is not None:
        raise ValueError(f"freeze ({list(freeze)}) and train_only ({train_only}) are both given; leave one out.")
    for option, names in (("freeze", freeze), ("train_only", [] if train_only is None else [train_only])):
        for name in names:
            if name not in NAMES:
                raise ValueError(f"{option} ({name}) must be one of {', '.join(NAMES)}.")
    if train_only is not None:
        return tuple(name for name in NAMES if name != train_only)
    if set(freeze) == set(NAMES):
        raise ValueError("freeze names every stage, so nothing is left to train; leave one out.")
    return tuple(name for name in NAMES if name in freeze)


def freeze_stages(net: VideoNet, names: Sequence[str]) -> list[nn.Module]:
    """Make the parameters of stages constants; return the stages, which must stay in `eval` mode in training.

    In `eval` mode batch norm keeps its statistics, and nothing is dropped out.
    """
    parts = stages(net) if names else {}
    names = [name for name in names if name in parts]
    for name in names:
        parts[name].requires_grad_(False)
    return [parts[name] for name in names]
