"""Read the official Kinetics annotation files and find the videos in the layouts people keep them in.

    label,youtube_id,time_start,time_end,split       ->  ID_SSSSSS_EEEEEE.mp4 (seconds, six digits)
    abseiling,-3B32lodo2M,59,69,train                ->  -3B32lodo2M_000059_000069.mp4

The videos lie flat or in a folder per class (spaces as they are, or written as underscores) in one of: the
root, `train/` (the split), `train_256/`, `videos/`, `videos/train/`, `videos_train/`.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vidgn.data.manifests.kinetics_rows import Annotations, Block
from vidgn.data.manifests.listing import Folders
from vidgn.data.manifests.rows import VIDEO_SUFFIXES, RowErrors, Rows, RowsBuilder
from vidgn.data.storage.remote import is_url

_SPLIT_WORDS = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}
_BASES = ("", "{split}", "{split}_256", "videos", "videos/{split}", "videos_{split}")


def read_kinetics(file: Path, *, root: str, split: str | None, classes: Sequence[str] | None) -> Rows:
    """Read an annotation file; see `Manifest.from_kinetics_csv`."""
    annotations = Annotations(file, words=None if split is None else _SPLIT_WORDS[split])
    blocks, labels, splits, errors = (
        annotations.blocks,
        list(annotations.labels),
        annotations.splits,
        annotations.errors,
    )
    known = tuple(sorted(labels)) if classes is None else tuple(classes)
    _check_labels(blocks, labels, known, errors)
    _check_stems(blocks, labels, errors)
    errors.raise_if_any()
    if splits and not blocks:
        raise ValueError(f"{file} has no row of split {split!r}; it has {dict(splits)}")
    dropped = splits.total() - sum(len(block.rows) for block in blocks)
    notes = [f"{dropped:,} rows of other splits are left out"] if dropped else []
    builder = RowsBuilder(str(file))
    layouts = _locate(blocks, labels, known, builder, root=root, split=split)
    return builder.finish(known, [*notes, layouts])


def read_stems(file: Path) -> list[str]:
    """Return the file names without suffix of all rows of an annotation file.

    Raises:
        ValueError: Wrong header or rows; all are listed with their row numbers.
    """
    annotations = Annotations(file)
    annotations.errors.raise_if_any()
    return [stem for block in annotations.blocks for stem in block.stems]


def find_annotation(root: str, *, split: str) -> Path:
    """Return the annotation file or list of a split in the root or its folder `annotations`.

    Raises:
        FileNotFoundError: There is none; the message lists the names that are looked for.
    """
    if is_url(root):
        raise FileNotFoundError(
            f"no annotation file of split {split!r} is given, and {root} is an address; give a file of this machine "
            f"(data.{split}=FILE)"
        )
    names = [
        pattern.format(split=word)
        for word in _SPLIT_WORDS[split]
        for pattern in (
            "{split}.csv",
            "kinetics400_{split}.csv",
            "kinetics400_{split}_list_videos.txt",
            "{split}.txt",
        )
    ]
    for folder in (Path(root), Path(root) / "annotations"):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    raise FileNotFoundError(
        f"no annotation file of split {split!r} in {root} or {root}/annotations; looked for "
        f"{', '.join(names)}; put it there or name it"
    )


def _check_labels(blocks: list[Block], labels: list[str], known: tuple[str, ...], errors: RowErrors) -> None:
    """Report labels that are not classes."""
    allowed = set(known)
    wrong = np.array([label not in allowed for label in labels], dtype=bool)
    for block in blocks if wrong.any() else ():
        bad = wrong[block.labels]
        for row, label in zip(block.rows[bad].tolist(), block.labels[bad].tolist(), strict=True):
            errors.add(row, f"label {labels[label]!r} is not one of the {len(known)} classes")


def _check_stems(blocks: list[Block], labels: list[str], errors: RowErrors) -> None:
    """Report videos that have two labels; equal hashes are compared in full."""
    hashes = np.concatenate(
        [np.zeros(0, np.int64), *(np.fromiter(map(hash, b.stems), np.int64, len(b.rows)) for b in blocks)]
    )
    order = np.sort(hashes)
    repeated = set(order[1:][np.diff(order) == 0].tolist())
    first: dict[str, tuple[int, int]] = {}
    for block in blocks if repeated else ():
        for stem, label, row in zip(block.stems, block.labels.tolist(), block.rows.tolist(), strict=True):
            if hash(stem) not in repeated:
                continue
            earlier, where = first.setdefault(stem, (label, row))
            if earlier != label:
                text = f"{labels[label]!r} here and {labels[earlier]!r} in row {where}"
                errors.add(row, f"{stem} has label {text}")


class _Place(NamedTuple):
    """A folder in which videos of one class may lie."""

    folder: str  # relative to the root
    layout: str  # the same for every class: train/CLASS/ID.mp4
    files: dict[str, str]  # name without suffix -> name


def _locate(
    blocks: list[Block],
    labels: list[str],
    known: tuple[str, ...],
    builder: RowsBuilder,
    *,
    root: str,
    split: str | None,
) -> str:
    """Add the name of each video below the root; return a sentence that says where they lie. Blocks are used up.

    A video that is nowhere gets the name it would have where most others are.
    """
    by_label = _places(tuple(labels), root=root, split=split)
    places = [by_label[label] for label in labels]
    counts: Counter[str] = Counter()
    paths = [_found(block, places, counts) for block in blocks]
    usual = max(counts, key=lambda layout: counts[layout], default="ID.mp4")
    expected = [_expected_folder(label, there, usual) for label, there in zip(labels, places, strict=True)]
    class_of = np.array([known.index(label) if label in known else -1 for label in labels])
    blocks.reverse()
    for names in paths:
        block = blocks.pop()  # its memory is needed for the names
        beginnings = map(expected.__getitem__, block.labels.tolist())
        whole = [f"{beginning}{stem}.mp4" for beginning, stem in zip(beginnings, block.stems, strict=True)]
        if names is not None:
            whole = [other if name is None else name for name, other in zip(names, whole, strict=True)]
        builder.extend(whole, class_of[block.labels], block.rows)
    where = ", ".join(f"{layout} ({count:,})" for layout, count in counts.most_common())
    return f"videos found: {where or 'none'}"


def _found(block: Block, places: list[list[_Place]], counts: Counter[str]) -> list[str | None] | None:
    """Return the name of each video that is there, and count the layouts; None where no folder holds any."""
    if not any(place.files for label in np.unique(block.labels).tolist() for place in places[label]):
        return None
    names: list[str | None] = []
    for label, stem in zip(block.labels.tolist(), block.stems, strict=True):
        place = next((place for place in places[label] if stem in place.files), None)
        names.append(None if place is None else os.path.join(place.folder, place.files[stem]))
        if place is not None:
            counts[place.layout] += 1
    return names


def _places(classes: tuple[str, ...], *, root: str, split: str | None) -> dict[str, list[_Place]]:
    folders = Folders(root)
    splits = [split] if split else list(_SPLIT_WORDS)
    bases = dict.fromkeys(base.format(split=word) for name in splits for word in _SPLIT_WORDS[name] for base in _BASES)
    stems = _Stems(folders)
    places: dict[str, list[_Place]] = {}
    for label in classes:
        places[label] = candidates = []
        for base in bases:
            for name in dict.fromkeys((label, label.replace(" ", "_"))):
                if name in folders[base].folders:
                    folder = os.path.join(base, name)
                    candidates.append(_Place(folder, os.path.join(base, "CLASS/ID.mp4"), stems[folder]))
            if stems[base]:
                candidates.append(_Place(base, os.path.join(base, "ID.mp4"), stems[base]))
    return places


class _Stems(dict[str, dict[str, str]]):
    """folder -> {file name without suffix: file name} of its videos."""

    def __init__(self, folders: Folders) -> None:
        super().__init__()
        self._folders = folders

    def __missing__(self, folder: str) -> dict[str, str]:
        files = sorted(self._folders[folder].files)
        self[folder] = {stem: stem + end for stem, end in map(os.path.splitext, files) if end.lower() in VIDEO_SUFFIXES}
        return self[folder]


def _expected_folder(label: str, places: list[_Place], layout: str) -> str:
    """Return what stands before the file name of a missing video: nothing, or its folder and a slash."""
    folder = next((place.folder for place in places if place.layout == layout), None)
    if folder is None:
        folder = os.path.dirname(layout).replace("CLASS", label)
    return os.path.join(folder, "")
