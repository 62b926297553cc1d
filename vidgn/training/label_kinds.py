"""The loss where a video has several classes, or one of each head, and options that do not go with it."""

from dataclasses import replace

from vidgn.data.manifests.manifest import Manifest
from vidgn.objective.losses import ClipLoss, HeadsLoss, LossSpec
from vidgn.objective.targets import Targets
from vidgn.runs.config import RunConfig


def choose_loss(config: RunConfig, targets: Targets) -> RunConfig:
    """Set the loss to `bce` where a video has several classes, and refuse options that need one class per video.

    Raises:
        ValueError: such an option is given, or another loss is typed.
    """
    if targets.kind == "one":
        return config
    reason = (
        f"data.label_separator={targets.separator!r} gives a video several classes"
        if targets.kind == "many"
        else f"data.columns.label has {len(targets.heads)} heads ({', '.join(name for name, _ in targets.heads)})"
    )
    refused: dict[str, object] = {"balanced": config.balanced, "distill.ckpt": config.distill.ckpt}
    if targets.kind == "heads":
        refused["class_weights"] = config.class_weights
    for name, value in refused.items():
        if value:
            raise ValueError(f"{name} ({value}) needs one class per video, but {reason}; leave {name} out.")
    if targets.kind != "many" or config.loss == "bce":
        return config
    if config.is_typed("loss"):
        raise ValueError(f"loss ({config.loss}) needs one class per video, but {reason}; use loss=bce, the default.")
    return replace(config, loss="bce")


def build_loss(spec: LossSpec, train: Manifest) -> ClipLoss | HeadsLoss:
    """Return the loss of training, its class weights counted in the training videos."""
    if train.targets.kind == "heads":
        return HeadsLoss(spec, heads=train.targets.slices)
    return ClipLoss(spec, weights=spec.weights(train.class_counts()))
