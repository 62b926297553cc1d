"""What travels from the workers to the device: videos with their clips, uint8 all the way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vidgn.data.shared_memory import share


class ClipSample(NamedTuple):
    """One video in training: clips uint8 (K,3,T,S,S), class index, row of the manifest; black clips if it failed."""

    clips: Tensor
    label: int
    video: int
    failed: bool = False


@dataclass(frozen=True)
class ClipBatch:
    """B videos in training.

    Attributes:
        clips: uint8 (B,K,3,T,S,S).
        labels: int64 (B,).
        videos: int64 (B,), rows of the manifest.
        failed: positions of the videos that could not be read, in validation; their clips are black.
    """

    clips: Tensor
    labels: Tensor
    videos: Tensor
    failed: tuple[int, ...] = ()

    @classmethod
    def collate(cls, samples: Sequence[ClipSample]) -> "ClipBatch":
        """Stack samples; the `collate_fn` of a loader."""
        clips, labels, videos, failed = zip(*samples, strict=True)
        wrong = tuple(position for position, is_failed in enumerate(failed) if is_failed)
        batch = cls(torch.stack(clips), torch.tensor(labels), torch.tensor(videos), wrong)
        share(batch.clips, batch.labels, batch.videos)
        return batch

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "ClipBatch":
        """Move to a device; pinned memory goes to a GPU while the host works on."""
        return ClipBatch(_to(self.clips, device), _to(self.labels, device), _to(self.videos, device), self.failed)

    def pin_memory(self) -> "ClipBatch":
        """Copy to page-locked memory; a loader calls this."""
        return ClipBatch(self.clips.pin_memory(), self.labels.pin_memory(), self.videos.pin_memory(), self.failed)


def _to(tensor: Tensor, device: torch.device | str) -> Tensor:
    return tensor.to(device, non_blocking=torch.device(device).type == "cuda")
