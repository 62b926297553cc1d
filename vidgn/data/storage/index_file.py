"""The stored index of tars: a zip of arrays from anywhere, checked before it is believed."""

import json
import math
import zipfile
import zlib
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MAX_INDEX = 1_000_000_000  # bytes; an index has about 40 a video
MAX_LABEL = 1_000_000
_INFLATION = 50  # times its size, that an index may have in memory, besides
_SMALL = 10_000_000  # bytes
_ARRAYS = ("labels", "shard", "starts", "sizes", "shard_sizes", "words")
_ERRORS = (
    ValueError, KeyError, OSError, EOFError, TypeError, AttributeError, RecursionError, NotImplementedError,
    OverflowError, MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def load_index(file: BinaryIO, name: str, *, size: int) -> dict[str, Any]:
    """Return the arrays of a stored index, with `names`, `shards` and `classes`; all of them fit each other.

    Args:
        file: the index.
        name: what to call it.
        size: in bytes.

    Raises:
        ValueError: it is damaged, inflates to much more than its size, or counts what is not there.
    """
    try:
        with zipfile.ZipFile(file) as parts:
            _check_sizes(parts, size)
            arrays = {key: _array(parts, key) for key in _ARRAYS}
        texts = json.loads(arrays.pop("words").astype(np.uint8).tobytes())
        stored = {**arrays, **{key: _texts(texts, key) for key in ("names", "shards", "classes")}}
        _check_fit(stored)
    except _ERRORS as err:
        reason = str(err).partition("\n")[0][:200] or type(err).__name__
        raise ValueError(f"{name} is damaged ({reason}); remove it, and the tars are listed again.") from err
    return stored


def _check_sizes(parts: zipfile.ZipFile, size: int) -> None:
    inflated = sum(part.file_size for part in parts.infolist())
    if size > MAX_INDEX or inflated > _SMALL + _INFLATION * size:
        raise ValueError(f"its {size:,} bytes become {inflated:,}")


def _array(parts: zipfile.ZipFile, key: str) -> NDArray[Any]:
    """Read a vector of whole numbers; its header is compared with the bytes before there is memory for it."""
    member = parts.getinfo(f"{key}.npy")
    with parts.open(member) as file:
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[np.lib.format.read_magic(file)]
        shape, _, dtype = read_header(file)
        if len(shape) != 1 or dtype.kind not in "iu" or math.prod(shape) * dtype.itemsize > member.file_size:
            raise ValueError(f"{key} is not a vector of whole numbers as long as its bytes")
        data = file.read(math.prod(shape) * dtype.itemsize)
    return np.frombuffer(data, dtype, count=shape[0])


def _texts(content: Any, key: str) -> list[str]:
    values = content[key]
    if not isinstance(values, list) or not all(isinstance(value, str) and len(value) <= 4_096 for value in values):
        raise ValueError(f"{key} is not a list of names")
    return values


def _check_fit(stored: dict[str, Any]) -> None:
    count, shards = len(stored["names"]), len(stored["shards"])
    lengths = {key: len(stored[key]) for key in ("labels", "shard", "starts", "sizes")}
    if set(lengths.values()) != {count} or len(stored["shard_sizes"]) != shards:
        raise ValueError(f"it names {count} videos in {shards} tars and has {lengths}")
    labels, starts, sizes = (stored[key].astype(np.int64) for key in ("labels", "starts", "sizes"))
    shard = stored["shard"].astype(np.int64)
    if count and (shard.min() < 0 or shard.max() >= shards):
        raise ValueError("it has videos in tars that it does not name")
    if count and (labels.min() < 0 or labels.max() >= (len(stored["classes"]) or MAX_LABEL)):
        raise ValueError("it has labels without a class")
    ends = stored["shard_sizes"].astype(np.int64)[shard]
    if count and (starts.min() < 0 or sizes.min() < 1 or (sizes > ends - starts).any()):
        raise ValueError("it has videos beyond the end of their tar")
