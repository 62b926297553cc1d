"""The splits of `data=csv`: those of the table, files of their own, or drawn ones; groups are never divided."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidgn.data.manifests.drawn_split import SplitRecord
from vidgn.data.manifests.excerpts import ExcerptManifest
from vidgn.data.manifests.manifest import Split
from vidgn.data.tables.groups import FRACTIONS, divide, fold_parts, groups_by_pattern
from vidgn.data.tables.videos import Listed, ListFormat, read_csv

_SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class DrawRule:
    """How videos are divided where no list says it.

    Attributes:
        seed: Of the order.
        group: Pattern of the names of videos that stay together; None: the column group, or each by itself.
        fold: Which fold is the test; None: no cross-validation.
        folds: How many, or `groups`: each group in turn.
        record: Of an earlier run, to which a drawn split keeps.
    """

    seed: int = 0
    group: str | None = None
    fold: int | None = None
    folds: int | str = 5
    record: SplitRecord | None = None


def read_csv_splits(
    files: Mapping[str, str], form: ListFormat, rule: DrawRule, *, splits: Sequence[Split]
) -> dict[Split, ExcerptManifest]:
    """Read the splits of one table, or of one table per split.

    Args:
        files: `{"file": PATH}` or `{"train": PATH, "val": PATH, "test": PATH}`, of which val and test may be missing.
        form: How the rows are read.
        rule: How splits are drawn.
        splits: Those that are wanted.

    Raises:
        ValueError: Both kinds of files are given, or none of a wanted split; and as `read_csv`.
    """
    if ("file" in files) == bool(files.keys() & set(_SPLITS)):
        raise ValueError("data=csv needs data.file=TABLE, or data.train=TABLE and perhaps data.val and data.test.")
    if "file" in files:
        return divide_listed(read_csv(Path(files["file"]).expanduser(), form), rule, splits=splits)
    if rule.fold is not None:
        raise ValueError(f"data.fold ({rule.fold}) divides one table; give data.file instead of data.train.")
    return _of_several(files, form, rule, splits=splits)


def divide_listed(listed: Listed, rule: DrawRule, *, splits: Sequence[Split]) -> dict[Split, ExcerptManifest]:
    """Return the wanted splits of a list: the folds that the rule names, those that the list has, or drawn ones.

    Raises:
        ValueError: A split would have no video.
    """
    manifest = _grouped(listed, rule)
    listed = dataclasses.replace(listed, manifest=manifest)
    if rule.fold is not None:
        groups = _groups(listed, rule)
        parts = fold_parts(manifest.labels, groups, folds=rule.folds, fold=rule.fold, seed=rule.seed)
        note = f"fold {rule.fold} of {rule.folds}: the test is that part, validation the next one"
        return {split: manifest.select(np.flatnonzero(parts == _SPLITS.index(split))).noted(note) for split in splits}
    if listed.splits is None:
        groups = _groups(listed, rule)
        parts = divide(manifest.labels, groups, shares=FRACTIONS, seed=rule.seed)
        parts = _as_recorded(parts, manifest, groups, rule.record)
        note = f"there are no splits: train, val and test are drawn with seed {rule.seed}, fractions {FRACTIONS}"
        manifest = dataclasses.replace(manifest, drawn_seed=rule.seed).noted(note)
        return {split: _part(manifest, np.flatnonzero(parts == _SPLITS.index(split)), split) for split in splits}
    given = np.array([_SPLITS.index(split) for split in listed.splits], np.int64)
    rows = {split: np.flatnonzero(given == number) for number, split in enumerate(_SPLITS)}
    return _completed(listed, rows, rule, splits=splits)


def _completed(
    listed: Listed, rows: dict[Split, NDArray[np.int64]], rule: DrawRule, *, splits: Sequence[Split]
) -> dict[Split, ExcerptManifest]:
    """Draw validation videos from those of training where there are none; without test videos val is the test."""
    manifest = listed.manifest
    if not len(rows["train"]) and "train" in splits:
        raise ValueError(f"{manifest.root}: no row has the split train; training needs some")
    notes = []
    if not len(rows["val"]) and len(rows["train"]) and len(rows["test"]):
        train, groups = rows["train"], _groups(listed, rule)
        parts = divide(manifest.labels[train], [groups[row] for row in train], shares=(0.85, 0.15), seed=rule.seed)
        rows["train"], rows["val"] = train[parts == 0], train[parts == 1]
        notes.append(f"no row has the split val: it is drawn from train with seed {rule.seed}, a share of 0.15")
    if not len(rows["test"]):
        rows["test"] = rows["val"]
        notes.append("no row has the split test: the test split is val")
    for note in notes:
        manifest = manifest.noted(note)
    return {split: _part(manifest, rows[split], split) for split in splits}


def _of_several(
    files: Mapping[str, str], form: ListFormat, rule: DrawRule, *, splits: Sequence[Split]
) -> dict[Split, ExcerptManifest]:
    listed: dict[Split, Listed] = {}
    for split in _SPLITS:
        needed = split in splits or (split == "train" and "val" in splits and "val" not in files)
        if split in files and needed:
            listed[split] = read_csv(Path(files[split]).expanduser(), form)
            if split == "train" and form.classes is None:
                of = listed[split].manifest
                form = dataclasses.replace(form, classes=of.classes, labels_are_names=True, targets=of.targets)
    if "test" in splits and "test" not in files and "val" in files:
        listed.setdefault("val", read_csv(Path(files["val"]).expanduser(), form))
    if "train" in splits and "train" not in listed:
        raise ValueError("data=csv has no training videos; give data.train=TABLE.")
    listed = {split: dataclasses.replace(of, manifest=_grouped(of, rule)) for split, of in listed.items()}
    manifests = {split: of.manifest for split, of in listed.items()}
    if "val" not in manifests and "train" in manifests and "val" in splits:
        train = listed["train"]
        parts = divide(train.manifest.labels, _groups(train, rule), shares=(0.85, 0.15), seed=rule.seed)
        note = f"data.val is not given: it is drawn from train with seed {rule.seed}, a share of 0.15"
        for number, split in enumerate(_SPLITS[:2]):
            manifests[split] = _part(train.manifest.noted(note), np.flatnonzero(parts == number), split)
    if "test" in splits and "test" not in manifests:
        if "val" not in manifests:
            raise ValueError("data=csv has no test videos; give data.test=TABLE or data.val=TABLE.")
        manifests["test"] = manifests["val"].noted("data.test is not given: the test split is val")
    return {split: manifests[split] for split in splits}


def _as_recorded(
    parts: NDArray[np.int64], manifest: ExcerptManifest, groups: Sequence[str], record: SplitRecord | None
) -> NDArray[np.int64]:
    """Return the parts with those of the record for every group that it knows a video of."""
    if record is None:
        return parts
    known = record.part_of([manifest.video_id(row) for row in range(len(manifest))])
    part_of = {group: part for group, part in zip(groups, known, strict=True) if part is not None}
    recorded = [_SPLITS.index(part_of[group]) if group in part_of else -1 for group in groups]
    return np.where(np.array(recorded) < 0, parts, np.array(recorded))


def _grouped(listed: Listed, rule: DrawRule) -> ExcerptManifest:
    """Return the manifest with the group of each row, where some rows are of one group."""
    groups = np.asarray(_groups(listed, rule), dtype=object).astype(str)
    names, codes = np.unique(groups, return_inverse=True)
    if len(names) == len(groups) and rule.group is None and listed.groups is None:
        return listed.manifest
    return dataclasses.replace(listed.manifest, groups=codes.reshape(-1), group_names=tuple(names.tolist()))


def _groups(listed: Listed, rule: DrawRule) -> Sequence[str]:
    """Return the group of each row: by the pattern, the column, or a group for each file."""
    manifest = listed.manifest
    files = [manifest.file_name(row) for row in range(len(manifest))]
    if rule.group is not None:
        return groups_by_pattern(files, rule.group)
    if listed.groups is None:
        return files
    return [group or f"file {name}" for group, name in zip(listed.groups, files, strict=True)]


def _part(manifest: ExcerptManifest, rows: NDArray[np.int64], split: Split) -> ExcerptManifest:
    if not len(rows):
        raise ValueError(
            f"{manifest.root}: no video is left for {split}; there are {len(manifest):,} videos, and groups are not "
            "divided: add videos or groups, or name the splits in a column"
        )
    return manifest.select(rows)
