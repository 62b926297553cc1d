"""Which branches are left out in a step: a function of (seed, epoch, video, clip), not of ranks, order or resuming."""

from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np
import torch

from vidgn.data.clips import random_draws
from vidgn.models.drop_path import DropPathSum

_VIEW = 1 << 23  # views that no clip of a video draws from


class DropPathDraws(L.Callback):
    """Give each sum its draws before each training step.

    Args:
        sums: of the net, from `vidgn.models.drop_path.add_drop_path`.
        seed: of all draws.
    """

    def __init__(self, sums: Sequence[DropPathSum], *, seed: int) -> None:
        self._sums = list(sums)
        self._seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Draw for every clip of the batch."""
        count, num_clips = len(self._sums), batch.clips.shape[1]
        rows = [
            random_draws(self._seed, epoch=trainer.current_epoch, video=video, view=_VIEW + clip, count=count)
            for video in batch.videos.tolist()
            for clip in range(num_clips)
        ]
        draws = torch.from_numpy(np.stack(rows)).float().to(batch.clips.device)  # (B*K, sums)
        for path, column in zip(self._sums, draws.unbind(1), strict=True):
            if path.draws is not None and path.draws.shape == column.shape:
                path.draws.copy_(column)  # in place: a compiled net sees the same tensor
            else:
                path.draws = column.contiguous()
