"""A process that can be killed: what may hang or crash runs there, and its arrays come back through shared memory.

    worker or main process                 helper (forked on first use, kept)
    call(video)  ------- request ------>   function(video)
    wait at most `seconds`                 arrays -> shared memory
    copy the arrays  <---- layout -----    answer
    no answer: SIGKILL, HelperTimeout      died: HelperDied with the signal

A thread could not do this: a decoder that never returns may hold the interpreter lock. The helper dies with its
parent, and the system's out-of-memory killer takes it first.
"""

import ctypes
import faulthandler
import gc
import mmap
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidgn.data.faults.disk_wait import waits_for_disk

Arrays = Sequence[NDArray[Any]]
Function = Callable[..., tuple[Arrays, Any]]

_CAPACITY = 1 << 31  # bytes of address space; memory is only taken where arrays are written
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SLICE_SECONDS = 0.25
STOPPED_SECONDS = 5.0  # a machine that is merely busy wakes a process sooner
END_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_REAP_SECONDS = 2.0  # a killed process that waits for a dead disk does not end


class HelperTimeout(Exception):
    """The helper did not answer in time and was killed; `waits_for_disk` tells whether the system held it up."""

    def __init__(self, seconds: float, waits_for_disk: bool) -> None:
        super().__init__(seconds, waits_for_disk)
        self.seconds, self.waits_for_disk = seconds, waits_for_disk


class HelperDied(Exception):
    """The helper ended without an answer; `signal` is what killed it, None where it left by itself."""

    def __init__(self, number: int | None) -> None:
        super().__init__(number)
        self.signal = number


class Helper:
    """Calls one function in a process of its own.

    Args:
        function: Returns arrays, and anything small that can be pickled.
        prepare: Called first there.
    """

    def __init__(self, function: Function, *, prepare: Callable[[], None] = lambda: None) -> None:
        self._function = function
        self._prepare = prepare
        self._child: _Child | None = None

    def call(self, *args: Any, seconds: float) -> tuple[list[NDArray[Any]], Any]:
        """Call the function there; its exceptions are raised here.

        Raises:
            HelperTimeout: No answer in time. The next call has a new helper.
            HelperDied: It was killed or crashed. The next call has a new helper.
        """
        child = self._living() or _start(self._function, self._prepare)
        self._child = child
        try:
            child.pipe.send(args)
            if not answered(child.pipe.poll, seconds=seconds):
                waits = waits_for_disk(child.pid)
                self.close()
                raise HelperTimeout(seconds, waits)
            error, layout, rest = child.pipe.recv()
        except (EOFError, ConnectionError) as err:
            raise HelperDied(self._reap()) from err
        if error is not None:
            raise error
        return [_copy(child.memory, *place) for place in layout], rest

    def close(self) -> None:
        """Kill the helper, if there is one."""
        if self._child is not None and self._child.owner == os.getpid():
            with suppress(ProcessLookupError):
                os.kill(self._child.pid, signal.SIGKILL)
            self._reap()
        self._child = None

    def __del__(self) -> None:
        """Leave no process behind."""
        self.close()

    def _living(self) -> "_Child | None":
        """Return the helper, unless a forked process would share its pipe or the thread that made it has ended."""
        if self._child is None or self._child.owner != os.getpid():
            return None
        if not self._child.thread.is_alive():  # the system kills the helper with it
            self.close()
        return self._child

    def _reap(self) -> int | None:
        """Return the signal that ended the helper; one that the system itself holds up is left to it."""
        assert self._child is not None
        self._child.pipe.close()
        latest = time.monotonic() + _REAP_SECONDS
        pid, status = os.waitpid(self._child.pid, os.WNOHANG)
        while not pid and time.monotonic() < latest:
            time.sleep(0.001)
            pid, status = os.waitpid(self._child.pid, os.WNOHANG)
        self._child = None
        return os.WTERMSIG(status) if pid and os.WIFSIGNALED(status) else None


class _Child(NamedTuple):
    owner: int
    thread: threading.Thread
    pid: int
    pipe: Connection
    memory: mmap.mmap


def answered(poll: Callable[[float], bool], *, seconds: float, clock: Callable[[], float] = time.monotonic) -> bool:
    """Wait for an answer for `seconds` in which this process could run.

    It waits in slices. One that took `STOPPED_SECONDS` longer means that this process, and its children with it, was
    stopped (SIGSTOP, a paused container).

    Args:
        poll: Waits at most so many seconds; returns whether the answer is there.
        seconds: At most.
        clock: Tells the time.
    """
    left = seconds
    while left > 0:
        began = clock()
        if poll(min(left, _SLICE_SECONDS)):
            return True
        left -= run_seconds(clock() - began, asked=_SLICE_SECONDS)
    return poll(0)


def run_seconds(elapsed: float, *, asked: float) -> float:
    """Return how long this process could run within a wait that was to take at most `asked` seconds.

    >>> run_seconds(1.6, asked=0.25), run_seconds(3600, asked=0.25)
    (1.6, 0.25)
    """
    return asked if elapsed > asked + STOPPED_SECONDS else elapsed


@contextmanager
def held_signals() -> Iterator[None]:
    """Hold back what asks a job to end; a process forked meanwhile never gets it, this one does afterwards.

    Schedulers signal every process of a job, and a reading process must not end before the run has saved.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, END_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def die_with(owner: int) -> None:
    """Ask the system to kill this process when the thread that forked it ends (Linux); `owner` is its process."""
    with suppress(AttributeError, OSError):  # elsewhere an idle helper still ends with its pipe
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != owner:  # it ended before we asked
        os._exit(1)


def _start(function: Function, prepare: Callable[[], None]) -> _Child:
    flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    memory = mmap.mmap(-1, _CAPACITY, flags=flags)
    ours, theirs = Pipe()
    owner = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, END_SIGNALS)  # for ever in the child
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ours.close()
            prepare()
            _serve(function, theirs, memory, owner)
            status = 0
        finally:
            os._exit(status)  # never run the parent's exit handlers
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return _Child(owner, threading.current_thread(), pid, ours, memory)


def _serve(function: Function, pipe: Connection, memory: mmap.mmap, owner: int) -> None:
    die_with(owner)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # prefer it when memory runs out (Linux)
        file.write("500")
    gc.freeze()  # what is garbage of the parent is the parent's: a loader collected here would end its workers there
    faulthandler.disable()  # the parent reports a crash, in one line
    for number in (signal.SIGINT, *END_SIGNALS):  # to a whole group: the parent's to handle
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            args = pipe.recv()
        except EOFError:
            return
        answer: tuple[Exception | None, list[tuple[Any, ...]], Any]
        try:
            arrays, rest = function(*args)
            answer = (None, _lay_out(memory, arrays), rest)
        except Exception as err:
            answer = (_portable(err), [], None)
        pipe.send(answer)


def _lay_out(memory: mmap.mmap, arrays: Arrays) -> list[tuple[Any, ...]]:
    """Write arrays one after another in the order in which they lie in memory; return where they are."""
    layout, offset = [], 0
    for array in arrays:
        order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
        stored = array.transpose(order)
        if offset + array.nbytes > _CAPACITY:
            raise MemoryError(f"arrays of {offset + array.nbytes:,} bytes exceed {_CAPACITY:,}; use smaller frames.")
        np.ndarray(stored.shape, array.dtype, buffer=memory, offset=offset)[...] = stored
        layout.append((stored.shape, array.dtype.str, offset, order))
        offset += -(-array.nbytes // 64) * 64
    return layout


def _copy(memory: mmap.mmap, shape: tuple[int, ...], dtype: str, offset: int, order: list[int]) -> NDArray[Any]:
    stored = np.ndarray(shape, dtype, buffer=memory, offset=offset).copy()
    return stored.transpose(np.argsort(order)) if order else stored


def _portable(err: Exception) -> Exception:
    """Return the exception, or what it says where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(err))
    except Exception:  # any class may fail in its own way
        return RuntimeError(f"{type(err).__name__}: {err}")
    return err
