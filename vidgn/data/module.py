"""The Lightning data module: from the words `data.*` to loaders of batches."""

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import lightning as L
from torch.utils.data import DataLoader

from vidgn.data.clips import ClipSpec
from vidgn.data.dataset import ClipBatch, ClipDataset, ClipSample, VideoViews, ViewBatch, ViewDataset
from vidgn.data.loader import TrainLoader
from vidgn.data.manifest import Manifest
from vidgn.data.motions import MotionsSpec, prepare_motions
from vidgn.data.sampler import EpochSampler, ShardSampler
from vidgn.data.transforms import CropSpec

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class DataSpec:
    """Which videos, and how they are read.

    Attributes:
        name: motions, folder or kinetics400.
        root: folder of the videos; for motions the cache folder (None: `cache_folder()`).
        train: for kinetics400 the annotation file or path-label list (None: looked for under root); for
            motions the videos per class.
        val: the same for validation, which is also the test of kinetics400.
        test: for motions the videos per class.
        classes: file with class names, for lists whose labels are numbers.
        seed: of the drawn split, or of the pixels of motions.
        flip: mirror half of the training clips; None decides by the class names (`mirror_changes`).
        backend: the decoder.
        num_workers: reading processes; None chooses from the cores.
    """

    name: str
    root: str | None = None
    train: str | int | None = None
    val: str | int | None = None
    test: str | int | None = None
    classes: str | None = None
    seed: int = 0
    flip: bool | None = None
    backend: Literal["pyav", "decord"] = "pyav"
    num_workers: int | None = None


@dataclass(frozen=True)
class ViewSpec:
    """Which views of a video the test scores.

    Attributes:
        num_clips: clips per video.
        num_crops: crops per clip; `full` is the whole frame.
        clip_rule: where the clips start; see `vidgn.data.clips.test_starts`.
    """

    num_clips: int = 10
    num_crops: Literal[1, 3, "full"] = 3
    clip_rule: Literal["nonlocal", "linspace"] = "nonlocal"


def cache_folder() -> Path:
    """Return where data sets of ours are kept: $VIDGN_CACHE, or ~/.cache/vidgn."""
    return Path(os.environ.get("VIDGN_CACHE") or "~/.cache/vidgn").expanduser()


def read_manifests(spec: DataSpec, *, progress: Callable[[int, int], None] | None = None) -> dict[Split, Manifest]:
    """Find the videos of all splits; motions are written first where they are not there yet.

    Args:
        spec: the data set.
        progress: called with (videos done, videos in all) while motions are written.

    Raises:
        ValueError: an unknown name, or a root that is missing or does not hold such a data set.
        OSError: a folder or file that cannot be read.
    """
    if spec.name not in _READERS:
        raise ValueError(f"data.name ({spec.name}) is unknown; use one of {', '.join(_READERS)}.")
    if spec.name != "motions" and not spec.root:
        raise ValueError(f"data={spec.name} needs the folder of the videos; set data.root=DIR.")
    return _READERS[spec.name](spec, progress)


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


def mirror_changes(classes: Sequence[str]) -> list[str]:
    """Return the classes whose names say that a mirror image is another class.

    >>> mirror_changes(["jump", "turn left", "TurnRight", "spin_clockwise", "bright"])
    ['turn left', 'TurnRight', 'spin_clockwise']
    """
    return [name for name in classes if any(word.lower() in _SIDES for word in _WORD.findall(name))]


def default_workers() -> int:
    """Return how many reading processes suit this machine: its cores, at most eight."""
    return min(8, len(os.sched_getaffinity(0)))


def _motions(spec: DataSpec, progress: Callable[[int, int], None] | None) -> dict[Split, Manifest]:
    sizes = {
        split: int(value)
        for split, value in (("train", spec.train), ("val", spec.val), ("test", spec.test))
        if value is not None
    }
    motions = MotionsSpec(**sizes, seed=spec.seed)
    folder = prepare_motions(spec.root or cache_folder(), spec=motions, progress=progress)
    return {split: Manifest.from_folder(folder, split=split) for split in _SPLITS}


def _folder(spec: DataSpec, progress: Callable[[int, int], None] | None) -> dict[Split, Manifest]:
    assert spec.root is not None
    return {split: Manifest.from_folder(spec.root, split=split, seed=spec.seed) for split in _SPLITS}


def _kinetics400(spec: DataSpec, progress: Callable[[int, int], None] | None) -> dict[Split, Manifest]:
    assert spec.root is not None
    read = partial(Manifest.from_kinetics, spec.root)
    train = read(split="train", annotation=_file(spec.train), classes_file=spec.classes)
    # A validation file that lacks a class must not number the others anew.
    val = read(split="val", annotation=_file(spec.val), classes=train.classes)
    return {"train": train, "val": val, "test": val}


def _file(value: str | int | None) -> str | None:
    return None if value is None else str(value)


_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_SIDES = frozenset({"left", "right", "leftward", "rightward", "leftwards", "rightwards", "lefthand", "righthand"}) | {
    "clockwise", "counterclockwise", "anticlockwise", "cw", "ccw",
}  # fmt: skip
_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_READERS = {"motions": _motions, "folder": _folder, "kinetics400": _kinetics400}
