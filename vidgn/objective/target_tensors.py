"""Probabilities, losses and ranks where a video has several classes; see `vidgn.objective.targets`.

`dense` has a row of Q numbers for each video or clip: 1 for each of its classes, 0 for the others; fractions where
clips are mixed.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from vidgn.objective.targets import Targets
from vidgn.scores.predictions import label_ranks

_TOP = 5  # classes of a head among which the best combinations are looked for


def output_probabilities(targets: Targets, logits: Tensor) -> Tensor:
    """Return probabilities (..., Q) of logits (..., Q).

    >>> output_probabilities(Targets("heads", (("verb", 1), ("noun", 2))), torch.zeros(3))
    tensor([1.0000, 0.5000, 0.5000])
    """
    if targets.kind == "one":
        return logits.softmax(-1)
    if targets.kind == "many":
        return logits.sigmoid()
    return torch.cat([logits[..., part].softmax(-1) for part in targets.slices], -1)


def dense_targets(sets: Tensor, *, num_classes: int) -> Tensor:
    """Return float32 (N, Q), 1 for each class of a row of `sets` int64 (N, M).

    >>> dense_targets(torch.tensor([[2, 0], [1, -1]]), num_classes=3)
    tensor([[1., 0., 1.],
            [0., 1., 0.]])
    """
    index = torch.where(sets < 0, num_classes, sets)
    return torch.zeros(len(sets), num_classes + 1).scatter_(1, index, 1.0)[:, :num_classes]


def plain_losses(targets: Targets, logits: Tensor, dense: Tensor) -> Tensor:
    """Return the plain loss of each clip, (N,): the mean binary cross-entropy, or the mean over the heads."""
    if targets.kind == "many":
        return F.binary_cross_entropy_with_logits(logits.float(), dense, reduction="none").mean(1)
    parts = [F.cross_entropy(logits[:, part], dense[:, part], reduction="none") for part in targets.slices]
    return torch.stack(parts).mean(0)


def right_clips(targets: Targets, logits: Tensor, dense: Tensor) -> Tensor:
    """Return how much of each clip is right, (N,): its best class is one of its own, or all heads are right.

    >>> right_clips(Targets("many"), torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
    tensor([1., 0.])
    """
    shares = [dense[:, part].gather(1, logits[:, part].argmax(1, keepdim=True))[:, 0] for part in targets.slices]
    return torch.stack(shares).prod(0)


def answer_ranks(targets: Targets, scores: Tensor, dense: Tensor) -> Tensor:
    """Return how many answers come before the right one, int64 (N,).

    Of many: before the best of the video's classes. Of heads: before the right combination, by the product of the
    scores, as EPIC-Kitchens ranks actions; 5 stands for 5 and more.

    Args:
        targets: what they stand for.
        scores: (N, Q).
        dense: (N, Q), as `dense_targets` gives it.
    """
    if targets.kind == "heads":
        return _combination_ranks(targets, scores, dense)
    own = torch.where(dense > 0, scores, -torch.inf).argmax(1)
    return torch.where(dense.any(1), label_ranks(scores, own), scores.shape[1])


def best_combinations(targets: Targets, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best combinations of one class per head.

    The k best by the product of their scores hold only classes that are among the k best of their head.

    Args:
        targets: the heads.
        scores: (N, Q).

    Returns:
        class indices int64 (N, K, heads), the best first, and their products (N, K), K at most 5.
    """
    classes = torch.zeros(len(scores), 1, 0, dtype=torch.int64, device=scores.device)
    products = scores.new_ones(len(scores), 1)
    for part in targets.slices:
        best = scores[:, part].sort(dim=1, descending=True, stable=True)
        values, index = best.values[:, :_TOP], best.indices[:, :_TOP] + part.start
        count = values.shape[1]
        products = (products[:, :, None] * values[:, None]).flatten(1)
        before = classes.repeat_interleave(count, 1)
        classes = torch.cat([before, index.repeat(1, classes.shape[1])[..., None]], 2)
        order = products.sort(dim=1, descending=True, stable=True)
        products, rows = order.values[:, :_TOP], order.indices[:, :_TOP]
        classes = classes.gather(1, rows[..., None].expand(-1, -1, classes.shape[2]))
    return classes, products


def _combination_ranks(targets: Targets, scores: Tensor, dense: Tensor) -> Tensor:
    classes, _ = best_combinations(targets, scores)
    own = torch.stack([dense[:, part].argmax(1) + part.start for part in targets.slices], 1)  # (N, heads)
    same = (classes == own[:, None]).all(2)  # (N, K)
    return torch.where(same.any(1), same.to(torch.int64).argmax(1), _TOP)
