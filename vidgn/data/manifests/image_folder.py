"""Folders of pictures as ImageNet's: `train/CLASS/*` and `val/CLASS/*`."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from vidgn.data.manifests.manifest import Manifest
from vidgn.data.manifests.rows import is_visible

PictureSplit = Literal["train", "val", "test"]
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm")


def read_picture_folders(
    root: str | Path, *, splits: Sequence[PictureSplit] = ("train", "val", "test")
) -> dict[PictureSplit, Manifest]:
    """List the pictures of `root`; where there is no test/, the validation pictures are the test, as for ImageNet.

    Args:
        root: the folder.
        splits: those that are used. Without train the classes are the folders of each split itself.

    Raises:
        ValueError: train/ or val/ is needed and missing, a class folder holds no picture, there is one class alone to
            train, or val/ or test/ has a class that train/ has not.
        OSError: a folder cannot be read.
    """
    base = Path(root).expanduser().absolute()
    last = "test" if (base / "test").is_dir() else "val"
    folders = {split: last if split == "test" else split for split in splits}
    missing = [f"{folder}/" for folder in dict.fromkeys(folders.values()) if not (base / folder).is_dir()]
    if missing:
        raise ValueError(
            f"data.root={root} has no {' and no '.join(missing)}; pictures lie in train/CLASS/*.jpg and val/CLASS/."
        )
    if "train" not in splits:
        return {split: _manifest(base, folder, _class_folders(base / folder)) for split, folder in folders.items()}
    classes = _class_folders(base / "train")
    if len(classes) < 2:
        raise ValueError(f"{base / 'train'} has {len(classes)} class folders; a classifier needs at least two.")
    for folder in folders.values():
        _check_known(base, folder, classes)
    return {split: _manifest(base, folder, classes) for split, folder in folders.items()}


def _check_known(base: Path, split: str, classes: Sequence[str]) -> None:
    unknown = sorted(set(_class_folders(base / split)) - set(classes))
    if unknown:
        raise ValueError(
            f"{base / split} has classes that {base / 'train'} has not: {', '.join(unknown[:10])}; rename or remove"
            " these folders, or add training pictures for them."
        )


def _manifest(base: Path, split: str, classes: Sequence[str]) -> Manifest:
    if not classes:
        raise ValueError(f"{base / split} holds no class folder; pictures lie in {split}/CLASS/*.jpg.")
    return Manifest.from_rows(_rows(base, split, classes), root=base, classes=classes)


def _rows(base: Path, split: str, classes: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield (name relative to the root, label), classes in their order and names sorted."""
    for label, name in enumerate(classes):
        folder = base / split / name
        if not folder.is_dir():
            continue  # a class that validation lacks
        files = [file for file in os.listdir(folder) if is_visible(file)]
        pictures = sorted(file for file in files if file.lower().endswith(PICTURE_SUFFIXES))
        if not pictures:
            kinds = Counter(os.path.splitext(file)[1].lower() or "no suffix" for file in files).most_common(3)
            listed = ", ".join(f"{count} x {kind}" for kind, count in kinds) or "nothing"
            raise ValueError(
                f"{folder} holds no picture (found {listed}); allowed are {' '.join(PICTURE_SUFFIXES)}: add pictures or"
                " remove the folder."
            )
        yield from ((f"{split}/{name}/{file}", label) for file in pictures)


def _class_folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
