"""Pack a folder of videos into WebDataset tars, each whole or not at all.

pack("kinetics_256", "kinetics_shards", megabytes=1000)        vidgn prepare SRC DST --shards 1000
"""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from vidgn.console import ProgressBar
from vidgn.data.loading.sampler import epoch_order
from vidgn.data.manifests.manifest import Manifest, Split
from vidgn.data.manifests.shard_index import ShardIndex, index_name, list_tar, save_index

_SPLITS: tuple[Split, ...] = ("train", "val", "test")


def pack(
    source: str | Path, target: str | Path, *, megabytes: float,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:  # fmt: skip
    """Write train-*.tar, val-*.tar and, where the folder has one, test-*.tar; return them.

    The order of videos is drawn once, for readers that go through a tar from its beginning. Tars that are there
    already, from an earlier run with the same videos, are kept.

    Args:
        source: a folder per class, with train/ and val/ or without (then the split is drawn with seed 0).
        target: folder of the tars.
        megabytes: of videos in one tar, at least one video.
        progress: called with (videos done, videos in all).

    Raises:
        ValueError: megabytes is not positive, or the folder is no data set.
        OSError: a file cannot be read or written.
    """
    if not megabytes > 0:
        raise ValueError(f"--shards ({megabytes}) must be a positive number of megabytes; use 1000.")
    out = Path(target)
    out.mkdir(parents=True, exist_ok=True)
    manifests = {split: Manifest.from_folder(source, split=split) for split in _SPLITS}
    if any("the test split is val/" in note for note in manifests["test"].notes):
        del manifests["test"]
    total, done, tars = sum(map(len, manifests.values())), 0, []
    for split, manifest in manifests.items():
        found: list[tuple[Path, ShardIndex]] = []
        for rows in _cut(manifest, int(1e6 * megabytes)):
            tar = out / f"{split}-{len(found):06d}.tar"
            found.append((tar, _tar(manifest, rows, tar)))
            done += len(rows)
            if progress is not None:
                progress(done, total)
        _write_index(found, manifest.classes)
        tars += [tar for tar, _ in found]
    return tars


def run_pack(folder: str, *, megabytes: float, out: TextIO) -> None:
    """Pack a folder into the tars of FOLDER_shards, and say how they are trained on."""
    target = Path(folder).absolute()
    target = target.with_name(f"{target.name}_shards")
    tars = pack(folder, target, megabytes=megabytes, progress=ProgressBar("packing"))
    size = sum(tar.stat().st_size for tar in tars)
    print(f"{len(tars):,} tars, {size / 1e6:,.1f} MB: train.py data=shards data.shards={target}", file=out)


def _cut(manifest: Manifest, most: int) -> Iterator[list[int]]:
    """Yield the rows of each tar, in a drawn order."""
    rows: list[int] = []
    size = 0
    for row in epoch_order(len(manifest), seed=0, epoch=0).tolist():
        bytes_of_row = os.stat(manifest.path(row)).st_size
        if rows and size + bytes_of_row > most:
            yield rows
            rows, size = [], 0
        rows.append(row)
        size += bytes_of_row
    yield rows


def _tar(manifest: Manifest, rows: list[int], path: Path) -> ShardIndex:
    """Write one tar unless it is there, and return its index, read from what lies on the disk."""
    names = [manifest.video_id(row) for row in rows]
    if path.exists() and list_tar(str(path)).names == names:
        return list_tar(str(path))
    part = path.with_name(path.name + ".part")
    with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, row in enumerate(rows):
            video = manifest.path(row)
            label = manifest.label(row)
            told = {"name": manifest.video_id(row), "label": manifest.classes[label]}
            with open(video, "rb") as file:
                _add(tar, f"{key:09d}{Path(video).suffix.lower()}", file, os.fstat(file.fileno()).st_size)
            for suffix, text in ((".cls", str(label)), (".json", json.dumps(told))):
                _add(tar, f"{key:09d}{suffix}", io.BytesIO(text.encode()), len(text.encode()))
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    return list_tar(str(path))


def _add(tar: tarfile.TarFile, name: str, file: io.BufferedReader | io.BytesIO, size: int) -> None:
    info = tarfile.TarInfo(name)  # without times and owners: the same videos give the same bytes
    info.size = size
    tar.addfile(info, file)


def _write_index(found: list[tuple[Path, ShardIndex]], classes: tuple[str, ...]) -> None:
    joined = ShardIndex(
        [name for _, index in found for name in index.names],
        np.concatenate([index.labels for _, index in found]),
        np.concatenate([np.full(len(index.names), number, np.int32) for number, (_, index) in enumerate(found)]),
        np.concatenate([index.starts for _, index in found]),
        np.concatenate([index.sizes for _, index in found]),
        classes,
    )
    target = Path(index_name(str(found[0][0])))
    part = target.with_name(f"part-{target.name}")
    tars = [tar for tar, _ in found]
    save_index(str(part), joined, shards=[tar.name for tar in tars], shard_sizes=[tar.stat().st_size for tar in tars])
    os.replace(part, target)
