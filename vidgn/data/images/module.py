"""Loaders of pictures for a classifier of videos: clips of one frame."""

from typing import Any, Literal

from torch.utils.data import DataLoader

from vidgn.data.batches import VideoViews, ViewBatch
from vidgn.data.images.dataset import CentreDataset, PictureDataset
from vidgn.data.loading.loader import VideoLoader
from vidgn.data.loading.sampler import ShardSampler
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.module import VideoDataModule, mirror_changes
from vidgn.data.spec import PICTURES


class PictureDataModule(VideoDataModule):
    """Loaders for training, validation and the test of pictures, whose centre is their one view.

    Raises:
        ValueError: the clip has more frames than one, or the test more views.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        clip, test = self.clip, self.test
        if self.val_clips != 1:
            raise ValueError(f"val_clips ({self.val_clips}) must be 1 for pictures; leave it out.")
        if self.augment.is_on:
            raise ValueError(
                f"{self.augment} is for clips of videos; data={self.spec.name} has the augmentation of ImageNet, so"
                " leave these options out."
            )
        if (clip.clip_len, clip.span) != (1, 1):
            raise ValueError(
                f"clip_len ({clip.clip_len}) and span ({clip.span}) must be 1 for the pictures of"
                f" data={self.spec.name}; use task=image."
            )
        if (test.num_clips, test.num_crops) != (1, 1):
            raise ValueError(
                f"num_clips ({test.num_clips}) and num_crops ({test.num_crops}) must be 1 for pictures, whose test is"
                " one centre crop; use task=image."
            )

    def test_dataloader(self) -> DataLoader[VideoViews]:
        """Return the centre of every picture; each rank has its own share, without padding."""
        dataset = CentreDataset(
            self.manifests["test"],
            crop=self.crop,
            deadline_seconds=self.spec.deadline_seconds,
            strict=self.spec.strict,
        )
        rank, world_size = self._rank()
        sampler = ShardSampler(len(dataset), rank=rank, world_size=world_size, done=self.done())
        loader = VideoLoader(
            dataset, batch_size=self.test_batch, sampler=sampler, collate_fn=ViewBatch.collate, **self._workers()
        )
        return self._keep(loader)

    def _clips(self, manifest: Manifest, *, stream: Literal["train", "val"]) -> dict[str, Any]:
        flip = self.spec.flip if self.spec.flip is not None else not mirror_changes(manifest.classes)
        dataset = PictureDataset(
            manifest,
            crop=self.crop,
            seed=self.seed,
            flip=flip,
            stream=stream,
            min_area=self.spec.min_area,
            quarantine=self.quarantine,
            deadline_seconds=self.spec.deadline_seconds,
        )
        return {**super()._clips(manifest, stream=stream), "dataset": dataset}


def data_module(name: str) -> type[VideoDataModule]:
    """Return the kind of loaders for a data set: of pictures or of videos."""
    return PictureDataModule if name in PICTURES else VideoDataModule


def image_protocol(module: PictureDataModule) -> str:
    """Return the protocol as text: how an image is scored."""
    side = module.crop.crop
    return f"pictures: 1 centre crop of {side}, short side {module.crop.test_side}, softmax averaged over positions"
