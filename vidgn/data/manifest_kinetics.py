"""Read the official Kinetics annotation files and find the videos in the layouts people keep them in.

    label,youtube_id,time_start,time_end,split       ->  ID_SSSSSS_EEEEEE.mp4 (seconds, six digits)
    abseiling,-3B32lodo2M,59,69,train                ->  -3B32lodo2M_000059_000069.mp4

The videos lie flat or in a folder per class (spaces as they are, or written as underscores) in one of: the
root, `train/` (the split), `train_256/`, `videos/`, `videos/train/`, `videos_train/`.
"""

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vidgn.data.manifest_listing import Folders
from vidgn.data.manifest_rows import VIDEO_SUFFIXES, BadRow, Rows, RowsBuilder, decode_lines, read_lines
from vidgn.data.remote import is_url

_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_SPLIT_WORDS = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}
_BASES = ("", "{split}", "{split}_256", "videos", "videos/{split}", "videos_{split}")


class _Annotation(NamedTuple):
    """One row: the class name, the file name without its suffix, and the line it stood in."""

    label: str
    stem: str
    row: int


def read_kinetics(file: Path, *, root: str, split: str | None, classes: Sequence[str] | None) -> Rows:
    """Read an annotation file; see `Manifest.from_kinetics_csv`."""
    builder = RowsBuilder(str(file))
    names: set[str] = set()
    splits: Counter[str] = Counter()
    annotations: list[_Annotation] = []
    for annotation, word in _annotations(file, builder):
        names.add(annotation.label)
        splits[word] += 1
        if split is None or not word or word in _SPLIT_WORDS[split]:
            annotations.append(annotation)
    known = tuple(sorted(names)) if classes is None else tuple(classes)
    _check_labels(annotations, known, builder)
    builder.errors.raise_if_any()
    if splits and not annotations:
        raise ValueError(f"{file} has no row of split {split!r}; it has {dict(splits)}")
    found, layouts = _locate(annotations, known, root=root, split=split)
    index_of = {name: index for index, name in enumerate(known)}
    builder.extend(found, [index_of[a.label] for a in annotations], [a.row for a in annotations])
    dropped = sum(splits.values()) - len(annotations)
    notes = [f"{dropped:,} rows of other splits are left out"] if dropped else []
    return builder.finish(known, [*notes, layouts])


def read_stems(file: Path) -> list[str]:
    """Return the file names without suffix of all rows of an annotation file.

    Raises:
        ValueError: Wrong header or rows; all are listed with their row numbers.
    """
    builder = RowsBuilder(str(file))
    stems = [annotation.stem for annotation, _ in _annotations(file, builder)]
    builder.errors.raise_if_any()
    return stems


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


def _annotations(file: Path, builder: RowsBuilder) -> Iterator[tuple[_Annotation, str]]:
    """Yield each row and the word in its column `split` ("" where there is none)."""
    column: dict[str, int] | None = None
    for first, block in read_lines(file):
        for row, line in decode_lines(first, block, errors=builder.errors):
            try:
                fields = next(csv.reader([line], strict=True))
                if column is None:
                    column = _columns(fields, file)
                else:
                    yield (
                        _annotation(fields, column, row),
                        fields[column["split"]] if "split" in column else "",
                    )
            except (csv.Error, BadRow) as err:
                builder.errors.add(row, str(err))


def _columns(header: list[str], file: Path) -> dict[str, int]:
    column = {name.strip().lower(): place for place, name in enumerate(header)}
    missing = [name for name in _COLUMNS if name not in column]
    if missing == ["label"]:
        raise ValueError(
            f"{file} has no column label: some copies of the Kinetics test split are unlabelled and cannot "
            "be scored; use the val split"
        )
    if missing:
        raise ValueError(f"{file} must begin with the header {','.join(_COLUMNS)},split; it begins with {header}")
    return column


def _annotation(fields: list[str], column: dict[str, int], row: int) -> _Annotation:
    if len(fields) != len(column):
        raise BadRow(f"{len(fields)} columns, the header has {len(column)}")
    label, video, start, end = (fields[column[name]].strip() for name in _COLUMNS)
    if not label or not video:
        raise BadRow("no label" if not label else "no youtube_id")
    if {"/", "\0"} & set(label + video) or video.startswith("."):
        raise BadRow(f"label {label!r} or youtube_id {video!r} holds a character that no file name can have")
    try:
        first, last = int(float(start)), int(float(end))
    except (ValueError, OverflowError):
        raise BadRow(f"time_start {start!r} and time_end {end!r} must be seconds") from None
    if not 0 <= first < last <= 999_999:
        raise BadRow(f"time_start {start} must be 0 or more and less than time_end {end}")
    return _Annotation(label, f"{video}_{first:06d}_{last:06d}", row)


def _check_labels(annotations: list[_Annotation], known: tuple[str, ...], builder: RowsBuilder) -> None:
    """Report labels that are no class, and videos that have two labels."""
    allowed = set(known)
    seen: dict[str, _Annotation] = {}
    for annotation in annotations:
        if annotation.label not in allowed:
            builder.errors.add(annotation.row, f"label {annotation.label!r} is not one of the {len(known)} classes")
        earlier = seen.setdefault(annotation.stem, annotation)
        if earlier.label != annotation.label:
            labels = f"{annotation.label!r} here and {earlier.label!r} in row {earlier.row}"
            builder.errors.add(annotation.row, f"{annotation.stem} has label {labels}")


class _Place(NamedTuple):
    """A folder in which videos of one class may lie."""

    folder: str  # relative to the root
    layout: str  # the same for every class: train/CLASS/ID.mp4
    files: dict[str, str]  # name without suffix -> name


def _locate(
    annotations: list[_Annotation], classes: tuple[str, ...], *, root: str, split: str | None
) -> tuple[list[str], str]:
    """Return the name of each video below the root, and a sentence that says where they lie.

    A video that is nowhere gets the name it would have where most others are.
    """
    places = _places(classes, root=root, split=split)
    counts: Counter[str] = Counter()
    names: list[str | None] = []
    for label, stem, _ in annotations:
        place = next((place for place in places[label] if stem in place.files), None)
        names.append(None if place is None else os.path.join(place.folder, place.files[stem]))
        counts.update(() if place is None else (place.layout,))
    usual = max(counts, key=lambda layout: counts[layout], default="ID.mp4")
    for index, annotation in enumerate(annotations):
        if names[index] is None:
            names[index] = _expected_name(annotation, places[annotation.label], usual)
    where = ", ".join(f"{layout} ({count:,})" for layout, count in counts.most_common())
    return [name for name in names if name is not None], f"videos found: {where or 'none'}"


def _places(classes: tuple[str, ...], *, root: str, split: str | None) -> dict[str, list[_Place]]:
    folders = Folders(root)
    splits = [split] if split else list(_SPLIT_WORDS)
    bases = dict.fromkeys(base.format(split=word) for name in splits for word in _SPLIT_WORDS[name] for base in _BASES)
    stems = _Stems(folders)
    places: dict[str, list[_Place]] = {}
    for label in classes:
        places[label] = found = []
        for base in bases:
            for name in dict.fromkeys((label, label.replace(" ", "_"))):
                if name in folders[base].folders:
                    folder = os.path.join(base, name)
                    found.append(_Place(folder, os.path.join(base, "CLASS/ID.mp4"), stems[folder]))
            if stems[base]:
                found.append(_Place(base, os.path.join(base, "ID.mp4"), stems[base]))
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


def _expected_name(annotation: _Annotation, places: list[_Place], layout: str) -> str:
    folder = next((place.folder for place in places if place.layout == layout), None)
    if folder is None:
        folder = os.path.dirname(layout).replace("CLASS", annotation.label)
    return os.path.join(folder, f"{annotation.stem}.mp4")
