"""The loss where a video has several classes, or one of each head, and options that do not go with it."""

from typing import Any

from omegaconf import DictConfig

from vidgn.data.manifests.manifest import Manifest
from vidgn.losses import ClipLoss, HeadsLoss, LossSpec
from vidgn.runs.command_line import is_typed
from vidgn.targets import Targets

_REFUSED = {"many": ("balanced", "distill.ckpt"), "heads": ("balanced", "distill.ckpt", "class_weights")}


def choose_loss(config: DictConfig, targets: Targets) -> None:
    """Set the loss to `bce` where a video has several classes, and refuse options that need one class per video.

    Raises:
        ValueError: such an option is given, or another loss is typed.
    """
    if targets.kind == "one":
        return
    reason = (
        f"data.label_separator={targets.separator!r} gives a video several classes"
        if targets.kind == "many"
        else f"data.columns.label has {len(targets.heads)} heads ({', '.join(name for name, _ in targets.heads)})"
    )
    for name in _REFUSED[targets.kind]:
        value = _value(config, name)
        if value:
            raise ValueError(f"{name} ({value}) needs one class per video, but {reason}; leave {name} out.")
    if targets.kind == "many" and config.loss != "bce":
        if is_typed("loss"):
            raise ValueError(
                f"loss ({config.loss}) needs one class per video, but {reason}; use loss=bce, the default."
            )
        config.loss = "bce"


def build_loss(spec: LossSpec, train: Manifest) -> ClipLoss | HeadsLoss:
    """Return the loss of training, its class weights counted in the training videos."""
    if train.targets.kind == "heads":
        return HeadsLoss(spec, heads=train.targets.slices)
    return ClipLoss(spec, weights=spec.weights(train.class_counts()))


def _value(config: DictConfig, name: str) -> Any:
    group, _, key = name.rpartition(".")
    return (config[group] if group else config)[key]
