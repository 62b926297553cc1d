"""What travels from the workers to the device: videos with their clips or views, uint8 all the way."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from vidgn.data.transforms import Box, crop


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
        return cls(torch.stack(clips), torch.tensor(labels), torch.tensor(videos), wrong)

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "ClipBatch":
        """Move to a device; pinned memory goes to a GPU while the host works on."""
        return ClipBatch(_to(self.clips, device), _to(self.labels, device), _to(self.videos, device), self.failed)

    def pin_memory(self) -> "ClipBatch":
        """Copy to page-locked memory; a loader calls this."""
        return ClipBatch(self.clips.pin_memory(), self.labels.pin_memory(), self.videos.pin_memory(), self.failed)


@dataclass(frozen=True)
class VideoViews:
    """One video in testing, or why it could not be read.

    Attributes:
        frames: Each needed frame once, short side resized, uint8 (3,U,H,W).
        index: Which of them make each clip, int64 (K,T).
        boxes: The crops of each clip.
        label: Class index.
        video: Row of the manifest.
        error: What is wrong with the file, or None; then there are no views.
    """

    frames: Tensor
    index: Tensor
    boxes: tuple[Box, ...]
    label: int
    video: int
    error: str | None = None

    def views(self) -> Iterator[Tensor]:
        """Yield the views, uint8 (3,T,S,S'): all crops of the first clip, then of the second, ..."""
        for clip in self.index:
            frames = self.frames.index_select(1, clip)
            for box in self.boxes:
                yield crop(frames, box)


@dataclass(frozen=True)
class ViewBatch:
    """Videos in testing.

    Attributes:
        items: The videos.
        labels: int64 (B,).
        videos: int64 (B,), rows of the manifest.
    """

    items: tuple[VideoViews, ...]
    labels: Tensor
    videos: Tensor

    @classmethod
    def collate(cls, items: Sequence[VideoViews]) -> "ViewBatch":
        """Put videos of any sizes together; the `collate_fn` of a loader."""
        labels, videos = (
            torch.tensor([item.label for item in items]),
            torch.tensor([item.video for item in items]),
        )
        return cls(tuple(items), labels, videos)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def errors(self) -> tuple[str | None, ...]:
        """What is wrong with each video; None where nothing is."""
        return tuple(item.error for item in self.items)

    def to(self, device: torch.device | str) -> "ViewBatch":
        """Move to a device."""
        items = [replace(i, frames=_to(i.frames, device), index=_to(i.index, device)) for i in self.items]
        return ViewBatch(tuple(items), _to(self.labels, device), _to(self.videos, device))

    def pin_memory(self) -> "ViewBatch":
        """Copy to page-locked memory; a loader calls this."""
        items = [replace(i, frames=i.frames.pin_memory(), index=i.index.pin_memory()) for i in self.items]
        return ViewBatch(tuple(items), self.labels.pin_memory(), self.videos.pin_memory())

    def views(self, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield views in groups of at most `chunk`, across videos, in order; videos with an error have none.

        Yields:
            clips uint8 (n,3,T,S,S') and slot int64 (n,), the position of each clip's video in the batch. A
            group ends early only where the size changes (full frames).

        Raises:
            ValueError: chunk is less than 1.
        """
        if chunk < 1:
            raise ValueError(f"chunk ({chunk}) must be at least 1 clip.")
        group: list[Tensor] = []
        slots: list[int] = []
        for slot, item in enumerate(self.items):
            for view in item.views():
                if group and (len(group) == chunk or group[0].shape != view.shape):
                    yield torch.stack(group), torch.tensor(slots, device=view.device)
                    group, slots = [], []
                group.append(view)
                slots.append(slot)
        if group:
            yield torch.stack(group), torch.tensor(slots, device=group[0].device)


def _to(tensor: Tensor, device: torch.device | str) -> Tensor:
    return tensor.to(device, non_blocking=torch.device(device).type == "cuda")
