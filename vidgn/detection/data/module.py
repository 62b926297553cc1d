"""The Lightning data module of task=detect, on the samplers and loaders of the video path."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import lightning as L
from torch.utils.data import DataLoader

from vidgn.data.loading.loader import TrainLoader, VideoLoader
from vidgn.data.loading.sampler import EpochSampler, ShardSampler
from vidgn.data.loading.workers import end_with_parent
from vidgn.detection.data.batches import ImageBatch, ResizedImages, collate_images
from vidgn.detection.data.coco import CocoImages
from vidgn.detection.data.images import AnnotatedImages
from vidgn.detection.data.shapes import DrawnShapes

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class ImagesSpec:
    """The options `data.*` of task=detect.

    Attributes:
        name: coco or shapes.
        root: folder of a data set in COCO's format.
        train: its split for training; of shapes, the number of images.
        val: likewise, to validate on while it trains; None: it does not validate.
        test: likewise.
        shorter_side: pixels that the shorter side of an image becomes.
        longest_side: most pixels of the other one.
        flip: mirror half of the training images.
        seed: of the drawn images.
        num_workers: reading processes; None: chosen from the cores.

    Raises:
        ValueError: the name is unknown, or a value does not belong to it.
    """

    name: str
    train: str | int
    test: str | int
    val: str | int | None = None
    root: str | None = None
    shorter_side: int = 800
    longest_side: int = 1333
    flip: bool = True
    seed: int = 0
    num_workers: int | None = None

    def __post_init__(self) -> None:
        if self.name == "coco" and self.root is None:
            raise ValueError("data.root must be given with data=coco; set data.root to the folder with annotations/.")
        if self.name == "shapes" and any(isinstance(part, str) for part in (self.train, self.val, self.test)):
            raise ValueError(
                f"data.train ({self.train}), data.val ({self.val}) and data.test ({self.test}) must be numbers of "
                "images with data=shapes."
            )
        if self.num_workers is not None and self.num_workers < 0:
            raise ValueError(f"data.num_workers ({self.num_workers}) must be 0 or more.")

    def open(self, part: Part) -> AnnotatedImages:
        """Open one part of the data set."""
        given = getattr(self, part)
        if self.name == "shapes":
            return DrawnShapes(part, size=int(given), seed=self.seed)
        return CocoImages(str(self.root), str(given), train=part == "train")


def check_image_set(name: str) -> None:
    """Check the option `data`.

    Raises:
        ValueError: the data set has no boxes.
    """
    if name not in ("coco", "shapes"):
        raise ValueError(f"data={name} has no boxes, which task=detect needs; use data=coco or data=shapes.")


def images_spec(options: Mapping[str, Any]) -> ImagesSpec:
    """Return the options `data.*` as a record.

    Raises:
        ValueError: an unknown option, or a wrong value.
    """
    check_image_set(str(options.get("name")))
    known = list(ImagesSpec.__dataclass_fields__)
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(f"unknown option data.{unknown[0]} with task=detect; use one of {', '.join(known)}.")
    return ImagesSpec(**options)


class DetectionData(L.LightningDataModule):
    """Loaders for training, validation and the test; each image is tested once, whatever the ranks.

    Args:
        parts: the images of each part that is used.
        spec: how they are resized.
        batch: images per device and step.
        seed: of order and mirroring.
    """

    def __init__(self, parts: Mapping[Part, AnnotatedImages], *, spec: ImagesSpec, batch: int, seed: int = 0) -> None:
        super().__init__()
        if batch < 1:
            raise ValueError(f"batch ({batch}) must be at least 1 image per device.")
        self.parts = dict(parts)
        self.spec = spec
        self.batch = batch
        self.seed = seed
        self._position: dict[str, int] | None = None
        self._train_loader: TrainLoader | None = None
        self.allow_zero_length_dataloader_with_multiple_devices = True  # more ranks than images

    @property
    def videos_per_batch(self) -> int:
        """Images of a batch on one device, by the name that the checkpoint callback knows."""
        return self.batch

    def train_dataloader(self) -> DataLoader[ImageBatch]:
        """Return shuffled images; the order is a function of (seed, epoch)."""
        images = self.parts["train"]
        if len(images) < self.batch:
            raise ValueError(f"batch ({self.batch}) is more than the {len(images)} training images; make it smaller.")
        rank, world_size = self._rank()
        sampler = EpochSampler(
            len(images), batch=self.batch, seed=self.seed, shuffle=True, rank=rank, world_size=world_size,
            drop_last=True,
        )  # fmt: skip
        if self.trainer is not None:
            sampler.set_epoch(self.trainer.current_epoch)
        dataset = self._resized(images, train=True)
        loader = TrainLoader(
            cast("Any", dataset), batch_sampler=sampler, collate_fn=collate_images,
            persistent_workers=self._num_workers() > 0, **self._workers(),
        )  # fmt: skip
        if self._position is not None:  # of a resumed run
            loader.load_state_dict(self._position)
            self._position = None
        self._train_loader = loader
        return loader

    def val_dataloader(self) -> Any:
        """Return the validation images; nothing where there are none."""
        return self._once("val") if "val" in self.parts else []

    def test_dataloader(self) -> DataLoader[ImageBatch]:
        """Return the test images."""
        return self._once("test")

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the epoch; empty before training."""
        return {} if self._train_loader is None else dict(self._train_loader.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin the first epoch at a position."""
        self._position = dict(state_dict) or None

    def _once(self, part: Part) -> DataLoader[ImageBatch]:
        """Return a loader in which each rank has its own share, without padding."""
        images = self.parts[part]
        rank, world_size = self._rank()
        sampler = ShardSampler(len(images), rank=rank, world_size=world_size)
        return VideoLoader(
            cast("Any", self._resized(images, train=False)), batch_size=1, sampler=sampler, collate_fn=collate_images,
            **self._workers(),
        )  # fmt: skip

    def _resized(self, images: AnnotatedImages, *, train: bool) -> ResizedImages:
        spec = self.spec
        return ResizedImages(
            images, shorter=spec.shorter_side, longest=spec.longest_side, flip=spec.flip and train, seed=self.seed,
            train=train,
        )  # fmt: skip

    def _workers(self) -> dict[str, Any]:
        count = self._num_workers()
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        begin = end_with_parent if count else None
        return {"num_workers": count, "pin_memory": on_gpu, "worker_init_fn": begin}

    def _num_workers(self) -> int:
        chosen = self.spec.num_workers
        return chosen if chosen is not None else min(8, len(os.sched_getaffinity(0)))

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
