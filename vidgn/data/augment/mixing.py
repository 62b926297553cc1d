"""Two clips and their labels become two mixtures: mixup, CutMix and VideoMix.

    mixup      x' = l a + (1-l) b                           y' = l y_a + (1-l) y_b,  l of Beta(alpha, alpha)
    cutmix     a rectangle of all frames of a is b's        l = the share of a that is left
    videomix   a cuboid of some frames of a is b's          the same

Pairs are neighbours in the order of the epoch, which stay together on one rank; what happens to a pair is drawn by its
first video. So a mixture is a function of (seed, epoch), whatever the ranks and wherever a run was resumed.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from vidgn.data.augment.spec import AugmentSpec

_FIRST = 90  # of the draws; see `vidgn.data.augment.clip`
_TRIES = 29  # at a number of the beta distribution, two draws each


def mix_pairs(
    clips: Tensor, labels: Tensor, draws: NDArray[np.float64], spec: AugmentSpec, *, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Mix the clips at 2i and 2i+1; the last of an odd number stays as it is.

    Args:
        clips: uint8 (B,K,3,T,S,S).
        labels: int64 (B,), or of several classes per video float32 (B,Q).
        draws: of each clip, (B,K,`AUGMENT_DRAWS`).
        spec: which mixtures; of several each pair gets one.
        num_classes: Q.

    Returns:
        clips uint8 (B,K,3,T,S,S), and targets float32 (B,K,Q): mixed in the same shares.
    """
    mixed = clips.clone()
    dense = labels if labels.ndim == 2 else F.one_hot(labels, num_classes).to(torch.float32)
    targets = dense[:, None].repeat(1, clips.shape[1], 1)
    for one in range(0, len(clips) - 1, 2):
        for clip in range(clips.shape[1]):
            a, b = clips[one, clip], clips[one + 1, clip]
            x, y, share = _mix(a, b, draws[one, clip, _FIRST:], spec)
            mixed[one, clip], mixed[one + 1, clip] = x, y
            own, other = targets[one, clip].clone(), targets[one + 1, clip].clone()
            targets[one, clip] = share * own + (1 - share) * other
            targets[one + 1, clip] = share * other + (1 - share) * own
    return mixed, targets


def beta(draws: NDArray[np.float64], alpha: float) -> float:
    """Return a number of Beta(alpha, alpha), alpha at most 1, by Johnk's method.

    (Johnk 1964; "Non-Uniform Random Variate Generation", Devroye 1986, IX.3.5.)
    """
    for u, v in draws[: 2 * _TRIES].reshape(-1, 2):
        x, y = u ** (1 / alpha), v ** (1 / alpha)
        if 0 < x + y <= 1:
            return float(x / (x + y))
    return 0.5  # once in 2^29 at alpha = 1


def _mix(a: Tensor, b: Tensor, draws: NDArray[np.float64], spec: AugmentSpec) -> tuple[Tensor, Tensor, float]:
    """Return both mixtures, and the share of each in its own."""
    kinds = [name for name in ("mixup", "cutmix", "videomix") if getattr(spec, name)]
    kind = kinds[int(draws[0] * len(kinds))]
    share = beta(draws[6:], getattr(spec, kind))
    if kind == "mixup":
        left, right = a.to(torch.float32), b.to(torch.float32)
        return _whole(share * left + (1 - share) * right), _whole(share * right + (1 - share) * left), share
    part = _cuboid(tuple(a.shape[1:]), 1 - share, draws[1:6], whole_length=kind == "cutmix")
    x, y = a.clone(), b.clone()
    x[part], y[part] = b[part], a[part]
    return x, y, 1 - a[part].numel() / a.numel()


def _cuboid(
    shape: tuple[int, ...], share: float, draws: NDArray[np.float64], *, whole_length: bool
) -> tuple[slice, ...]:
    """Return a cuboid of about this share of (T,S,S), with its middle anywhere, cut off at the border."""
    side = math.sqrt(share) if whole_length else share ** (1 / 3)
    cuts = []
    for length, draw, whole in zip(shape, draws[:3], (whole_length, False, False), strict=True):
        middle, half = int(draw * length), side * length / 2
        begin, end = max(0, round(middle - half)), min(length, round(middle + half))
        cuts.append(slice(0, length) if whole else slice(begin, end))
    return (slice(None), *cuts)


def _whole(pixels: Tensor) -> Tensor:
    return pixels.round_().clamp_(0, 255).to(torch.uint8)
