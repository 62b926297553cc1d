"""Pack a folder of videos into WebDataset tars, each whole or not at all.

pack("kinetics_256", "kinetics_shards", megabytes=1000)        vidgn prepare SRC DST --shards 1000
"""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TextIO

import numpy as np

from vidgn.data.loading.sampler import epoch_order
from vidgn.data.manifests.manifest import Manifest, Split
from vidgn.data.manifests.shard_index import ShardIndex, index_name, list_tar, save_index, shards_of
from vidgn.files.outputs import check_outputs, replacing
from vidgn.terminal.console import ProgressBar

_SPLITS: tuple[Split, ...] = ("train", "val", "test")


def pack(
    source: str | Path, target: str | Path, *, megabytes: float,
    progress: Callable[[int, int], None] | None = None, overwrite: bool = False,
) -> list[Path]:  # fmt: skip
    """Write train-*.tar, val-*.tar and, where the folder has one, test-*.tar; return them.

    The order of videos is drawn once, for readers that go through a tar from its beginning. Tars that are there
    already, from an earlier run with the same videos, are kept; those of an earlier run that have another content are
    replaced, and those that are no longer needed are removed.

    Args:
        source: a folder per class, with train/ and val/ or without (then the split is drawn with seed 0).
        target: folder of the tars.
        megabytes: of videos in one tar, at least one video.
        progress: called with (videos done, videos in all).
        overwrite: replace tars that no earlier run wrote.

    Raises:
        FileExistsError: the target holds such a tar.
        ValueError: megabytes is not positive, or the folder is not a data set.
        OSError: a file cannot be read or written.
    """
    if not megabytes > 0:
        raise ValueError(f"--shards ({megabytes}) must be a positive number of megabytes; use 1000.")
    out = Path(target)
    out.mkdir(parents=True, exist_ok=True)
    manifests = {split: Manifest.from_folder(source, split=split) for split in _SPLITS}
    if any("the test split is val/" in note for note in manifests["test"].notes):
        del manifests["test"]
    owned = {split: _owned(out, split) for split in manifests}
    total, done, tars = sum(map(len, manifests.values())), 0, []
    for split, manifest in manifests.items():
        written: list[tuple[Path, ShardIndex]] = []
        for rows in _cut(manifest, int(1e6 * megabytes)):
            tar = out / f"{split}-{len(written):06d}.tar"
            own = partial(_is_listed, owned[split])
            check_outputs([tar], option=f"tars in {out}", overwrite=overwrite, is_own=own)
            written.append((tar, _tar(manifest, rows, tar)))
            done += len(rows)
            if progress is not None:
                progress(done, total)
        _write_index(written, manifest.classes)
        for name in owned[split] - {tar.name for tar, _ in written}:
            (out / name).unlink(missing_ok=True)
        tars += [tar for tar, _ in written]
    return tars


def run_pack(folder: str, *, megabytes: float, out: TextIO, overwrite: bool = False) -> None:
    """Pack a folder into the tars of FOLDER_shards, and say how they are trained on."""
    target = Path(folder).absolute()
    target = target.with_name(f"{target.name}_shards")
    tars = pack(folder, target, megabytes=megabytes, progress=ProgressBar("packing"), overwrite=overwrite)
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
    if _holds(path, names, [manifest.path(row) for row in rows]):
        return list_tar(str(path))
    with replacing(path) as part:
        _write_tar(part, manifest, rows)
    return list_tar(str(path))


def _owned(out: Path, split: str) -> set[str]:
    """Return the names of the tars that an earlier run wrote, by its index."""
    index = Path(index_name(str(out / f"{split}-000000.tar")))
    return set(shards_of(str(index))) if index.is_file() else set()


def _is_listed(names: set[str], tar: Path) -> bool:
    return tar.name in names


def _holds(tar: Path, names: list[str], videos: list[str]) -> bool:
    """Tell whether a tar holds these videos: the same names and sizes, and none is newer than the tar."""
    if not tar.exists():
        return False
    there = list_tar(str(tar))
    states = [os.stat(video) for video in videos]
    return (
        there.names == names
        and there.sizes.tolist() == [state.st_size for state in states]
        and max(state.st_mtime_ns for state in states) <= tar.stat().st_mtime_ns
    )


def _write_tar(part: Path, manifest: Manifest, rows: list[int]) -> None:
    with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, row in enumerate(rows):
            video = manifest.path(row)
            label = manifest.label(row)
            record = {"name": manifest.video_id(row), "label": manifest.classes[label]}
            with open(video, "rb") as file:
                _add(tar, f"{key:09d}{Path(video).suffix.lower()}", file, os.fstat(file.fileno()).st_size)
            for suffix, text in ((".cls", str(label)), (".json", json.dumps(record))):
                _add(tar, f"{key:09d}{suffix}", io.BytesIO(text.encode()), len(text.encode()))
    with part.open("rb") as file:
        os.fsync(file.fileno())


def _add(tar: tarfile.TarFile, name: str, file: io.BufferedReader | io.BytesIO, size: int) -> None:
    info = tarfile.TarInfo(name)  # without times and owners: the same videos give the same bytes
    info.size = size
    tar.addfile(info, file)


def _write_index(indexes: list[tuple[Path, ShardIndex]], classes: tuple[str, ...]) -> None:
    joined = ShardIndex(
        [name for _, index in indexes for name in index.names],
        np.concatenate([index.labels for _, index in indexes]),
        np.concatenate([np.full(len(index.names), number, np.int32) for number, (_, index) in enumerate(indexes)]),
        np.concatenate([index.starts for _, index in indexes]),
        np.concatenate([index.sizes for _, index in indexes]),
        classes,
    )
    target = Path(index_name(str(indexes[0][0])))
    tars = [tar for tar, _ in indexes]
    sizes = [tar.stat().st_size for tar in tars]
    with replacing(target) as part:
        save_index(part, joined, shards=[tar.name for tar in tars], shard_sizes=sizes)
