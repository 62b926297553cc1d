"""Image weights that are at hand: a file that the user names, one in the cache, or what torchvision has downloaded.

Weights of a ResNet-50 do not say where its stages halve the image. Their batch norms do: each stores the mean and the
variance of what it saw in training, which images give again only where the stride is where it was.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidgn.data.splits import cache_folder
from vidgn.data.transforms import Normalize
from vidgn.models.net import VideoNet
from vidgn.models.registry import build_net
from vidgn.models.weights.load import load_weights
from vidgn.models.weights.sources import Source, open_source
from vidgn.training.own_data.rule import ImageWeights

VARIABLE = "VIDGN_WEIGHTS"  # a file; none: no weights, whatever lies in the caches
_TORCHVISION = "resnet50-0676ba61.pth"  # of ResNet50_Weights.IMAGENET1K_V1, which init=torchvision downloads
HOW = (
    "image weights make a far better start: init=torchvision downloads those of a ResNet-50 once (98 MB, about 15 "
    f"seconds at 50 Mbit/s), or set {VARIABLE}=FILE"
)


def find_weights() -> str | None:
    """Return the value of `init` for image weights that are at hand, None where there are none.

    In turn: the file of $VIDGN_WEIGHTS, `weights/*.pth` in the cache folder (the first by name), and what
    `init=torchvision` downloaded earlier.

    Raises:
        FileNotFoundError: the file of $VIDGN_WEIGHTS does not exist.
    """
    given = os.environ.get(VARIABLE)
    if given == "none":
        return None
    if given:
        path = Path(given).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"{VARIABLE}={given} is not a file; give a ResNet-50's image weights, or none to do without."
            )
        return str(path.absolute())
    cached = sorted((cache_folder() / "weights").glob("*.pth"))
    if cached:
        return str(cached[0].absolute())
    downloaded = Path(torch.hub.get_dir()) / "checkpoints" / _TORCHVISION
    return "torchvision" if downloaded.is_file() else None


def describe_weights(init: str, frames: NDArray[np.uint8] | None) -> ImageWeights:
    """Return what a net must have for weights.

    Args:
        init: as `find_weights` gives it.
        frames: some frames of the user's videos, uint8 (N, H, W, 3), for the place of the stride; None: torchvision's.

    Raises:
        ValueError: they are not those of a ResNet-50 for images.
    """
    source = open_source(init, depth=50)
    stages = _stages(source)
    if not source.format.pictures or stages is None:
        raise ValueError(
            f"init={init} ({source.name}) are not weights of an image ResNet-50 from its stem to res4 at least; set "
            f"{VARIABLE} to such a file, or to none."
        )
    has_statistics = any(name.endswith("running_mean") for name in source.tensors)
    if not has_statistics:
        return ImageWeights(init, stages, False, "gn")
    moved = False
    if frames is not None:
        first, second = (_divergence(init, stages, frames, stride_1x1=stride) for stride in (True, False))
        moved = first < second
    return ImageWeights(init, stages, moved, "bn")


def statistics_divergence(net: VideoNet, clip: Tensor) -> float:
    """Return how far what the batch norms of a net see in a clip is from what they stored, 0 where it is the same.

    The mean over layers and channels of the Kullback-Leibler divergence of two normal distributions.

    Args:
        net: with batch norms, in `eval` mode.
        clip: normalized, (N, 3, T, H, W).
    """
    divergences: list[float] = []

    def compare(layer: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        mean, variance = (layer.get_buffer(name).double() for name in ("running_mean", "running_var"))
        seen = inputs[0].double()
        ratio = (seen.var((0, 2, 3, 4)) / variance.clamp_min(1e-12)).clamp(1e-6, 1e6)
        moved = (seen.mean((0, 2, 3, 4)) - mean).square() / variance.clamp_min(1e-12)
        divergences.append(float(0.5 * (ratio + moved - 1 - ratio.log()).mean()))

    layers = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm3d)]
    handles = [layer.register_forward_hook(compare) for layer in layers]
    try:
        with torch.no_grad():
            net.features(clip)
    finally:
        for handle in handles:
            handle.remove()
    return float(np.mean(divergences))


def _divergence(init: str, last: str, frames: NDArray[np.uint8], *, stride_1x1: bool) -> float:
    model = {"name": "frames_r50", "width": 64, "dropout": 0.0, "last": last, "stride_1x1": stride_1x1}
    net = build_net(model=model, norm={"name": "bn"}, crop=128, num_classes=1).eval()
    report = load_weights(net, init)
    mean, std = report.input_mean, report.input_std
    normalize = Normalize() if mean is None or std is None else Normalize(mean=mean, std=std)
    clip = torch.from_numpy(frames).permute(3, 0, 1, 2)[None]  # (1,3,N,H,W)
    return statistics_divergence(net, normalize(clip.contiguous()))


def _stages(source: Source) -> Literal["res4", "res5"] | None:
    """Return the last stage of an image ResNet-50 that a file holds; None where it holds another net."""
    counts = _blocks(source.tensors)
    if counts[:3] != [3, 4, 6]:
        return None
    return "res5" if counts[3] == 3 else "res4"


def _blocks(tensors: Mapping[str, object]) -> list[int]:
    """Return how many blocks each of the four stages has, of names as torchvision's and timm's (layer3.5.conv1)."""
    return [len({name.split(".")[1] for name in tensors if name.startswith(f"layer{stage}.")}) for stage in range(1, 5)]
