"""A camera of this machine, read through PyAV's own FFmpeg: Video4Linux, so Linux only."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

DEVICE = "/dev/video{number}"
FORMAT: str | None = "v4l2"


class Camera:
    """One open camera; a context manager.

    Args:
        number: of the device, 0 for /dev/video0.

    Raises:
        FileNotFoundError: there is no such camera.
        OSError: it is there and cannot be read.
    """

    def __init__(self, number: int) -> None:
        path = DEVICE.format(number=number)
        if not os.path.exists(path):
            raise FileNotFoundError(f"--camera {number} needs {path}, which is not there; {_cameras()}")
        try:
            self._container: Any = av.open(path, format=FORMAT)
        except PermissionError as err:
            raise PermissionError(f"--camera {number}: {path} may not be read; join its group (ls -l {path}).") from err
        except av.error.FFmpegError as err:
            raise OSError(f"--camera {number}: {path} gives no pictures ({err}); close what else uses it.") from err
        if not self._container.streams.video:
            self._container.close()
            raise OSError(f"--camera {number}: {path} gives no pictures; try another number.")
        self._stream = self._container.streams.video[0]

    @property
    def fps(self) -> float:
        """Frames per second as the device tells; 0.0 where it does not."""
        return float(self._stream.average_rate or 0)

    def frames(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Yield (seconds since the first frame, uint8 (H, W, 3)) as frames come; pictures that are damaged are not."""
        first: float | None = None
        for packet in self._container.demux(self._stream):
            try:
                decoded = packet.decode()
            except av.error.InvalidDataError:  # the first pictures of many cameras are cut off
                continue
            for frame in decoded:
                moment = frame.time or 0.0
                first = moment if first is None else first
                yield moment - first, frame.to_ndarray(format="rgb24")

    def close(self) -> None:
        """Let go of the device."""
        self._container.close()

    def __enter__(self) -> "Camera":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _cameras() -> str:
    folder, _, name = DEVICE.format(number="*").rpartition("/")
    found = sorted(path.name.removeprefix("video") for path in Path(folder).glob(name))
    return f"there are: {', '.join(found)}." if found else "no camera is connected to this machine."
