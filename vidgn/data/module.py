"""The Lightning data module: from the options `data.*` to loaders of batches."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import lightning as L
from torch.utils.data import DataLoader

from vidgn.data.augment import AugmentSpec
from vidgn.data.augmented import AugmentedClips
from vidgn.data.batches import MixingCollate, TargetCollate, TargetRows, VideoViews, ViewBatch
from vidgn.data.clips import ClipSpec
from vidgn.data.dataset import ClipBatch, ClipDataset, ClipSample
from vidgn.data.faults.quarantine import Quarantine
from vidgn.data.loading.loader import TrainLoader, VideoLoader, patience
from vidgn.data.loading.sampler import EpochSampler, ShardSampler
from vidgn.data.loading.shared_memory import require_room
from vidgn.data.loading.workers import end_with_parent, explain_failure
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.readers.types import Backend
from vidgn.data.spec import DataSpec, Split, ViewSpec
from vidgn.data.splits import cache_folder, mirror_changes, read_manifests
from vidgn.data.transforms import CropSpec
from vidgn.data.views import ViewDataset, piece_bounds

TYPICAL_FRAMES = 300  # of a video of ten seconds, as in Kinetics

__all__ = [
    "DataSpec",
    "Split",
    "VideoDataModule",
    "ViewSpec",
    "cache_folder",
    "default_workers",
    "mirror_changes",
    "read_manifests",
    "target_rows",
]


PAPER_TEST = ViewSpec()  # 10 clips x 3 crops


class VideoDataModule(L.LightningDataModule):
    """Loaders for training, 1-clip validation and the many-view test.

    Args:
        manifests: the videos of each split that is used.
        spec: how they are read.
        clip: frames and span of a clip.
        crop: sizes in pixels.
        test: views of the test; by default 10 clips x 3 crops.
        batch: clips per device and training step.
        test_batch: videos per test step.
        seed: of order, clips and crops.
        augment: of training clips.
        balanced: every class comes equally often in a training epoch.
        val_clips: random clips of each video in a validation.
        ledger: where unreadable videos are written down (`vidgn.data.faults.quarantine`); None: one is an error.

    Attributes:
        done: gives the test videos (rows) that are scored already, when the test begins.
        begun: gives how many views are scored of videos that are not done; asked after `done`.
    """

    def __init__(
        self,
        manifests: Mapping[Split, Manifest],
        *,
        spec: DataSpec,
        clip: ClipSpec,
        crop: CropSpec,
        test: ViewSpec = PAPER_TEST,
        batch: int,
        test_batch: int = 1,
        seed: int = 0,
        ledger: Path | None = None,
        balanced: bool = False,
        val_clips: int = 1,
        augment: AugmentSpec | None = None,
    ) -> None:
        super().__init__()
        if batch < 1:
            raise ValueError(f"batch ({batch}) must be at least 1 clip per device.")
        # A checkpoint's own option says nothing about a test, whose batch is another.
        if "train" in manifests and (spec.clips_per_video < 1 or batch % spec.clips_per_video):
            raise ValueError(
                f"data.clips_per_video ({spec.clips_per_video}) must divide batch ({batch}), which counts clips."
            )
        if val_clips < 1:
            raise ValueError(f"val_clips ({val_clips}) must be at least 1 clip per video.")
        if spec.num_workers is not None and spec.num_workers < 0:
            raise ValueError(f"data.num_workers ({spec.num_workers}) must be 0 or more.")
        if spec.backend not in get_args(Backend):
            raise ValueError(f"data.backend ({spec.backend}) must be one of {', '.join(get_args(Backend))}.")
        self.manifests = dict(manifests)
        self.spec = spec
        self.clip = clip
        self.crop = crop
        self.test = test
        self.batch = batch
        self.test_batch = test_batch
        self.seed = seed
        self.ledger = ledger
        self.balanced = balanced
        self.val_clips = val_clips
        self.augment = augment or AugmentSpec()
        self.done: Callable[[], Collection[int]] = tuple
        self.begun: Callable[[], Mapping[int, int]] = dict
        self._place: dict[str, int] | None = None
        self._train_loader: TrainLoader | None = None
        self._loaders: list[VideoLoader] = []
        self.allow_zero_length_dataloader_with_multiple_devices = True  # more ranks than test videos

    @property
    def videos_per_batch(self) -> int:
        """Videos of a training batch on one device."""
        return self.batch // self.spec.clips_per_video

    @cached_property
    def quarantine(self) -> Quarantine | None:
        """The unreadable videos of this run."""
        if self.ledger is None or self.spec.strict or "train" not in self.manifests:
            return None
        return Quarantine(self.ledger, num_videos=len(self.manifests["train"]), max_share=self.spec.max_share)

    def train_dataloader(self) -> DataLoader[ClipSample]:
        """Return shuffled random clips; the order is a function of (seed, epoch)."""
        manifest = self.manifests["train"]
        self._check_batch()
        if self.quarantine is not None:
            self.quarantine.check()
        self._require_room()
        loader = TrainLoader(**self._clips(manifest, stream="train"))
        if self._place is not None:  # of a resumed run; Lightning asks for loaders before it loads their state
            loader.load_state_dict(self._place)
            self._place = None
        self._train_loader = loader
        self._loaders.append(loader)
        return loader

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the epoch, and the unreadable videos so far; empty before training."""
        if self._train_loader is None:
            return {}
        bad = [row._asdict() for row in self.quarantine.rows()] if self.quarantine is not None else []
        return {**self._train_loader.state_dict(), "quarantine": bad}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin the first epoch at a place, with the unreadable videos that are known."""
        self._place = {name: value for name, value in state_dict.items() if name != "quarantine"}
        if self.quarantine is not None:
            self.quarantine.merge(state_dict.get("quarantine", ()))

    def first_batches(self, count: int) -> Iterator[ClipBatch]:
        """Yield up to `count` training batches of the first epochs, read by this process; loaders do not notice."""
        self._check_batch()
        arguments = self._clips(self.manifests["train"], stream="train")
        dataset, sampler, collate = (arguments[name] for name in ("dataset", "batch_sampler", "collate_fn"))
        for epoch in range(count):
            sampler.set_epoch(epoch)
            for items in sampler:
                if count == 0:
                    return
                count -= 1
                yield collate([dataset[item] for item in items])

    def val_dataloader(self) -> DataLoader[ClipSample]:
        """Return `val_clips` random clips per video under training augmentation, the same in every epoch."""
        return self._keep(VideoLoader(**self._clips(self.manifests["val"], stream="val")))

    def test_dataloader(self) -> DataLoader[VideoViews]:
        """Return every view of every video; each rank has its own share, without padding.

        Raises:
            OSError: shared memory has no room for what the workers read ahead.
        """
        self._require_room_for_test()
        dataset = ViewDataset(
            self.manifests["test"],
            clip=self.clip,
            crop=self.crop,
            num_clips=self.test.num_clips,
            num_crops=self.test.num_crops,
            rule=self.test.clip_rule,
            backend=self.spec.backend,
            deadline_seconds=self.spec.deadline_seconds,
            strict=self.spec.strict,
        )
        rank, world_size = self._rank()
        done = self.done()
        sampler = ShardSampler(
            len(self.manifests["test"]),
            rank=rank,
            world_size=world_size,
            done=done,
            pieces=dataset.num_pieces,
            begun={video: dataset.pieces_within(views) for video, views in self.begun().items()},
        )
        return self._keep(
            VideoLoader(
                dataset,
                batch_size=self.test_batch,
                sampler=sampler,
                collate_fn=ViewBatch.collate,
                **self._workers(),
            )
        )

    def on_exception(self, exception: BaseException) -> None:
        """Name the video where a reading process died: torch may raise at any time, not only in a loader.

        Raises:
            WorkerDied: It did.
        """
        for loader in self._loaders:
            died = loader.explain(exception)
            if died is not None:
                raise died from exception
        if self._loaders and (died := explain_failure(exception, (), None)) is not None:
            raise died from exception

    def _check_batch(self) -> None:
        most = len(self.manifests["train"]) * self.spec.clips_per_video
        if most < self.batch:
            raise ValueError(f"batch ({self.batch}) is more than the {most} training videos; set batch={most}.")

    def _clips(self, manifest: Manifest, *, stream: Literal["train", "val"]) -> dict[str, Any]:
        """Return the arguments of a loader of clips."""
        flip = self.spec.flip if self.spec.flip is not None else not mirror_changes(manifest.classes)
        num_clips = self.spec.clips_per_video if stream == "train" else self.val_clips
        augment = self.augment if stream == "train" else AugmentSpec()
        kind = partial(AugmentedClips, augment=augment) if augment.is_on else ClipDataset
        dataset = kind(
            manifest,
            clip=self.clip,
            crop=self.crop,
            seed=self.seed,
            flip=flip,
            stream=stream,
            backend=self.spec.backend,
            clips_per_video=num_clips,
            rule=self.test.clip_rule,
            quarantine=self.quarantine,
            deadline_seconds=self.spec.deadline_seconds,
            strict=self.spec.strict,
        )
        rank, world_size = self._rank()
        sampler = EpochSampler(
            len(dataset),
            batch=max(1, self.batch // num_clips),
            seed=self.seed,
            shuffle=stream == "train",
            rank=rank,
            world_size=world_size,
            drop_last=stream == "train",
            pairs=augment.mixes,
            balance=manifest.labels if self.balanced and stream == "train" else None,
        )
        if stream == "train" and self.trainer is not None:
            sampler.set_epoch(self.trainer.current_epoch)  # Lightning does so only after workers begin to read
        return {
            "dataset": dataset,
            "batch_sampler": sampler,
            "collate_fn": _collate(manifest, augment),
            "persistent_workers": self._num_workers() > 0,
            **self._workers(),
        }

    def _workers(self) -> dict[str, Any]:
        """Return what all loaders share."""
        count = self._num_workers()
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        timeout = patience(self.spec.deadline_seconds, num_workers=count)
        begin = end_with_parent if count else None
        return {"num_workers": count, "timeout": timeout, "pin_memory": on_gpu, "worker_init_fn": begin}

    def _keep(self, loader: VideoLoader) -> VideoLoader:
        self._loaders.append(loader)
        return loader

    def _require_room(self) -> None:
        """Check that the batches of training and validation, which read ahead at the same time, have room."""
        clip_bytes = 3 * self.clip.clip_len * self.crop.crop**2
        require_room(self.batch * clip_bytes, num_workers=self._num_workers(), num_loaders=2)

    def _require_room_for_test(self) -> None:
        """Check the same of the test, for pieces of videos of `TYPICAL_FRAMES` or more whose frames are square."""
        bounds = piece_bounds(self.test.num_clips, clip_len=self.clip.clip_len)
        clips = max(end - first for first, end in pairwise(bounds))
        piece_bytes = 3 * min(clips * self.clip.clip_len, TYPICAL_FRAMES) * self.crop.test_side**2
        require_room(self.test_batch * piece_bytes, num_workers=self._num_workers())

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _num_workers(self) -> int:
        return self.spec.num_workers if self.spec.num_workers is not None else default_workers()


def target_rows(manifest: Manifest) -> TargetRows | None:
    """Return the targets of videos that have several classes; None where each has one."""
    if manifest.sets is None:
        return None
    return TargetRows(manifest.sets, len(manifest.classes))


def _collate(manifest: Manifest, augment: AugmentSpec) -> Callable[[Sequence[ClipSample]], ClipBatch]:
    rows = target_rows(manifest)
    if augment.mixes:
        return MixingCollate(augment, len(manifest.classes), rows)
    return ClipBatch.collate if rows is None else TargetCollate(rows)


def default_workers() -> int:
    """Return how many reading processes suit this machine: its cores, at most eight."""
    return min(8, len(os.sched_getaffinity(0)))
