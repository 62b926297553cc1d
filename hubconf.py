"""Nets for torch.hub: `torch.hub.load("CLONE", "i3d_r50", source="local", norm="gn", num_classes=400)`.

Each takes normalized clips (N, 3, T, H, W) and gives logits (N, Q); `net.scores` gives probabilities.
"""

dependencies = ["torch", "torchvision", "pytorchvideo"]

from vidgn.models.net import VideoNet  # noqa: E402 - torch.hub reads `dependencies` first
from vidgn.models.registry import build_model  # noqa: E402
from vidgn.norms import make_norm  # noqa: E402


def i3d_r50(*, norm: str = "gn", num_classes: int = 400, weights: str | None = None) -> VideoNet:
    """Build the 32-frame I3D ResNet-50 of Table 8.

    Args:
        norm: a name of `vidgn.norms.NORMS`.
        num_classes: classes.
        weights: what to start from: torchvision, timm or a file; None: random.
    """
    return _build("i3d_r50", norm=norm, num_classes=num_classes, weights=weights)


def i3d_r101(*, norm: str = "gn", num_classes: int = 400, weights: str | None = None) -> VideoNet:
    """Build the I3D ResNet-101; arguments as for `i3d_r50`."""
    return _build("i3d_r101", norm=norm, num_classes=num_classes, weights=weights)


def _build(name: str, *, norm: str, num_classes: int, weights: str | None) -> VideoNet:
    net = build_model(name, num_classes=num_classes, norm=make_norm(norm))
    if weights is not None:
        from vidgn.models.weights.load import load_weights

        load_weights(net, weights)
    return net
