"""Which videos: from the options `data.*` to the manifest of each split."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vidgn.data.manifests.classes import read_classes
from vidgn.data.manifests.drawn_split import SplitRecord
from vidgn.data.manifests.image_folder import read_picture_folders
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.manifests.shards import read_shards
from vidgn.data.spec import PICTURES, SPLITS, DataSpec, Split
from vidgn.data.storage.excerpt import ImageFolder
from vidgn.data.synthetic.exposures import ExposuresSpec, prepare_exposures
from vidgn.data.synthetic.motions import MotionsSpec, prepare_motions
from vidgn.data.synthetic.opposites import join_opposites
from vidgn.data.synthetic.root import check_drawing_root
from vidgn.data.tables.labels import label_columns
from vidgn.data.tables.splits import DrawRule, divide_listed, read_csv_splits
from vidgn.data.tables.tree import read_tree
from vidgn.data.tables.videos import ListFormat


def cache_folder() -> Path:
    """Return the folder of the embedded data sets: $VIDGN_CACHE, or ~/.cache/vidgn.

    Raises:
        OSError: this user has no home folder.
    """
    try:
        return Path(os.environ.get("VIDGN_CACHE") or "~/.cache/vidgn").expanduser()
    except RuntimeError as err:
        raise OSError("this user has no home folder for data sets; set VIDGN_CACHE=DIR") from err


def read_manifests(
    spec: DataSpec,
    *,
    splits: Sequence[Split] = SPLITS,
    num_classes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    record: SplitRecord | None = None,
) -> dict[Split, Manifest]:
    """Find the videos; motions are written first where they are not there yet.

    Args:
        spec: the data set.
        splits: those that are used; lists of others need not be there. Without train, the classes are those that the
            split itself names.
        num_classes: of the labels of a list of numbers without names, where train is not asked for.
        progress: called with (videos done, videos in all) while motions are written.
        record: of an earlier run: a drawn split keeps to it.

    Raises:
        ValueError: an unknown name, or a root that is missing or does not hold such a data set.
        OSError: a folder or file that cannot be read.
    """
    if spec.name not in _READERS:
        raise ValueError(f"data.name ({spec.name}) is unknown; use one of {', '.join(_READERS)}.")
    if spec.name not in _EMBEDDED and not spec.root:
        kind = "pictures" if spec.name in PICTURES else "videos"
        raise ValueError(f"data={spec.name} needs the folder of the {kind}; set data.root=DIR.")
    return _timed(_READERS[spec.name](spec, _Wanted(tuple(splits), num_classes, progress, record)), spec)


def mirror_changes(classes: Sequence[str]) -> list[str]:
    """Return the classes whose names say that a mirror image is another class.

    >>> mirror_changes(["jump", "turn left", "TurnRight", "spin_clockwise", "bright"])
    ['turn left', 'TurnRight', 'spin_clockwise']
    """
    return [name for name in classes if any(word.lower() in _SIDES for word in _WORD.findall(name))]


class _Wanted(NamedTuple):
    splits: tuple[Split, ...]
    num_classes: int | None
    progress: Callable[[int, int], None] | None
    record: SplitRecord | None


def _motions(spec: DataSpec, wanted: _Wanted) -> dict[Split, Manifest]:
    if spec.opposites not in ("apart", "together"):
        raise ValueError(
            f"data.opposites ({spec.opposites}) must be apart (12 classes) or together (7); set one of them."
        )
    motions = MotionsSpec(**_sizes(spec), seed=spec.seed)
    if spec.root:
        check_drawing_root(spec.root, data="motions")
    folder = prepare_motions(spec.root or cache_folder(), spec=motions, progress=wanted.progress)
    manifests = {split: Manifest.from_folder(folder, split=split) for split in wanted.splits}
    return manifests if spec.opposites == "apart" else {split: join_opposites(manifests[split]) for split in manifests}


def _exposures(spec: DataSpec, wanted: _Wanted) -> dict[Split, Manifest]:
    exposures = ExposuresSpec(**_sizes(spec), seed=spec.seed)
    if spec.root:
        check_drawing_root(spec.root, data="exposures")
    folder = prepare_exposures(spec.root or cache_folder(), spec=exposures, progress=wanted.progress)
    return read_picture_folders(folder, splits=wanted.splits)


def _sizes(spec: DataSpec) -> dict[str, int]:
    """Return the numbers of videos per class of an embedded data set."""
    counts = (("train", spec.train), ("val", spec.val), ("test", spec.test))
    return {split: int(value) for split, value in counts if value is not None}


def _images(spec: DataSpec, wanted: _Wanted) -> dict[Split, Manifest]:
    assert spec.root is not None
    return read_picture_folders(spec.root, splits=wanted.splits)


def _folder(spec: DataSpec, wanted: _Wanted) -> dict[Split, Manifest]:
    assert spec.root is not None
    if spec.group is not None or spec.fold is not None:
        return {**divide_listed(read_tree(spec.root, images=None), _draw_rule(spec, wanted), splits=wanted.splits)}
    read = partial(Manifest.from_folder, spec.root, seed=spec.seed, record=wanted.record)
    return {split: read(split=split) for split in wanted.splits}


def _kinetics400(spec: DataSpec, wanted: _Wanted) -> dict[Split, Manifest]:
    assert spec.root is not None
    read = partial(Manifest.from_kinetics, spec.root, first_label=spec.first_label)
    manifests: dict[Split, Manifest] = {}
    if "train" in wanted.splits:
        manifests["train"] = read(split="train", annotation=_file(spec.train), classes_file=spec.classes)
        # A validation file that lacks a class must not shift the indices of the others.
        val = read(split="val", annotation=_file(spec.val), classes=manifests["train"].classes)
    else:
        val = read(split="val", annotation=_file(spec.val), classes_file=spec.classes, num_classes=wanted.num_classes)
    return {split: manifests.get(split, val) for split in wanted.splits}


def _shards(spec: DataSpec, wanted: _Wanted) -> dict[Split, Manifest]:
    if not spec.shards:
        raise ValueError("data=shards needs the tars; set data.shards=DIR, or a pattern such as DIR/SPLIT-*.tar.")
    return {split: read_shards(spec.shards, split=split, classes_file=spec.classes) for split in wanted.splits}


def _csv(spec: DataSpec, wanted: _Wanted) -> dict[Split, Manifest]:
    return _tables(spec, wanted, images=None)


def _frames(spec: DataSpec, wanted: _Wanted) -> dict[Split, Manifest]:
    if spec.gaps not in ("error", "close"):
        raise ValueError(f"data.gaps ({spec.gaps}) must be error or close.")
    if not spec.image_fps > 0:
        raise ValueError(f"data.image_fps ({spec.image_fps}) must be positive; set data.image_fps=30.")
    images = ImageFolder(spec.images, fps=spec.image_fps, gaps=spec.gaps)
    if spec.file or spec.train or spec.val or spec.test:
        return _tables(spec, wanted, images=images)
    if not spec.root:
        raise ValueError("data=frames needs the folder of the videos or a table; set data.root=DIR or data.file=TABLE.")
    return {**divide_listed(read_tree(spec.root, images=images), _draw_rule(spec, wanted), splits=wanted.splits)}


def _tables(spec: DataSpec, wanted: _Wanted, *, images: ImageFolder | None) -> dict[Split, Manifest]:
    tables = {name: _file(getattr(spec, name)) for name in ("file", *SPLITS)}
    columns = label_columns(spec.columns or {})
    if _is_column(spec.group):
        columns["group"] = spec.group
        spec = replace(spec, group=None)
    form = ListFormat(
        root=spec.root, columns=columns, unit=spec.unit, suffix=spec.suffix or "", images=images,
        separator=_separator(spec.label_separator),
        classes=None if spec.classes is None else read_classes(Path(spec.classes)),
    )  # fmt: skip
    given = {name: table for name, table in tables.items() if table is not None}
    return {**read_csv_splits(given, form, _draw_rule(spec, wanted), splits=wanted.splits)}


def _draw_rule(spec: DataSpec, wanted: _Wanted) -> DrawRule:
    return DrawRule(seed=spec.seed, group=spec.group, fold=spec.fold, folds=spec.folds, record=wanted.record)


def _separator(separator: str | None) -> str | None:
    if separator is not None and (not separator or separator.isalnum()) and separator not in _SEPARATORS:
        raise ValueError(
            f"data.label_separator ({separator}) must be one of {', '.join(_SEPARATORS)}, or a quoted character; leave "
            "it out where a video has one label."
        )
    return None if separator is None else _SEPARATORS.get(separator, separator)


def _is_column(group: str | None) -> bool:
    """Whether `data.group` is the name of a column, not a pattern."""
    return group is not None and re.fullmatch(r"\w+", group) is not None


def _timed(manifests: dict[Split, Manifest], spec: DataSpec) -> dict[Split, Manifest]:
    """Apply `data.time` and `data.fps`: at which rate the videos are read.

    Raises:
        ValueError: They are out of range, or a rate is given for frames.
    """
    if spec.time not in ("frames", "seconds"):
        raise ValueError(f"data.time ({spec.time}) must be frames or seconds.")
    if spec.time == "frames":
        if spec.fps is not None:
            raise ValueError(f"data.fps ({spec.fps:g}) is a rate in seconds; set data.time=seconds, or leave it out.")
        return manifests
    if spec.fps is not None and not spec.fps > 0:
        raise ValueError(f"data.fps ({spec.fps:g}) must be positive, or null for the rate of each video.")
    return {split: replace(manifest, fps=spec.fps or 0.0) for split, manifest in manifests.items()}


def _file(value: str | int | None) -> str | None:
    return None if value is None else str(value)


_SEPARATORS = {"semicolon": ";", "comma": ",", "bar": "|", "space": " "}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_SIDES = frozenset({"left", "right", "leftward", "rightward", "leftwards", "rightwards", "lefthand", "righthand"}) | {
    "clockwise", "counterclockwise", "anticlockwise", "cw", "ccw",
}  # fmt: skip
_READERS = {
    "motions": _motions, "folder": _folder, "kinetics400": _kinetics400, "images": _images,
    "exposures": _exposures, "shards": _shards, "csv": _csv, "frames": _frames,
}  # fmt: skip
_EMBEDDED = ("motions", "exposures", "shards", "csv", "frames")  # without a root
