"""Read the pickles that Caffe2 wrote, without running anything that is in them.

A pickle is a program: it names functions and has them called. This reader knows eight names, and each is a
function of this module that makes a plain value; every other name is refused before it is looked up.
"""

import math
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_pickle(path: str | Path) -> dict[str, Any]:
    """Read a pickled dictionary of arrays, of Python 2 or 3; arrays inside `blobs` come out flat.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds anything but numeric arrays, numbers and strings in a dictionary, or is damaged.
    """
    with Path(path).open("rb") as file:
        try:
            content = _Reader(file, encoding="latin1").load()
            if isinstance(content, Mapping) and isinstance(content.get("blobs"), Mapping):
                content = content["blobs"]
            if not isinstance(content, Mapping):
                raise pickle.UnpicklingError(f"it holds a {type(content).__name__}, not a dictionary")
            return {str(name): value.array() if isinstance(value, _Array) else value for name, value in content.items()}
        except Exception as err:  # a damaged pickle can raise any kind
            raise ValueError(
                f"{path} cannot be read as a dictionary of numeric arrays ({err}); give a file that Caffe2,"
                " Detectron or video-nonlocal-net wrote."
            ) from err


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module.replace("numpy._core", "numpy.core"), name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not part of an array")
        return _KNOWN[module.replace("numpy._core", "numpy.core"), name]


class _DType:
    """Stands for `numpy.dtype`: a kind and size such as f4, then the byte order."""

    def __init__(self, code: str, *flags: object) -> None:
        if not re.fullmatch(r"[fiub][1248]", code):
            raise pickle.UnpicklingError(f"it has an array of {code!r}, which is not a number")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = {"<": "<", ">": ">", "|": "|", "=": "="}[state[1]]

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _Array:
    """Stands for `numpy.ndarray`: shape, type and bytes; Python 2 wrote the bytes as a string."""

    shape: tuple[int, ...]
    dtype: _DType
    fortran: bool
    data: bytes | str

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.shape, self.dtype, self.fortran, self.data = state[-4:]

    def array(self) -> NDArray[Any]:
        data = self.data.encode("latin1") if isinstance(self.data, str) else bytes(self.data)
        dtype = self.dtype.numpy()
        if len(data) != math.prod(self.shape) * dtype.itemsize:
            raise pickle.UnpicklingError(f"an array of {self.shape} has {len(data)} bytes")
        array = np.frombuffer(data, dtype).reshape(self.shape, order="F" if self.fortran else "C")
        return np.array(array, dtype.newbyteorder("="))  # a copy that can be written to


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    return _Array()


def _scalar(dtype: _DType, data: bytes | str) -> float:
    raw = data.encode("latin1") if isinstance(data, str) else data
    return float(np.frombuffer(raw, dtype.numpy())[0])


def _frombuffer(data: bytes, dtype: _DType, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.__setstate__((shape, dtype, order == "F", data))
    return array


def _encode(text: str, encoding: str) -> bytes:
    return text.encode({"latin1": "latin1"}[encoding])


def _no_bytes() -> bytes:
    return b""


_KNOWN: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,  # bytes, as Python 3 writes them for Python 2
    ("__builtin__", "bytes"): _no_bytes,  # the bytes of an empty array, likewise
    ("collections", "OrderedDict"): dict,
}
