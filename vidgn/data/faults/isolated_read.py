"""Read a video so that nothing it does can stop or mislead the run: deadline, crashes, input/output errors.

The reading happens in a helper process that can be killed, of a loader's worker or of the main process alike. Without
a deadline it happens in place.
"""

import errno
import mmap
import signal
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray

from vidgn.data.faults.child_process import Arrays, Helper, HelperDied, HelperTimeout
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.storage.retry import retried

DEADLINE_SECONDS = 30.0

Read = Callable[..., tuple[Arrays, Any]]

# Signals of a decoder that crashed; any other (KILL: out of memory; BUS: no shared memory) is the machine's doing.
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)


class ReaderKilled(RuntimeError):
    """The process that read a video was killed by the system, not by the video."""


class IsolatedRead:
    """Calls `read(path, ...)` in a helper process.

    Args:
        read: Opens the file at `path` and returns arrays, and anything small that can be pickled.
        deadline_seconds: For one call; None: no deadline and no helper.

    Raises:
        ValueError: The deadline is not positive.
    """

    def __init__(self, read: Read, *, deadline_seconds: float | None) -> None:
        if deadline_seconds is not None and not deadline_seconds > 0:
            raise ValueError(
                f"data.deadline_seconds ({deadline_seconds}) must be positive; use 30, or null for no deadline."
            )
        self._read = read
        self._seconds = deadline_seconds
        self._helper: Helper | None = None
        self._failures: mmap.mmap | None = None  # input/output errors of this call, told by the helper

    def __call__(self, path: str, *args: Any) -> tuple[list[NDArray[Any]], Any]:
        """Read a video.

        Raises:
            VideoDecodeError: The content is bad: damaged, decoding takes longer than the deadline, or it crashes the
                decoder.
            OSError: It cannot be read, after three more tries where that may help.
            ReaderKilled: The system killed the helper.
        """
        if self._seconds is None:
            arrays, rest = self._read_patiently(path, *args)
            return list(arrays), rest
        if self._helper is None or self._failures is None:
            self._failures = mmap.mmap(-1, 1)  # shared with the helper
            self._helper = Helper(self._read_patiently, prepare=_one_thread)
        self._failures[0] = 0
        try:
            return self._helper.call(path, *args, seconds=self._seconds)
        except HelperTimeout as err:
            raise self._late(path, err) from err
        except HelperDied as err:
            raise _explain(path, err.signal) from err

    def __getstate__(self) -> dict[str, Any]:
        """Leave the helper behind: a process cannot be handed to another one."""
        return {**self.__dict__, "_helper": None, "_failures": None}

    def _read_patiently(self, path: str, *args: Any) -> tuple[Arrays, Any]:
        return retried(lambda: self._read(path, *args), on_failure=self._count_failure)

    def _count_failure(self) -> None:
        if self._failures is not None:
            self._failures[0] += 1

    def _late(self, path: str, err: HelperTimeout) -> Exception:
        """Blame the disk where it is at fault, otherwise the video."""
        failures = self._failures[0] if self._failures is not None else 0
        if err.waits_for_disk or failures:
            why = f"with {failures} input/output errors" if failures else "waiting for the disk or the network"
            return TimeoutError(errno.ETIMEDOUT, f"reading took longer than {err.seconds:g} s, {why}", path)
        text = f"decoding took longer than the deadline of {err.seconds:g} s; its process was killed"
        return VideoDecodeError(path, text)


def _one_thread() -> None:
    """Use no threads of torch's: those of the process before the fork do not exist in the helper."""
    torch.set_num_threads(1)


def _explain(path: str, number: int | None) -> Exception:
    if number in _CRASHES:
        return VideoDecodeError(path, f"it crashed the decoder (signal {number}, {signal.Signals(number).name})")
    how = "ended" if number is None else f"was killed (signal {number}, {signal.Signals(number).name})"
    return ReaderKilled(
        f"{path}: the process that read it {how}, most often because memory or shared memory ran out; "
        "use fewer workers (data.num_workers) or a smaller batch"
    )
