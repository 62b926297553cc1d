"""Folders of pictures as ImageNet's: `train/CLASS/*` and `val/CLASS/*`."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from vidgn.data.manifest import Manifest

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm")


def read_picture_folders(root: str | Path) -> dict[Literal["train", "val", "test"], Manifest]:
    """List the pictures of `root`; where there is no test/, the validation pictures are the test, as for ImageNet.

    Raises:
        ValueError: train/ or val/ is missing, a class folder holds no picture, there is one class alone, or val/ or
            test/ has a class that train/ has not.
        OSError: a folder cannot be read.
    """
    base = Path(root).expanduser().absolute()
    missing = [f"{split}/" for split in ("train", "val") if not (base / split).is_dir()]
    if missing:
        raise ValueError(
            f"data.root={root} has no {' and no '.join(missing)}; pictures lie in train/CLASS/*.jpg and val/CLASS/."
        )
    classes = _class_folders(base / "train")
    if len(classes) < 2:
        raise ValueError(f"{base / 'train'} has {len(classes)} class folders; a classifier needs at least two.")
    last: Literal["val", "test"] = "test" if (base / "test").is_dir() else "val"
    return {
        "train": _manifest(base, "train", classes),
        "val": _manifest(base, "val", classes),
        "test": _manifest(base, last, classes),
    }


def _manifest(base: Path, split: str, classes: Sequence[str]) -> Manifest:
    unknown = sorted(set(_class_folders(base / split)) - set(classes))
    if unknown:
        raise ValueError(
            f"{base / split} has classes that {base / 'train'} has not: {', '.join(unknown[:10])}; rename or remove"
            " these folders, or add training pictures for them."
        )
    return Manifest.from_rows(_rows(base, split, classes), root=base, classes=classes)


def _rows(base: Path, split: str, classes: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield (name relative to the root, label), classes in their order and names sorted."""
    for label, name in enumerate(classes):
        folder = base / split / name
        if not folder.is_dir():
            continue  # a class that validation lacks
        files = [file for file in os.listdir(folder) if not file.startswith(".")]
        pictures = sorted(file for file in files if file.lower().endswith(PICTURE_SUFFIXES))
        if not pictures:
            kinds = Counter(os.path.splitext(file)[1].lower() or "no suffix" for file in files).most_common(3)
            found = ", ".join(f"{count} x {kind}" for kind, count in kinds) or "nothing"
            raise ValueError(
                f"{folder} holds no picture (found {found}); allowed are {' '.join(PICTURE_SUFFIXES)}: add pictures or"
                " remove the folder."
            )
        yield from ((f"{split}/{name}/{file}", label) for file in pictures)


def _class_folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
