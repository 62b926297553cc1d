"""The Lightning data module: from the words `data.*` to loaders of batches."""

import os
from collections.abc import Callable, Collection, Mapping
from typing import Literal

import lightning as L
from torch.utils.data import DataLoader

from vidgn.data.clips import ClipSpec
from vidgn.data.dataset import ClipBatch, ClipDataset, ClipSample, VideoViews, ViewBatch, ViewDataset
from vidgn.data.find import DataSpec, Split, ViewSpec, cache_folder, mirror_changes, read_manifests
from vidgn.data.loader import TrainLoader
from vidgn.data.manifest import Manifest
from vidgn.data.sampler import EpochSampler, ShardSampler
from vidgn.data.transforms import CropSpec

__all__ = [
    "DataSpec",
    "Split",
    "VideoDataModule",
    "ViewSpec",
    "cache_folder",
    "default_workers",
    "mirror_changes",
    "read_manifests",
]


class VideoDataModule(L.LightningDataModule):
    """Loaders for training, 1-clip validation and the many-view test.

    Args:
        manifests: the videos of each split that is used.
        spec: how they are read.
        clip: frames and span of a clip.
        crop: sizes in pixels.
        test: views of the test.
        batch: clips per device and training step.
        test_batch: videos per test step.
        seed: of order, clips and crops.

    Attributes:
        done: gives the test videos (rows) that are scored already, when the test begins.
    """

    def __init__(
        self,
        manifests: Mapping[Split, Manifest],
        *,
        spec: DataSpec,
        clip: ClipSpec,
        crop: CropSpec,
        test: ViewSpec,
        batch: int,
        test_batch: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch < 1:
            raise ValueError(f"batch ({batch}) must be at least 1 clip per device.")
        self.manifests = dict(manifests)
        self.spec = spec
        self.clip = clip
        self.crop = crop
        self.test = test
        self.batch = batch
        self.test_batch = test_batch
        self.seed = seed
        self.done: Callable[[], Collection[int]] = tuple
        self._place: dict[str, int] | None = None
        self._train_loader: TrainLoader | None = None
        self.allow_zero_length_dataloader_with_multiple_devices = True  # more ranks than test videos

    def train_dataloader(self) -> DataLoader[ClipSample]:
        """Return shuffled random clips; the order is a function of (seed, epoch)."""
        manifest = self.manifests["train"]
        if len(manifest) < self.batch:
            raise ValueError(
                f"batch ({self.batch}) is more than the {len(manifest)} training videos; set batch={len(manifest)}."
            )
        loader = self._clips(manifest, stream="train", shuffle=True)
        assert isinstance(loader, TrainLoader)
        if self._place is not None:  # of a resumed run; Lightning asks for loaders before it loads their state
            loader.load_state_dict(self._place)
            self._place = None
        self._train_loader = loader
        return loader

    def state_dict(self) -> dict[str, int]:
        """Return the place in the epoch; empty before training."""
        return self._train_loader.state_dict() if self._train_loader is not None else {}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Begin the first epoch at a place."""
        self._place = state_dict

    def val_dataloader(self) -> DataLoader[ClipSample]:
        """Return one random clip per video under training augmentation, the same in every epoch."""
        return self._clips(self.manifests["val"], stream="val", shuffle=False)

    def test_dataloader(self) -> DataLoader[VideoViews]:
        """Return every view of every video; each rank has its own share, without padding."""
        dataset = ViewDataset(
            self.manifests["test"],
            clip=self.clip,
            crop=self.crop,
            num_clips=self.test.num_clips,
            num_crops=self.test.num_crops,
            rule=self.test.clip_rule,
            backend=self.spec.backend,
        )
        rank, world_size = self._rank()
        return DataLoader(
            dataset,
            batch_size=self.test_batch,
            sampler=ShardSampler(len(dataset), rank=rank, world_size=world_size, done=self.done()),
            collate_fn=ViewBatch.collate,
            num_workers=self._num_workers(),
        )

    def _clips(self, manifest: Manifest, *, stream: Literal["train", "val"], shuffle: bool) -> DataLoader[ClipSample]:
        flip = self.spec.flip if self.spec.flip is not None else not mirror_changes(manifest.classes)
        dataset = ClipDataset(
            manifest,
            clip=self.clip,
            crop=self.crop,
            seed=self.seed,
            flip=flip,
            stream=stream,
            backend=self.spec.backend,
        )
        rank, world_size = self._rank()
        sampler = EpochSampler(
            len(dataset),
            batch=self.batch,
            seed=self.seed,
            shuffle=shuffle,
            rank=rank,
            world_size=world_size,
            drop_last=shuffle,
        )
        if shuffle and self.trainer is not None:
            sampler.set_epoch(self.trainer.current_epoch)  # Lightning does so only after workers begin to read
        num_workers = self._num_workers()
        loader = TrainLoader if shuffle else DataLoader[ClipSample]
        return loader(
            dataset,
            batch_sampler=sampler,
            collate_fn=ClipBatch.collate,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
        )

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _num_workers(self) -> int:
        count = self.spec.num_workers if self.spec.num_workers is not None else default_workers()
        if count < 0:
            raise ValueError(f"data.num_workers ({count}) must be 0 or more.")
        return count


def default_workers() -> int:
    """Return how many reading processes suit this machine: its cores, at most eight."""
    return min(8, len(os.sched_getaffinity(0)))
