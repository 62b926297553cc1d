"""What a test says of each video, of one rank and of all; the accuracies that follow."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor


class Prediction(NamedTuple):
    """What the test says of one video. `scores` is None where the video could not be read."""

    video: int  # row of the manifest
    label: int
    scores: tuple[float, ...] | None  # (Q,) mean of the views' softmax
    error: str | None
    views: int = 0  # scored, and how many of them were right
    views_top1: int = 0
    views_top5: int = 0


def label_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Return how many classes come before the label, (N,): those with a higher score, ties by index.

    >>> label_ranks(torch.tensor([[0.2, 0.6, 0.2]]), torch.tensor([2]))
    tensor([2])
    """
    own = scores.gather(1, labels[:, None])
    before = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    return ((scores > own) | ((scores == own) & before)).sum(1)


def accuracies(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Return video and clip accuracies in percent over all videos; one that could not be read counts as wrong."""
    found = [item for item in predictions if item.scores is not None]
    ranks = torch.zeros(0)
    if found:
        scores = torch.tensor([item.scores for item in found], dtype=torch.float64)  # (N, Q)
        ranks = label_ranks(scores, torch.tensor([item.label for item in found]))
    total = max(1, len(predictions))
    return {
        "video_top1": 100 * int((ranks < 1).sum()) / total,
        "video_top5": 100 * int((ranks < 5).sum()) / total,
        "clip_top1": 100 * sum(item.views_top1 / item.views for item in found) / total,
        "clip_top5": 100 * sum(item.views_top5 / item.views for item in found) / total,
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


def gather(predictions: list[Prediction]) -> list[Prediction]:
    """Return the predictions of all ranks in manifest order, each video once."""
    parts = [predictions]
    if distributed():
        parts = [[] for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather_object(parts, predictions)
    return merge_predictions(parts)


def distributed() -> bool:
    """Tell whether this process is one of several that work together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
