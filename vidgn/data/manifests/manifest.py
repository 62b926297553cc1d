"""The list of videos of one split: their names, labels and classes.

A manifest keeps its names as one buffer of bytes and its labels as one array, never as Python objects per
row: a million rows take some tens of megabytes, and worker processes share them instead of copying them page
by page through reference counts (pytorch/pytorch#13246).
"""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from vidgn.data.manifests.classes import check_classes, read_classes
from vidgn.data.manifests.drawn_split import SplitRecord
from vidgn.data.manifests.folder import SPLITS, read_folder
from vidgn.data.manifests.kinetics import find_annotation, read_kinetics
from vidgn.data.manifests.listing import Folders
from vidgn.data.manifests.lists import is_kinetics_annotation, read_list
from vidgn.data.manifests.rows import Rows, RowsBuilder, check_root, clean_name
from vidgn.data.storage.excerpt import Excerpt, ImageFolder, Interval
from vidgn.data.storage.remote import is_url, url_of
from vidgn.objective.targets import ONE, Targets

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, eq=False)
class Manifest:
    """Videos and their labels.

    Attributes:
        root: Absolute path, or address, of the folder that the names are relative to.
        names: All names after one another in UTF-8, (bytes,).
        offsets: Where each name begins, and the end, (N+1,).
        labels: Class indices, (N,).
        classes: Class names in the order of their indices.
        notes: What a user should know about how this was read, one sentence each.
        drawn_seed: Seed of a split that was drawn; None where the data set has its own.
        images: How folders of images are read, where the videos are that; None: they are files.
        fps: Frames per second at which each video is read; 0: its own mean rate; None: frame by frame.
        targets: Whether a video has one class, several, or one of each head.
        sets: All class indices of each video, filled up with -1, (N,M); None: `labels` are all.
        groups: Group of each video, an index of `group_names`, (N,); None: the videos are independent.
        group_names: Of videos that stay together.
    """

    root: str
    names: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    drawn_seed: int | None = None
    images: ImageFolder | None = None
    fps: float | None = None
    targets: Targets = ONE
    sets: NDArray[np.int64] | None = None
    groups: NDArray[np.int64] | None = None
    group_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for array in (self.names, self.offsets, self.labels, self.sets, self.groups):
            if array is not None:
                array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Manifest({len(self):,} videos, {len(self.classes)} classes, root={self.root!r})"

    def video_id(self, index: int) -> str:
        """Return the name of a video relative to the root; IndexError beyond the last."""
        row = range(len(self))[index]
        return self.names[self.offsets[row] : self.offsets[row + 1]].tobytes().decode()

    def path(self, index: int) -> str:
        """Return where the video lies, with what is to be read of it where that is not the whole file."""
        file, segment = self._file(index), self.segment(index)
        if segment is None and self.images is None and self.fps is None:
            return file
        return Excerpt.of(file, segment=segment, images=self.images, fps=self.fps)

    def file_name(self, index: int) -> str:
        """Return the name of the file that a video is, or is a segment of."""
        return self.video_id(index)

    def segment(self, index: int) -> Interval | None:
        """Return the part of its file that a video is; None: the whole file."""
        return None

    def _file(self, index: int) -> str:
        name = self.file_name(index)
        return url_of(self.root, name) if is_url(self.root) else os.path.join(self.root, name)

    def label(self, index: int) -> int:
        """Return the class index of a video."""
        return int(self.labels[index])

    def label_set(self, index: int) -> tuple[int, ...]:
        """Return all class indices of a video."""
        if self.sets is None:
            return (self.label(index),)
        return tuple(label for label in self.sets[index].tolist() if label >= 0)

    def class_counts(self) -> NDArray[np.int64]:
        """Count the videos of each class, (Q,)."""
        labels = self.labels if self.sets is None else self.sets[self.sets >= 0]
        return np.bincount(labels, minlength=len(self.classes))

    def group(self, index: int) -> str | None:
        """Return the group of a video; None: there are no groups."""
        return None if self.groups is None else self.group_names[self.groups[index]]

    def missing(self) -> list[str]:
        """Return the names of the videos that are not regular files, in order.

        Each folder is listed once and no file is opened.
        """
        return [self.video_id(row) for row in self._missing_rows()]

    def without_missing(self) -> tuple[Self, list[str]]:
        """Return a manifest of the videos that exist, and the names of those that do not.

        For training alone: in validation and testing a missing video counts as failed.

        Raises:
            FileNotFoundError: Every video is missing.
        """
        rows = self._missing_rows()
        names = [self.video_id(row) for row in rows]
        if len(rows) == len(self):
            raise FileNotFoundError(missing_message(self, names))
        kept = np.setdiff1d(np.arange(len(self)), rows)
        return (self.select(kept) if names else self), names

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> Self:
        """Return a manifest of these rows, in this order, with the same classes."""
        index = np.arange(len(self))[np.asarray(rows, np.int64)]
        starts, ends = self.offsets[index], self.offsets[index + 1]
        buffer = self.names.data
        names = b"".join(buffer[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True))
        offsets = np.concatenate([np.zeros(1, np.int64), (ends - starts).cumsum()])
        return dataclasses.replace(
            self, names=np.frombuffer(names, np.uint8), offsets=offsets, labels=self.labels[index],
            sets=None if self.sets is None else self.sets[index],
            groups=None if self.groups is None else self.groups[index],
        )  # fmt: skip

    def noted(self, note: str) -> Self:
        """Return the same videos with one more note."""
        return dataclasses.replace(self, notes=(*self.notes, note))

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[str, int]], *, root: str | Path, classes: Sequence[str]) -> "Manifest":
        """Make a manifest of (name relative to root, class index) pairs.

        Raises:
            ValueError: There is no row, a label is not a class index, or a name leaves the root or has two
                labels.
        """
        base = check_root(root)
        known = check_classes(classes, source="classes")
        pairs = list(rows)
        wrong = sorted({label for _, label in pairs if not 0 <= label < len(known)})
        if wrong:
            raise ValueError(f"labels {wrong[:10]} are not in 0..{len(known) - 1}; give every label a class name")
        builder = RowsBuilder("the rows")
        names = [clean_name(name, root=base) for name, _ in pairs]
        builder.extend(names, [label for _, label in pairs], range(len(pairs)))
        return cls._of(base, builder.finish(known))

    @classmethod
    def from_folder(
        cls,
        root: str | Path,
        *,
        split: Split,
        seed: int = 0,
        fractions: Sequence[float] = (0.7, 0.15, 0.15),
        record: SplitRecord | None = None,
    ) -> "Manifest":
        """Read a folder per class; the class names are the sorted folder names.

        `root/train/CLASS/*.mp4` beside `root/val/` and perhaps `root/test/` (else the test split is val, and
        a note says so), or `root/CLASS/*.mp4`: then each class is split by itself, drawn from `seed` and the names
        in the given fractions of train, val and test, with at least one video in each. What `record` knows of an
        earlier run stays as it was there, with its seed. Splits other than train need their
        own folder alone; without `root/train/` the class names are those in it. Hidden files are ignored, files that
        are not videos are noted.

        Raises:
            FileNotFoundError, NotADirectoryError: There is no such folder.
            ValueError: The folder of the split is missing (of train: that of val too). No class folders, fewer than
                two to train, one without videos, a class that train does not know, or fewer than three videos of a
                class where the split is drawn.
        """
        _check_split(split)
        base = check_root(root)
        return cls._of(base, read_folder(base, split=split, seed=seed, fractions=fractions, record=record))

    @classmethod
    def from_kinetics_csv(
        cls,
        csv: str | Path,
        *,
        root: str | Path,
        split: Split | None = None,
        classes: Sequence[str] | None = None,
    ) -> "Manifest":
        """Read an official Kinetics annotation file (`label,youtube_id,time_start,time_end,split`).

        Files are named ID_SSSSSS_EEEEEE.mp4 and lie flat or in class folders (spaces or underscores), in the
        root or in a folder of the split; see `manifest_kinetics`. Where they were found is in the notes,
        which of them are missing tells `missing()`. `split` leaves out rows of other splits. Without
        `classes`, the class names are the sorted labels of the file, whatever the split.

        Raises:
            FileNotFoundError, NotADirectoryError: There is no such file or root.
            ValueError: Wrong header or rows (all are listed with their row numbers), no labels, no row of the
                split.
        """
        _check_split(split or "train")
        base = check_root(root)
        known = None if classes is None else check_classes(classes, source="classes")
        return cls._of(base, read_kinetics(Path(csv), root=base, split=split, classes=known))

    @classmethod
    def from_list(
        cls,
        file: str | Path,
        *,
        root: str | Path,
        classes_file: str | Path | None = None,
        classes: Sequence[str] | None = None,
        num_classes: int | None = None,
        allow_outside: bool = False,
        first_label: int = 0,
    ) -> "Manifest":
        r"""Read a list with a path and a label in each row, as PySlowFast and mmaction2 write them.

        UTF-8, with or without a BOM; rows end in `\n` or `\r\n`; blank rows are skipped. The separator is a
        space, comma or tab, found from the first rows; quotes as in csv. A first row such as `path,label` is
        a header. Paths are relative to `root` or absolute below it (`allow_outside` permits others). Labels
        are class indices, counted from `first_label`, or, where names are given (a file as in `read_classes`, or
        `classes`), class names.
        Rows that repeat are kept and noted.

        Raises:
            FileNotFoundError, NotADirectoryError: There is no such file or root.
            ValueError: Every wrong row with its number: no label, more columns, a label that is not a class, two
                labels for one path, a path that leaves the root, NUL, bytes that are not UTF-8. Or the file
                has no rows.
        """
        given = [name for name, value in _given(classes_file, classes, num_classes) if value is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} say the same; give one of them")
        base = check_root(root)
        names = read_classes(Path(classes_file)) if classes_file is not None else classes
        known = None if names is None else check_classes(names, source=str(classes_file or "classes"))
        rows = read_list(
            Path(file), root=base, classes=known, num_classes=num_classes, allow_outside=allow_outside,
            first_label=first_label,
        )  # fmt: skip
        return cls._of(base, rows)

    @classmethod
    def from_kinetics(
        cls,
        root: str | Path,
        *,
        split: Split,
        annotation: str | Path | None = None,
        classes_file: str | Path | None = None,
        classes: Sequence[str] | None = None,
        num_classes: int | None = None,
        first_label: int = 0,
    ) -> "Manifest":
        """Read a split of Kinetics from its official annotation file or from a path-label list.

        Without `annotation`, the file is looked for in the root and in `root/annotations`. `num_classes` is that of
        a list of numbers for which no names are given.

        Raises:
            FileNotFoundError: There is no annotation file; the names that are looked for are listed.
            ValueError: As from_kinetics_csv and from_list.
        """
        _check_split(split)
        file = find_annotation(check_root(root), split=split) if annotation is None else Path(annotation)
        if not is_kinetics_annotation(file):
            unnamed = num_classes if classes_file is None and classes is None else None
            return cls.from_list(
                file, root=root, classes_file=classes_file, classes=classes, num_classes=unnamed,
                first_label=first_label,
            )  # fmt: skip
        names = read_classes(Path(classes_file)) if classes_file is not None else classes
        return cls.from_kinetics_csv(file, root=root, split=split, classes=names)

    @classmethod
    def _of(cls, root: str, rows: Rows) -> "Manifest":
        return cls(root, *rows)

    def _missing_rows(self) -> list[int]:
        folders = Folders(self.root)
        missing = []
        for row in range(len(self)):
            folder, _, file = self.file_name(row).rpartition("/")
            listing = folders[folder]
            if file not in (listing.files if self.images is None else listing.folders):
                missing.append(row)
        return missing


def missing_message(manifest: Manifest, missing: Sequence[str], *, shown: int = 10) -> str:
    """Return the sentence that says how many videos are missing and names the first of them."""
    names = ", ".join(missing[:shown])
    which = "all of them" if len(missing) <= shown else f"the first {'ten' if shown == 10 else shown}"
    notes = f" ({'; '.join(manifest.notes)})" if manifest.notes else ""
    count = f"{len(missing):,} of {len(manifest):,} videos are missing in {manifest.root}"
    windows = "; paths with backslashes were written on Windows: write / in the list" if "\\" in names else ""
    return f"{count}, {which}: {names}{notes}{windows}"


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"split {split!r} must be one of {', '.join(SPLITS)}")


def _given(
    classes_file: str | Path | None, classes: Sequence[str] | None, num_classes: int | None
) -> list[tuple[str, object]]:
    return [("classes_file", classes_file), ("classes", classes), ("num_classes", num_classes)]
