"""A folder per class: `train/CLASS/*.mp4` beside `val/`, or `CLASS/*.mp4` alone with a split of our own.

Training needs train/ and val/; the test needs its own folder alone, test/ or val/.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from vidgn.data.manifests.drawn_split import SplitRecord, draw_split
from vidgn.data.manifests.listing import Folders, Listing
from vidgn.data.manifests.rows import VIDEO_SUFFIXES, Rows, RowsBuilder, is_video_name, is_visible

SPLITS = ("train", "val", "test")
FRAMES_HINT = (
    "; it holds images: if they are frames that were cut out of videos, train with data=frames, or make a video of "
    "each folder: ffmpeg -framerate 25 -i FOLDER/%05d.jpg -c:v libx264 -pix_fmt yuv420p CLIP.mp4"
)
_SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


class _ClassFolders(NamedTuple):
    """The videos of each class folder of one split, and what else lies there."""

    videos: dict[str, list[str]]  # class -> names relative to the root, sorted
    others: Counter[str]  # suffix -> files that are not videos


def read_folder(
    root: str, *, split: str, seed: int, fractions: Sequence[float], record: SplitRecord | None = None
) -> Rows:
    """Read one split of a folder per class; see `Manifest.from_folder`."""
    folders = Folders(root)
    actual = _split_folders(folders)
    present = [name for name in SPLITS if name in actual]
    if present:
        chosen = _needed(root, present, split=split)
        needed = present if split == "train" else ("train", chosen)
        by_split = {name: _class_folders(folders, actual[name]) for name in present if name in needed}
        classes = _common_classes(root, by_split, chosen=chosen)
        notes = [] if chosen == split else [f"{root} has no test/: the test split is val/"]
        notes += [f"{root}: {actual[name]}/ is taken as {name}/" for name in present if actual[name] != name]
        class_folders = by_split[chosen]
    else:
        whole = _class_folders(folders, "")
        classes = tuple(sorted(whole.videos))
        seed = seed if record is None or record.seed is None else record.seed
        known = record if record is not None and record.seed is not None else None
        drawn, note = _draw_split(root, whole.videos, split=split, seed=seed, fractions=fractions, record=known)
        class_folders, notes = whole._replace(videos=drawn), [note]
    if len(classes) < 2 and (not present or "train" in present):
        raise ValueError(f"{root} holds one class, {classes[0]!r}; a classifier needs at least two class folders")
    rows = _rows(root, class_folders, classes=classes, notes=notes)
    return rows if present else rows._replace(drawn_seed=seed)


def _split_folders(folders: Folders) -> dict[str, str]:
    """Return the folder of each split: train, val and test, also as `Train`, `training` or `validation`.

    A folder that holds videos itself is a class of that name, say of trains, unless the other splits are there too.

    Raises:
        ValueError: two folders would be one split.
    """
    by_split: dict[str, list[str]] = {}
    for name in sorted(_visible(folders[""].folders)):
        split = _SPLIT_NAMES.get(name.lower())
        if split is not None:
            by_split.setdefault(split, []).append(name)
    for names in by_split.values():
        names[:] = [name for name in names if name in SPLITS] or names
    if len(by_split) == 1 or any(name not in SPLITS for names in by_split.values() for name in names):
        for split, names in list(by_split.items()):
            classes = [name for name in names if any(map(is_video_name, folders[name].files))]
            if classes:
                del by_split[split]
    for split, names in by_split.items():
        if len(names) > 1:
            both = " and ".join(names)
            raise ValueError(f"{folders.root} has {both}, and both would be {split}/; rename one of them")
    return {split: names[0] for split, names in by_split.items()}


def _needed(root: str, present: Sequence[str], *, split: str) -> str:
    """Return the folder of `split`: training needs train/ and val/, any other split its own alone.

    Raises:
        ValueError: It is not there.
    """
    here = ", ".join(f"{name}/" for name in present)
    drawn = "or put one folder per class into the root and let the split be drawn"
    if split == "train" and not {"train", "val"} <= set(present):
        raise ValueError(f"{root} has {here} but not both train/ and val/; add the other, {drawn}")
    chosen = "val" if split == "test" and "test" not in present else split
    if chosen not in present:
        wanted = "neither test/ nor val/" if split == "test" else f"no {split}/"
        raise ValueError(f"{root} has {here} but {wanted}; add {chosen}/CLASS/ with the videos, {drawn}")
    return chosen


def _rows(root: str, class_folders: _ClassFolders, *, classes: tuple[str, ...], notes: list[str]) -> Rows:
    builder = RowsBuilder(root)
    for index, name in enumerate(classes):
        videos = class_folders.videos.get(name, [])
        builder.extend(videos, [index] * len(videos), range(len(videos)))
    others = class_folders.others
    if others:
        notes = [*notes, f"{others.total():,} entries that are not videos are left out: {_counts(others)}"]
    return builder.finish(classes, notes)


def _class_folders(folders: Folders, base: str) -> _ClassFolders:
    """Find the class folders of a split.

    Raises:
        ValueError: There is none, one holds no video, or a file name is not UTF-8.
    """
    here = os.path.join(folders.root, base)
    names = sorted(_visible(folders[base].folders))
    if not names:
        raise ValueError(_no_class_folders(here, folders[base]))
    videos: dict[str, list[str]] = {}
    others: Counter[str] = Counter()
    for name in names:
        folder = os.path.join(base, name)
        listing = folders[folder]
        files = _visible(listing.files)
        videos[name] = sorted(os.path.join(folder, file) for file in files if is_video_name(file))
        others.update(_suffix(file) for file in files if not is_video_name(file))
        others.update("folder" for _ in _visible(listing.folders))
        others.update("neither file nor folder" for _ in listing.others)
    empty = [name for name in names if not videos[name]]
    if empty:
        raise ValueError(_no_videos(here, folders, base, empty, others))
    _check_utf8(here, videos)
    return _ClassFolders(videos, others)


def _common_classes(root: str, by_split: dict[str, _ClassFolders], *, chosen: str) -> tuple[str, ...]:
    """Return the sorted class names: those of train, which must know every class, and without it the split's own."""
    classes = set(by_split.get("train", by_split[chosen]).videos)
    for split, class_folders in by_split.items():
        unknown = sorted(set(class_folders.videos) - classes)
        if unknown:
            raise ValueError(
                f"{root}/{split} has {len(unknown)} classes that {root}/train has not: "
                f"{', '.join(unknown[:10])}; {_what_to_do(unknown, classes)}"
            )
    return tuple(sorted(classes))


def _what_to_do(unknown: Sequence[str], classes: set[str]) -> str:
    known = {unicodedata.normalize("NFC", name) for name in classes}
    alike = [name for name in unknown if unicodedata.normalize("NFC", name) in known]
    if alike:
        return (
            f"{alike[0]} looks like a class of train/ but its letters are composed otherwise (Unicode NFC and NFD, as "
            "macOS and Linux write them); rename the folders to one form, such as with convmv -f utf8 -t utf8 --nfc"
        )
    return "rename or remove these folders, or add training videos for them"


def _draw_split(
    root: str,
    videos: dict[str, list[str]],
    *,
    split: str,
    seed: int,
    fractions: Sequence[float],
    record: SplitRecord | None,
) -> tuple[dict[str, list[str]], str]:
    """Return the videos of each class that belong to `split`, and a note; see `drawn_split`.

    Videos cut from one recording are not kept together; make train/ and val/ where that matters.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            f"fractions {tuple(fractions)} must be three positive numbers (train, val, test) that add up to 1"
        )
    try:
        parts = draw_split(videos, seed=seed, fractions=fractions, record=record)
    except ValueError as err:
        raise ValueError(f"{root}: {err}") from err
    chosen = {label: [name for name in names if parts[name] == split] for label, names in videos.items()}
    if not any(chosen.values()):
        raise ValueError(
            f"{root}: no video is left in the drawn {split} part of the checkpoint's split (seed {seed}); put the "
            f"videos back, or make {split}/CLASS/ yourself"
        )
    note = f"{root} has no train/ and val/: {split} is drawn with seed {seed}, fractions {tuple(fractions)}"
    if record is not None:
        names = [name for label in videos for name in videos[label]]
        new = record.part_of(names).count(None)
        note += f"; {len(names) - new:,} videos keep the part that the checkpoint names, {new:,} are new to it"
    return chosen, note


def _no_class_folders(here: str, listing: Listing) -> str:
    files = Counter(_suffix(file) for file in _visible(listing.files))
    if not files:
        return f"{here} is empty; it must hold a folder per class with videos ({_allowed()})"
    if any(map(is_video_name, listing.files)):
        return f"{here} holds videos but no class folders ({_counts(files)}); put them into a folder per class"
    return f"{here} holds no class folders, only {_counts(files)}; it must hold a folder per class with videos"


def _no_videos(here: str, folders: Folders, base: str, empty: list[str], others: Counter[str]) -> str:
    inside = {name: sorted(_visible(folders[os.path.join(base, name)].folders)) for name in empty}
    return (
        f"{here}: no video in {len(empty)} of its folders: {', '.join(empty[:10])} "
        f"(found {_counts(others)}); allowed are {_allowed()}; add videos or remove the folder"
        f"{_hint(here, {name: names for name, names in inside.items() if names}, folders, base)}"
    )


def _hint(here: str, inside: dict[str, list[str]], folders: Folders, base: str) -> str:
    """Say what the folders that hold folders may be: one root too high, frames, or a level too many."""
    if not inside:
        return ""
    first, below = next(iter(inside.items()))
    files = folders[os.path.join(base, first, below[0])].files
    if any(name.lower().endswith(_IMAGES) for name in files):
        return FRAMES_HINT
    if len(inside) == 1:
        return f"; {first}/ holds folders: is {here}/{first} the root you mean?"
    seen = "; ".join(f"{name}/ holds {', '.join(names[:3])}" for name, names in list(inside.items())[:3])
    return (
        f"; {seen}: the videos lie a level deeper than ROOT/CLASS/*. If {', '.join(list(inside)[:3])} are splits, name "
        "them train/, val/ and test/; if they are people or cameras, list the videos and classes in a table (data=csv)"
    )


def _check_utf8(here: str, videos: dict[str, list[str]]) -> None:
    bad = [name for name in chain.from_iterable(videos.values()) if not _is_utf8(name)]
    if bad:
        shown = ", ".join(map(ascii, bad[:10]))
        raise ValueError(f"{here}: {len(bad)} file names are not UTF-8: {shown}; rename them")


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _visible(names: frozenset[str]) -> list[str]:
    return [name for name in names if is_visible(name)]


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "no suffix"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count:,} x {kind}" for kind, count in counter.most_common(5)) or "nothing"


def _allowed() -> str:
    return " ".join(VIDEO_SUFFIXES)
