"""What a test says of each video, of one rank and of all; the accuracies that follow."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

Ranks = Callable[[Tensor, Sequence[int]], Tensor]  # of scores (n,Q) and videos (n), int64 (n,)


class Prediction(NamedTuple):
    """What the test says of one video. `scores` is None where the video could not be read.

    A test keeps those of all its videos, 8 bytes a class each: as an array, since a tuple takes 32.
    """

    video: int  # row of the manifest
    label: int
    scores: Sequence[float] | None  # (Q,) mean of the views' softmax
    error: str | None
    views: int = 0  # scored, and how many of them were right
    views_top1: int = 0
    views_top5: int = 0


class Begun(NamedTuple):
    """What is scored of a video that comes in several pieces: its first `views` views."""

    video: int  # row of the manifest
    views: int
    sums: tuple[float, ...]  # (Q,) of the views' softmax
    views_top1: int
    views_top5: int


def label_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Return how many classes come before the label, (N,): those with a higher score, ties by index.

    >>> label_ranks(torch.tensor([[0.2, 0.6, 0.2]]), torch.tensor([2]))
    tensor([2])
    """
    own = scores.gather(1, labels[:, None])
    before = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    return ((scores > own) | ((scores == own) & before)).sum(1)


def mean_loss(logits: Tensor, labels: Tensor, failed: Sequence[int]) -> tuple[Tensor, int]:
    """Return the cross-entropy over the videos that could be read, and how many they are; 0 over none.

    >>> mean_loss(torch.zeros(2, 4), torch.tensor([0, 1]), failed=[1])
    (tensor(1.3863), 1)
    """
    good = torch.ones(len(labels), dtype=torch.bool)
    good[list(failed)] = False
    losses = cross_entropy(logits, labels, reduction="none") * good.to(logits.device)
    count = len(labels) - len(failed)
    return losses.sum() / max(1, count), count


def failed_last(logits: Tensor, labels: Tensor, failed: Sequence[int]) -> Tensor:
    """Return the logits such that no video that could not be read is right: its label comes last.

    >>> failed_last(torch.ones(2, 3), torch.tensor([0, 2]), failed=[1])
    tensor([[1., 1., 1.],
            [1., 1., -inf]])
    """
    logits = logits.clone()
    logits[list(failed), labels[list(failed)]] = -torch.inf
    return logits


def accuracies(predictions: Sequence[Prediction], *, ranks: Ranks | None = None) -> dict[str, float]:
    """Return video and clip accuracies in percent over all videos; one that could not be read counts as wrong.

    Args:
        predictions: of all videos.
        ranks: how many answers come before the right one; None: before the label.
    """
    scored = [item for item in predictions if item.scores is not None]
    places = torch.zeros(0)
    if scored:
        scores = torch.from_numpy(np.array([item.scores for item in scored], dtype=np.float64))  # (N, Q)
        labels = torch.tensor([item.label for item in scored])
        places = label_ranks(scores, labels) if ranks is None else ranks(scores, [item.video for item in scored])
    total = max(1, len(predictions))
    return {
        "video_top1": 100 * int((places < 1).sum()) / total,
        "video_top5": 100 * int((places < 5).sum()) / total,
        "clip_top1": 100 * sum(item.views_top1 / item.views for item in scored) / total,
        "clip_top5": 100 * sum(item.views_top5 / item.views for item in scored) / total,
    }


def merge_predictions(parts: Sequence[Sequence[Prediction]]) -> list[Prediction]:
    """Put the predictions of all ranks into manifest order.

    Raises:
        RuntimeError: a video was scored more than once.
    """
    together = sorted((item for part in parts for item in part), key=lambda prediction: prediction.video)
    double = [one.video for one, other in pairwise(together) if one.video == other.video]
    if double:
        raise RuntimeError(f"videos {double[:10]} of the manifest were scored more than once; please report this")
    return together


def gather_predictions(predictions: list[Prediction]) -> list[Prediction]:
    """Return the predictions of all ranks in manifest order, each video once."""
    parts = [predictions]
    if distributed():
        parts = [[] for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather_object(parts, predictions)
    return merge_predictions(parts)


def distributed() -> bool:
    """Tell whether this process is one of several that work together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
