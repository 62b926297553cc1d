"""From a checkpoint to the classifier that it describes."""

import torch
from torch import nn

from vidgn.checkpoints.checkpoint import Checkpoint
from vidgn.classifier import VideoClassifier
from vidgn.data.transforms import Normalize
from vidgn.models.registry import build_net
from vidgn.optim import OptimSpec


def restore(checkpoint: Checkpoint, *, view_batch: int = 8) -> VideoClassifier:
    """Build the classifier that a checkpoint describes, with its weights.

    The net is planned without memory first: one that does not have the sizes of the weights is never built.

    Raises:
        ValueError: the description gives no net, or a net of other sizes than the weights.
    """
    described = checkpoint.description
    with torch.device("meta"):
        _check_sizes(checkpoint, _described_net(checkpoint))
    net = _described_net(checkpoint)
    net.load_state_dict(dict(checkpoint.net))
    _check_range(checkpoint, net)
    return VideoClassifier(
        net,
        normalize=Normalize(mean=described.mean, std=described.std),
        optim=OptimSpec(),
        classes=described.classes,
        batch=1,
        view_batch=view_batch,
        description=described,
        targets=described.targets,
    )


def _described_net(checkpoint: Checkpoint) -> nn.Module:
    described = checkpoint.description
    try:
        return build_net(
            model=described.model, norm=described.norm, crop=described.crop, num_classes=len(described.classes)
        )
    except (ValueError, KeyError, TypeError, RuntimeError, OverflowError) as err:
        reason = f"{err.args[0]} is missing" if isinstance(err, KeyError) else str(err).partition("\n")[0][:300]
        raise ValueError(
            f"ckpt={checkpoint.path} describes a net that cannot be built ({reason}); take another checkpoint"
        ) from err


def _check_sizes(checkpoint: Checkpoint, planned: nn.Module) -> None:
    wanted = {name: tuple(value.shape) for name, value in planned.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in checkpoint.net.items()}
    for name, value in planned.state_dict().items():
        if name in checkpoint.net and checkpoint.net[name].is_floating_point() != value.is_floating_point():
            kind = str(checkpoint.net[name].dtype).removeprefix("torch.")
            raise ValueError(
                f"ckpt={checkpoint.path} has {kind} in {name[:100]}, where the net that it describes has numbers of "
                "another kind; take another checkpoint"
            )
    wrong = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"ckpt={checkpoint.path} describes another net than its weights are of: {len(wrong)} tensors differ, such "
            f"as {name[:100]} ({given.get(name, 'missing')}, described {wanted.get(name, 'missing')}); take another "
            "checkpoint"
        )


def _check_range(checkpoint: Checkpoint, net: nn.Module) -> None:
    """Refuse numbers of float64 that are infinite in the net's float32."""
    wide = {name for name, value in checkpoint.net.items() if value.dtype == torch.float64}
    for name, value in net.state_dict().items():
        if name in wide and not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"ckpt={checkpoint.path} has numbers in {name[:100]} beyond float32; take another checkpoint"
            )
