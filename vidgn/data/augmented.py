"""Training clips with the augmentations of `vidgn.data.augment`, drawn like everything else of a clip."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidgn.data.augment import (
    AUGMENT_DRAWS,
    AugmentSpec,
    augment_clip,
    augmented_indices,
    augmented_view,
    reversal_changes,
)
from vidgn.data.batches import ClipSample
from vidgn.data.clips import random_draws
from vidgn.data.dataset import ClipDataset
from vidgn.data.transforms import TrainView

_VIEW = 1 << 24  # views that no clip of a video draws from
_OWN = 5  # draws of a clip without augmentation


class AugmentedClips(ClipDataset):
    """Training clips that are augmented as a function of (seed, epoch, video, view).

    Args:
        *args: of `ClipDataset`.
        augment: which augmentations.
        **options: of `ClipDataset`.

    Raises:
        ValueError: clips are to run backwards, and a class is named by its direction.
    """

    def __init__(self, *args: Any, augment: AugmentSpec, **options: Any) -> None:
        super().__init__(*args, **options)
        self.augment = augment
        directed = reversal_changes(self.manifest.classes) if augment.reverse else []
        if directed:
            raise ValueError(
                f"reverse ({augment.reverse}) would change the class of {', '.join(directed[:5])}; set reverse=0."
            )

    def _sample(self, epoch: int, video: int, turn: int) -> ClipSample:
        sample = super()._sample(epoch, video, turn)
        if not self.augment.mixes:
            return sample
        first = turn * self.clips_per_video
        draws = [self._draws(epoch, video, first + view)[_OWN:] for view in range(self.clips_per_video)]
        return sample._replace(draws=torch.from_numpy(np.stack(draws)))

    def _draws(self, epoch: int, video: int, view: int) -> NDArray[np.float64]:
        more = random_draws(self.seed, epoch=epoch, video=video, view=_VIEW + view, count=AUGMENT_DRAWS)
        return np.concatenate([super()._draws(epoch, video, view), more])

    def _indices(self, draws: Sequence[NDArray[np.float64]], num_frames: int) -> NDArray[np.int64]:
        if not (self.augment.speed_jitter or self.augment.reverse):
            return super()._indices(draws, num_frames)
        clip, frames = self.clip, num_frames
        rows = [
            augmented_indices(
                draw[_OWN:], self.augment, num_frames=frames, clip_len=clip.clip_len, span=clip.span, start=draw[0]
            )
            for draw in draws
        ]
        return np.stack(rows)

    def _view(self, draw: NDArray[np.float64], shape: tuple[int, int]) -> TrainView:
        if not self.augment.resized_crop:
            return super()._view(draw, shape)
        height, width = shape
        flip = self.flip and bool(draw[4] < 0.5)
        return augmented_view(draw[_OWN:], self.augment, height=height, width=width, crop=self.crop, flip=flip)

    def _finish(self, clip: Tensor, draw: NDArray[np.float64]) -> Tensor:
        return augment_clip(clip, draw[_OWN:], self.augment)
