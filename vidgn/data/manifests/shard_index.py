"""Where each video of a tar lies: read from our index beside the tars, or from their headers."""

import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidgn.data.manifests.rows import VIDEO_SUFFIXES
from vidgn.data.storage.index_file import MAX_INDEX, MAX_LABEL, load_index
from vidgn.data.storage.remote import Url, is_url, open_file

_LONGEST_TEXT = 1_000_000  # bytes of a .cls or .json
_LONGEST_NAME = 4_096  # characters


class ShardIndex(NamedTuple):
    """Every video of some tars: its name, label (class index), the number of its tar, first byte and size (bytes)."""

    names: list[str]
    labels: NDArray[np.int64]
    shard: NDArray[np.int32]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    classes: tuple[str, ...]


class _Sample(NamedTuple):
    name: str
    label: int | str
    shard: int
    start: int
    size: int


def index_name(shard: str) -> str:
    """Return where the index of a tar and its neighbours is.

    >>> index_name("/data/train-000003.tar")
    '/data/train-index.npz'
    """
    return f"{shard.rpartition('-')[0]}-index.npz"


def index_of(shards: Sequence[str]) -> ShardIndex:
    """Return the videos of tars, which must exist.

    Raises:
        ValueError: A tar holds no video, one has no label, or the index beside them is of other tars.
    """
    name = index_name(shards[0])
    try:
        with open_file(_place(name)) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            content = file.read() if size <= MAX_INDEX else b""
            stored = load_index(io.BytesIO(content), name, size=size)
    except FileNotFoundError:
        return _joined([sample for number, shard in enumerate(shards) for sample in _listed(shard, number)])
    order = {shard.rpartition("/")[2]: number for number, shard in enumerate(shards)}
    unknown = sorted(order.keys() - set(stored["shards"]))
    if unknown:
        raise ValueError(f"{name} does not list {', '.join(unknown[:5])}; remove it, and the tars are listed again.")
    number_of = np.array([order.get(shard, -1) for shard in stored["shards"]], np.int32)
    for shard, size in zip(stored["shards"], stored["shard_sizes"], strict=True):
        if shard in order and _size(shards[order[shard]]) != size:
            raise ValueError(
                f"{shards[order[shard]]} is not the tar that {name} lists; remove that, or write it again."
            )
    shard = number_of[stored["shard"]]
    kept = np.flatnonzero(shard >= 0)
    names = [stored["names"][row] for row in kept]
    rows = (stored[key][kept] for key in ("labels", "starts", "sizes"))
    labels, starts, sizes = rows
    return ShardIndex(names, labels, shard[kept], starts, sizes, tuple(stored["classes"]))


def list_tar(shard: str) -> ShardIndex:
    """Return the videos of one tar by its headers; nothing else of it is read but labels and names."""
    return _joined(list(_listed(shard, 0)))


def shards_of(index: str) -> list[str]:
    """Return the names of the tars that an index lists.

    Raises:
        ValueError: the file is not an index.
    """
    with open(index, "rb") as file:
        return list(load_index(file, index, size=os.path.getsize(index))["shards"])


def save_index(path: Path, index: ShardIndex, *, shards: Sequence[str], shard_sizes: Sequence[int]) -> None:
    """Write the index of tars (their names, without folders) as numpy arrays."""
    texts = json.dumps({"names": index.names, "shards": list(shards), "classes": list(index.classes)})
    with path.open("wb") as file:
        np.savez_compressed(
            file, words=np.frombuffer(texts.encode(), np.uint8), labels=index.labels, shard=index.shard,
            starts=index.starts, sizes=index.sizes, shard_sizes=np.array(shard_sizes, np.int64),
        )  # fmt: skip


def _listed(shard: str, number: int) -> Iterator[_Sample]:
    """Yield the videos of a tar; files of one sample have one name up to its first dot, and follow one another."""
    with open_file(_place(shard)) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                members = [member for member in tar if member.isfile()]
            end = file.seek(0, io.SEEK_END)
        except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as err:
            raise ValueError(f"{shard} is not a whole tar ({str(err)[:200]}); write it again.") from err
        _check_members(members, shard, end)
        parts: dict[str, dict[str, tarfile.TarInfo]] = {}
        for member in members:
            folder, _, name = member.name.rpartition("/")
            key, _, suffix = name.partition(".")
            parts.setdefault(f"{folder}/{key}" if folder else key, {})[f".{suffix.lower()}"] = member
        for key, files in parts.items():
            videos = [suffix for suffix in files if suffix.endswith(VIDEO_SUFFIXES)]
            for suffix in videos[:1]:
                record = _record(file, files[".json"], shard) if ".json" in files else {}
                label = _text(file, files[".cls"], shard).strip() if ".cls" in files else record.get("label")
                if label is None:
                    raise ValueError(f"{shard}: {key} has no label; it needs {key}.cls, or a label in {key}.json.")
                video = files[suffix]
                name = PurePosixPath(str(record.get("name", key + suffix))).as_posix()
                yield _Sample(_utf8(name, shard), _label(label, shard, key), number, video.offset_data, video.size)


def _joined(samples: Sequence[_Sample]) -> ShardIndex:
    if not samples:
        raise ValueError("the tars of data.shards hold no video; a sample is KEY.mp4 and KEY.cls.")
    names = sorted({sample.label for sample in samples if isinstance(sample.label, str)})
    if names and any(isinstance(sample.label, int) for sample in samples):
        raise ValueError(f"some labels are numbers and some are names ({names[0]}); write all of them alike.")
    number = {word: index for index, word in enumerate(names)}
    labels = [number[sample.label] if isinstance(sample.label, str) else sample.label for sample in samples]
    return ShardIndex(
        [sample.name for sample in samples], np.array(labels, np.int64),
        np.array([sample.shard for sample in samples], np.int32),
        np.array([sample.start for sample in samples], np.int64),
        np.array([sample.size for sample in samples], np.int64), tuple(names),
    )  # fmt: skip


def _check_members(members: Sequence[tarfile.TarInfo], shard: str, end: int) -> None:
    for member in members:
        if member.issparse() or member.size < 0 or member.offset_data + member.size > end:
            raise ValueError(f"{shard} is not a whole tar ({member.name[:100]!r} ends beyond it); write it again.")


def _label(label: object, shard: str, key: str) -> int | str:
    text = str(label) if isinstance(label, str) or (type(label) is int and 0 <= label <= MAX_LABEL) else ""
    if not 0 < len(text) <= _LONGEST_NAME:
        raise ValueError(f"{shard}: the label of {key} is neither a name nor a number from 0 to {MAX_LABEL:,}.")
    if not text.isdecimal():
        return _utf8(text, shard)
    if len(text) > 7 or int(text) > MAX_LABEL:
        raise ValueError(f"{shard}: the label of {key} is more than {MAX_LABEL:,}.")
    return int(text)


def _utf8(name: str, shard: str) -> str:
    if len(name) > _LONGEST_NAME or not name.encode("utf-8", "replace").decode() == name:
        raise ValueError(f"{shard} has the name {name[:100]!r}, which is too long or not UTF-8 text; write it again.")
    return name


def _record(file: BinaryIO, member: tarfile.TarInfo, shard: str) -> dict[str, Any]:
    try:
        record = json.loads(_text(file, member, shard))
    except (ValueError, RecursionError) as err:
        raise ValueError(f"{shard}: {member.name[:100]!r} is not JSON ({str(err)[:100]}); write it again.") from err
    if not isinstance(record, dict):
        raise ValueError(f"{shard}: {member.name[:100]!r} is not a JSON object; write it again.")
    return record


def _text(file: BinaryIO, member: tarfile.TarInfo, shard: str) -> str:
    if member.size > _LONGEST_TEXT:
        raise ValueError(f"{shard}: {member.name[:100]!r} has {member.size:,} bytes; a label or record has fewer.")
    file.seek(member.offset_data)
    try:
        return file.read(member.size).decode()
    except UnicodeDecodeError as err:
        raise ValueError(f"{shard}: {member.name[:100]!r} is not UTF-8 text; write it again.") from err


def _size(shard: str) -> int:
    with open_file(_place(shard)) as file:
        return file.seek(0, io.SEEK_END)


def _place(path: str) -> str:
    return Url(path) if is_url(path) else path
