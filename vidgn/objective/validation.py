"""The validation of videos that have several classes: its figures need the scores of all videos together."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidgn.objective.target_tensors import answer_ranks, output_probabilities
from vidgn.objective.targets import Targets
from vidgn.scores.predictions import distributed
from vidgn.scores.statistics import FAILED, RankedScores


class ValidationRows(NamedTuple):
    """What is known of some validation videos.

    Attributes:
        videos: rows of the manifest, (N,).
        scores: (N, Q); -1 where the video could not be read.
        dense: 1 for each class of a video, (N, Q).
        ranks: how many answers come before the right one, (N,).
        right: whether the best class of each head is right, (N, heads).
    """

    videos: NDArray[np.int64]
    scores: NDArray[np.float32]
    dense: NDArray[np.float32]
    ranks: NDArray[np.int64]
    right: NDArray[np.bool_]

    @classmethod
    def of(
        cls, targets: Targets, logits: Tensor, dense: Tensor, *, videos: Tensor, failed: Sequence[int]
    ) -> "ValidationRows":
        """Return the rows of a batch; videos that could not be read are wrong.

        Args:
            targets: what the classes stand for.
            logits: (B, Q).
            dense: (B, Q).
            videos: rows of the manifest, (B,).
            failed: positions in the batch of videos that could not be read.
        """
        scores = output_probabilities(targets, logits.detach().float())
        ranks = answer_ranks(targets, scores, dense)
        right = torch.stack(
            [dense[:, part].gather(1, scores[:, part].argmax(1, keepdim=True))[:, 0] > 0 for part in targets.slices], 1
        )
        bad = list(failed)
        scores[bad], ranks[bad], right[bad] = FAILED, scores.shape[1], False
        return cls(*(tensor.cpu().numpy() for tensor in (videos, scores, dense, ranks, right)))

    def figures(self, targets: Targets) -> dict[str, float]:
        """Return error, top1 and top5 in percent; of several classes map, of heads the top-1 of each.

        The error is 100 minus the mean average precision of several classes, 100 minus the joint top-1 of heads.
        """
        count = max(1, len(self.ranks))
        top1, top5 = (100 * float((self.ranks < k).sum()) / count for k in (1, 5))
        if targets.kind == "heads":
            names = [name for name, _ in targets.heads]
            heads = {f"{name}_top1": 100 * float(self.right[:, k].sum()) / count for k, name in enumerate(names)}
            return {"error": 100 - top1, "top1": top1, "top5": top5, **heads}
        mean = RankedScores(self.scores, self.dense > 0).mean()
        return {"error": 100 - mean, "map": mean, "top1": top1, "top5": top5}


def gather_rows(parts: Sequence[ValidationRows]) -> ValidationRows:
    """Return the rows of all batches and ranks, in the order of the manifest."""
    everything = list(parts)
    if distributed():
        of_rank: list[list[ValidationRows]] = [[] for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather_object(of_rank, everything)
        everything = [rows for rank in of_rank for rows in rank]
    columns: list[NDArray[Any]] = [np.concatenate(column) for column in zip(*everything, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return ValidationRows(*(column[order] for column in columns))
