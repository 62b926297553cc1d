"""What each worker of a loader reads at the moment, in memory that the main process shares with those it forks."""

import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch.utils.data import get_worker_info

_SLOTS, _SLOT_BYTES = 512, 4128  # workers at most; a header and a path of at most PATH_MAX bytes
_HEADER = struct.Struct("=qdii")  # process, when (monotonic seconds), is it reading, bytes of the path


class Note(NamedTuple):
    """What a worker said last: when (`time.monotonic`), the path, and whether it still reads it."""

    since: float
    path: str
    is_reading: bool


class Board:
    """One slot per worker, written by it and read by the main process."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SLOTS * _SLOT_BYTES)

    @contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """Say that this worker reads a file, and when it is done with it; nothing in the main process."""
        self.note(path)
        try:
            yield
        finally:
            self._write(path, is_reading=False)

    def note(self, path: str) -> None:
        """Say that this worker reads a file from now on."""
        self._write(path, is_reading=True)

    def last(self, pid: int) -> Note | None:
        """Return what the worker with this process id said last."""
        for slot in range(_SLOTS):
            start = slot * _SLOT_BYTES
            owner, since, is_reading, length = _HEADER.unpack_from(self._memory, start)
            if owner == pid:
                name = self._memory[start + _HEADER.size : start + _HEADER.size + length]
                return Note(since, name.decode(errors="surrogateescape"), bool(is_reading))
        return None

    def _write(self, path: str, *, is_reading: bool) -> None:
        info = get_worker_info()
        if info is None or info.id >= _SLOTS:
            return
        name = path.encode(errors="surrogateescape")[: _SLOT_BYTES - _HEADER.size]
        start = info.id * _SLOT_BYTES
        self._memory[start + _HEADER.size : start + _HEADER.size + len(name)] = name
        _HEADER.pack_into(self._memory, start, os.getpid(), time.monotonic(), is_reading, len(name))

    def __reduce__(self) -> tuple[type["Board"], tuple[()]]:
        """A spawned worker gets its own status, which is never read."""
        return Board, ()
