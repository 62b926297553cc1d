"""Read a video so that nothing it does can stop or mislead the run: deadline, crashes, input/output errors.

In a loader's worker the reading happens in a helper process that can be killed; in the main process (no workers) it
happens in place, without a deadline.
"""

import errno
import signal
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from vidgn.data.helper import Arrays, Helper, HelperDied, HelperTimeout
from vidgn.data.retry import retried
from vidgn.data.video import VideoDecodeError

DEADLINE_SECONDS = 30.0

Read = Callable[..., tuple[Arrays, Any]]

# Signals of a decoder that crashed; any other (KILL: out of memory; BUS: no shared memory) is the machine's doing.
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)


class ReaderKilled(RuntimeError):
    """The process that read a video was killed by the system, not by the video."""


class Guard:
    """Calls `read(path, ...)`, in a helper process where this is a loader's worker.

    Args:
        read: Opens the file at `path` and returns arrays, and anything small that can be pickled.
        deadline_seconds: For one call; None: no deadline and no helper.

    Raises:
        ValueError: The deadline is not positive.
    """

    def __init__(self, read: Read, *, deadline_seconds: float | None) -> None:
        if deadline_seconds is not None and not deadline_seconds > 0:
            raise ValueError(
                f"deadline_seconds ({deadline_seconds}) must be positive; use 30, or None for no deadline."
            )
        self._read = read
        self._seconds = deadline_seconds
        self._helper: Helper | None = None

    def __call__(self, path: str, *args: Any) -> tuple[list[NDArray[Any]], Any]:
        """Read a video.

        Raises:
            VideoDecodeError: The content is bad: damaged, decoding takes longer than the deadline, or it crashes the
                decoder.
            OSError: It cannot be read, after three more tries where that may help.
            ReaderKilled: The system killed the helper.
        """
        if self._seconds is None or get_worker_info() is None:
            arrays, rest = self._read_patiently(path, *args)
            return list(arrays), rest
        if self._helper is None:
            self._helper = Helper(self._read_patiently)
        try:
            return self._helper.call(path, *args, seconds=self._seconds)
        except HelperTimeout as err:
            if err.waits_for_disk:
                text = f"reading took longer than {err.seconds:g} s, and the system waits for the disk or the network"
                raise TimeoutError(errno.ETIMEDOUT, text, path) from err
            text = f"decoding took longer than the deadline of {err.seconds:g} s; its process was killed"
            raise VideoDecodeError(path, text) from err
        except HelperDied as err:
            raise _explain(path, err.signal) from err

    def __getstate__(self) -> dict[str, Any]:
        """Leave the helper behind: a process cannot be handed to another one."""
        return {**self.__dict__, "_helper": None}

    def _read_patiently(self, path: str, *args: Any) -> tuple[Arrays, Any]:
        return retried(lambda: self._read(path, *args))


def _explain(path: str, number: int | None) -> Exception:
    if number in _CRASHES:
        return VideoDecodeError(path, f"it crashed the decoder (signal {number}, {signal.Signals(number).name})")
    how = "ended" if number is None else f"was killed (signal {number}, {signal.Signals(number).name})"
    return ReaderKilled(
        f"{path}: the process that read it {how}, most often because memory or shared memory ran out; "
        "use fewer workers (data.num_workers) or a smaller batch"
    )
