"""A video that is a piece of a larger file, as in a tar of many: its bytes lie together, from `start` on."""

import io
import os
from abc import abstractmethod
from typing import Any


class FileRange(str):
    """The path or address of a container, with the place of one member; as text it names both.

    >>> piece = FileRange.of("/data/train-000000.tar", start=512, size=9000, name="run/a.mp4")
    >>> piece, piece.container, piece.start, piece.size
    ('/data/train-000000.tar:run/a.mp4', '/data/train-000000.tar', 512, 9000)
    """

    container: str
    start: int
    size: int

    @classmethod
    def of(cls, container: str, *, start: int, size: int, name: str) -> "FileRange":
        """Make the path of a member; `start` and `size` in bytes."""
        piece = cls(f"{container}:{name}")
        piece.container, piece.start, piece.size = container, start, size
        return piece


class RangeFile(io.RawIOBase):
    """A file whose bytes are got by their place: what is left is where one is.

    Attributes:
        size: In bytes.
    """

    size: int
    _at = 0

    @abstractmethod
    def read_at(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to `end`; both lie in the file."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        self._at = (0, self._at, self.size)[whence] + offset
        return self._at

    def read(self, count: int = -1) -> bytes:
        """Return the next bytes."""
        start = min(self._at, self.size)
        data = self.read_at(start, self.size if count < 0 else min(self.size, start + count))
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class PieceFile(RangeFile):
    """A member of a file on this machine, read as if it were a file of its own.

    Raises:
        OSError: The container cannot be opened, or is shorter than it was.
    """

    def __init__(self, piece: FileRange) -> None:
        super().__init__()
        self._file = open(piece.container, "rb", buffering=0)  # noqa: SIM115 - closed by close()
        self._start, self.size = piece.start, piece.size
        if os.fstat(self._file.fileno()).st_size < piece.start + piece.size:
            self._file.close()
            raise OSError(f"{piece.container} ends before {piece}; it has changed since it was indexed")

    def read_at(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to `end`."""
        return os.pread(self._file.fileno(), end - start, self._start + start)

    def close(self) -> None:
        """Close the container."""
        if not self.closed:
            self._file.close()
        super().close()
