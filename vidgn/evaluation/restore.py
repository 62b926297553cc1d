"""From a checkpoint to the classifier that it describes."""

from vidgn.checkpoint import Checkpoint
from vidgn.classifier import VideoClassifier
from vidgn.data.transforms import Normalize
from vidgn.models.registry import build_net
from vidgn.optim import OptimSpec


def restore(checkpoint: Checkpoint, *, view_batch: int = 8) -> VideoClassifier:
    """Build the classifier that a checkpoint describes, with its weights."""
    told = checkpoint.describe
    net = build_net(model=told["model"], norm=told["norm"], crop=told["crop"], num_classes=len(told["classes"]))
    net.load_state_dict(dict(checkpoint.net))
    return VideoClassifier(
        net,
        normalize=Normalize(**told["normalize"]),
        optim=OptimSpec(),
        classes=told["classes"],
        batch=1,
        view_batch=view_batch,
        describe=dict(told),
    )
