"""Which videos and which views, as records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vidgn.data.clips import ClipRule
from vidgn.data.readers.types import Backend

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
PICTURES = ("images", "exposures")  # data sets of pictures, for task=image


@dataclass(frozen=True)
class DataSpec:
    """Which videos, and how they are read.

    Attributes:
        name: motions, folder, csv, frames or kinetics400; of pictures: exposures or images.
        root: folder of the videos; for motions and exposures the cache folder (None: `cache_folder()`).
        train: for kinetics400 the annotation file or path-label list (None: looked for under root); for
            motions and exposures the number per class.
        val: the same for validation, which is also the test of kinetics400.
        test: for motions the videos per class.
        classes: file with class names, for lists whose labels are numbers.
        seed: of the drawn split, or of the pixels of motions.
        flip: mirror half of the training clips; None decides by the class names (`mirror_changes`).
        backend: the decoder.
        num_workers: reading processes; None chooses from the cores.
        clips_per_video: training clips cut from one opening of a video.
        deadline_seconds: how long decoding one video may take; None: for ever.
        max_share: largest share of the training videos that may be bad.
        strict: the first unreadable video stops training, validation and test.
        passport: file of `vidgn scan`; what it does not call ok is left out of training and validation.
        shards: of shards, where the tars are; see `vidgn.data.manifests.shards.read_shards`.
        min_area: smallest part of a picture that a training view shows; of pictures alone.
        file: of csv, the table of all videos; train, val and test are tables of their own.
        columns: of csv, the names of the columns path, label, split, group, start and end, or their numbers; a list
            of columns of labels, one for each head.
        unit: of csv, the unit of start and end: seconds or frames.
        suffix: of csv, added to each path.
        label_separator: of csv, what stands between several labels of a video; None: each has one.
        group: column, or pattern of names, of videos that stay together in a drawn split.
        fold: which part is the test of a cross-validation; None: no cross-validation.
        folds: its number of parts, or groups.
        images: of frames, the names of the images; see `vidgn.data.storage.excerpt.ImageFolder`.
        image_fps: of frames, images per second.
        gaps: of frames, whether missing numbers make a video unreadable (error) or are closed (close).
        time: what a span counts: frames of the file, or frames at a constant rate (seconds).
        fps: with seconds, this rate; None: the mean rate of each video.
        first_label: of lists of kinetics400, the number of the first class.
        opposites: of motions, whether those that differ in their direction alone are classes of their own.
        intersect: passport or published list; the test scores only what it names too.
    """

    name: str
    root: str | None = None
    train: str | int | None = None
    val: str | int | None = None
    test: str | int | None = None
    classes: str | None = None
    seed: int = 0
    flip: bool | None = None
    backend: Backend = "pyav"
    num_workers: int | None = None
    clips_per_video: int = 1
    deadline_seconds: float | None = 30.0
    max_share: float = 0.01
    strict: bool = False
    passport: str | None = None
    intersect: str | None = None
    shards: str | None = None
    min_area: float = 0.08
    opposites: Literal["apart", "together"] = "apart"
    file: str | None = None
    columns: Mapping[str, str | int | list[str] | None] | None = None
    unit: Literal["seconds", "frames"] = "seconds"
    suffix: str | None = None
    label_separator: str | None = None
    group: str | None = None
    fold: int | None = None
    folds: int | str = 5
    images: str | None = None
    image_fps: float = 30.0
    gaps: Literal["error", "close"] = "error"
    time: Literal["frames", "seconds"] = "frames"
    fps: float | None = None
    first_label: int = 0


@dataclass(frozen=True)
class ViewSpec:
    """Which views of a video the test scores.

    Attributes:
        num_clips: clips per video.
        num_crops: crops per clip; `full` is the whole frame.
        clip_rule: which frames the clips hold; see `vidgn.data.clips.clip_frames`.
    """

    num_clips: int = 10
    num_crops: Literal[1, 3, "full"] = 3
    clip_rule: ClipRule = "nonlocal"

    @property
    def num_views(self) -> int:
        """Views per video."""
        return self.num_clips * (1 if self.num_crops == "full" else self.num_crops)
