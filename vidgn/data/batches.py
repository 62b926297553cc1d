"""What travels from the workers to the device: videos with their clips, uint8 all the way."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidgn.data.augment import AugmentSpec, mix_pairs
from vidgn.data.loading.shared_memory import share
from vidgn.data.transforms import Box, crop
from vidgn.objective.target_tensors import dense_targets


class ClipSample(NamedTuple):
    """One video in training: clips uint8 (K,3,T,S,S), class index, row of the manifest; black clips if it failed."""

    clips: Tensor
    label: int
    video: int
    failed: bool = False
    draws: Tensor | None = None  # (K, draws) in [0, 1), for mixing


@dataclass(frozen=True)
class ClipBatch:
    """B videos in training.

    Attributes:
        clips: uint8 (B,K,3,T,S,S).
        labels: int64 (B,).
        videos: int64 (B,), rows of the manifest.
        failed: positions of the videos that could not be read, in validation; their clips are black.
        targets: float32 (B,K,Q), of clips that are mixed or have several classes; None: the labels.
    """

    clips: Tensor
    labels: Tensor
    videos: Tensor
    failed: tuple[int, ...] = ()
    targets: Tensor | None = None

    @classmethod
    def collate(cls, samples: Sequence[ClipSample]) -> "ClipBatch":
        """Stack samples; the `collate_fn` of a loader."""
        clips, labels, videos, failed, _ = zip(*samples, strict=True)
        wrong = tuple(position for position, is_failed in enumerate(failed) if is_failed)
        batch = cls(torch.stack(clips), torch.tensor(labels), torch.tensor(videos), wrong)
        share(batch.clips, batch.labels, batch.videos)
        return batch

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "ClipBatch":
        """Move to a device; pinned memory goes to a GPU while the host works on."""
        targets = None if self.targets is None else _to(self.targets, device)
        clips, labels, videos = (_to(tensor, device) for tensor in (self.clips, self.labels, self.videos))
        return ClipBatch(clips, labels, videos, self.failed, targets)

    def pin_memory(self) -> "ClipBatch":
        """Copy to page-locked memory; a loader calls this."""
        targets = None if self.targets is None else self.targets.pin_memory()
        clips, labels, videos = (tensor.pin_memory() for tensor in (self.clips, self.labels, self.videos))
        return ClipBatch(clips, labels, videos, self.failed, targets)


@dataclass(frozen=True)
class TargetRows:
    """The targets of videos that have several classes.

    Attributes:
        sets: class indices of each video, filled up with -1, int64 (N,M).
        num_classes: Q.
    """

    sets: NDArray[np.int64]
    num_classes: int

    def __call__(self, videos: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """Return float32 (B,Q) of rows of the manifest."""
        rows = torch.from_numpy(self.sets[np.asarray(videos, np.int64)])
        return dense_targets(rows, num_classes=self.num_classes)


@dataclass(frozen=True)
class TargetCollate:
    """The `collate_fn` of a loader whose videos have several classes.

    Attributes:
        rows: their targets.
    """

    rows: TargetRows

    def __call__(self, samples: Sequence[ClipSample]) -> ClipBatch:
        """Stack samples; all clips of a video have its targets."""
        batch = ClipBatch.collate(samples)
        targets = self.rows([sample.video for sample in samples])[:, None].repeat(1, batch.clips.shape[1], 1)
        share(targets)
        return replace(batch, targets=targets)


@dataclass(frozen=True)
class MixingCollate:
    """The `collate_fn` of a loader whose clips are mixed in pairs; see `vidgn.data.augment.mixing`.

    Attributes:
        spec: which mixtures.
        num_classes: Q.
        rows: targets of videos that have several classes; None: each has one.
    """

    spec: AugmentSpec
    num_classes: int
    rows: TargetRows | None = None

    def __call__(self, samples: Sequence[ClipSample]) -> ClipBatch:
        """Stack samples and mix neighbours."""
        draws = np.stack([sample.draws.numpy() for sample in samples if sample.draws is not None])
        clips = torch.stack([sample.clips for sample in samples])
        labels = torch.tensor([sample.label for sample in samples])
        given = labels if self.rows is None else self.rows([sample.video for sample in samples])
        clips, targets = mix_pairs(clips, given, draws, self.spec, num_classes=self.num_classes)
        batch = ClipBatch(clips, labels, torch.tensor([sample.video for sample in samples]), (), targets)
        share(batch.clips, batch.labels, batch.videos, targets)
        return batch


def _to(tensor: Tensor, device: torch.device | str) -> Tensor:
    return tensor.to(device, non_blocking=torch.device(device).type == "cuda")


@dataclass(frozen=True)
class VideoViews:
    """Views of one video, all or a piece of them, or why it could not be read.

    Attributes:
        frames: Each needed frame once, short side resized, uint8 (3,U,H,W).
        index: Which of them make each clip, int64 (K,T).
        boxes: The crops of each clip.
        label: Class index.
        video: Row of the manifest.
        first_view: Number of the first of these views in the video.
        num_views: How many there are, or would be.
        total_views: How many the whole video has.
        error: What is wrong with the file, or None; then there are no views.
    """

    frames: Tensor
    index: Tensor
    boxes: tuple[Box, ...]
    label: int
    video: int
    first_view: int
    num_views: int
    total_views: int
    error: str | None = None

    def views(self) -> Iterator[Tensor]:
        """Yield the views, uint8 (3,T,S,S'): all crops of the first clip, then of the second, ..."""
        stored = self.frames.permute(1, 2, 3, 0)  # (U,H,W,3), as it lies in memory: else all of it is copied first
        for clip in self.index:
            frames = stored.index_select(0, clip).permute(3, 0, 1, 2).contiguous()  # (3,T,H,W), for several crops
            for box in self.boxes:
                yield crop(frames, box)


@dataclass(frozen=True)
class ViewBatch:
    """Videos in testing, or pieces of long ones.

    Attributes:
        items: The videos.
        videos: int64 (B,), rows of the manifest.
    """

    items: tuple[VideoViews, ...]
    videos: Tensor

    @classmethod
    def collate(cls, items: Sequence[VideoViews]) -> "ViewBatch":
        """Put videos of any sizes together; the `collate_fn` of a loader."""
        batch = cls(tuple(items), torch.tensor([item.video for item in items]))
        share(batch.videos, *(tensor for item in items for tensor in (item.frames, item.index)))
        return batch

    def __len__(self) -> int:
        return len(self.items)

    @property
    def errors(self) -> tuple[str | None, ...]:
        """What is wrong with each video; None where nothing is."""
        return tuple(item.error for item in self.items)

    def to(self, device: torch.device | str) -> "ViewBatch":
        """Move to a device; the rows of the manifest stay where they are."""
        wait = torch.device(device).type != "cuda"
        items = [
            replace(i, frames=i.frames.to(device, non_blocking=not wait), index=i.index.to(device)) for i in self.items
        ]
        return ViewBatch(tuple(items), self.videos)

    def pin_memory(self) -> "ViewBatch":
        """Copy to page-locked memory; a loader calls this."""
        items = [replace(i, frames=i.frames.pin_memory(), index=i.index.pin_memory()) for i in self.items]
        return ViewBatch(tuple(items), self.videos)
