"""What became of a loader's workers, and what they were reading."""

import atexit
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Iterable, Sequence
from multiprocessing.process import BaseProcess

from vidgn.data.faults.child_process import END_SIGNALS, die_with
from vidgn.data.faults.isolated_read import ReaderKilled
from vidgn.data.faults.quarantine import TooManyBadVideos
from vidgn.data.loading.shared_memory import FULL
from vidgn.data.loading.worker_status import Board
from vidgn.data.readers.types import VideoDecodeError

Workers = Sequence[BaseProcess]
_DEAD = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")  # torch/utils/data/dataloader.py
_SIGNAL = re.compile(r"is killed by signal: ([\w ]+)\.")  # torch/csrc/DataLoader.cpp, with strsignal's name
_CAUGHT = re.compile(  # torch/_utils.py, ExceptionWrapper
    r"Caught (\w+) in DataLoader worker process \d+\.\nOriginal Traceback.*^[\w.]*\1: (.*)", re.DOTALL | re.MULTILINE
)
_OURS = (VideoDecodeError, TooManyBadVideos, ReaderKilled, OSError, ValueError, TypeError)
_kills_at_exit = False
_JOIN_SECONDS = 2.0  # a killed process that waits for a dead disk does not end


class WorkerDied(RuntimeError):
    """A worker of the loader was killed, crashed or hangs; the message names what it was reading."""


def end_with_parent(worker: int) -> None:
    """End this worker with the process that began it, and not before: the `worker_init_fn` of our loaders.

    The main thread must iterate them. A scheduler that ends a job signals all of its processes, and the main process
    has a step to finish: the worker ignores what asks a job to end.

    torch's worker looks every 5 s whether its parent is still the one it had when it looked first
    (torch/utils/data/_utils/worker.py, ManagerWatchdog). One whose parent was killed before that looks for ever, and
    holds the lock of the run's folder.
    """
    for number in (signal.SIGINT, *END_SIGNALS):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None and multiprocessing.get_start_method() != "forkserver":
        die_with(parent.pid)


def kill_at_exit() -> None:
    """Kill the reading processes that still run when this process ends: `multiprocessing` would ask, and wait for ever.

    They ignore what asks them to end (`end_with_parent`), those of loaders of other kinds too.
    """
    global _kills_at_exit
    if not _kills_at_exit:
        _kills_at_exit = True
        atexit.register(kill_daemons, os.getpid())  # runs before what multiprocessing registered when it was imported


def kill_daemons(owner: int) -> None:
    """Kill the daemonic children of this process, if it is `owner` and not a fork of it."""
    if os.getpid() == owner:
        _kill([child for child in multiprocessing.active_children() if child.daemon])


def explain_failure(err: BaseException, workers: Workers, board: Board | None) -> WorkerDied | None:
    """Turn what torch says of a dead worker into what it was reading; None where it is about something else.

    A worker that died while the others were being started is not among `workers` yet; what it read is on the `board`.
    Without workers and board every death that torch reports is explained, as far as its message allows.
    """
    if type(err) is not RuntimeError and not isinstance(err, (ConnectionError, EOFError)):
        return None
    by_pid = {worker.pid: worker for worker in workers if worker.pid is not None}
    told = {int(pid) for pid in re.findall(r"\d+", found[1])} if (found := _DEAD.search(str(err))) else set()
    if board is not None:
        told = {pid for pid in told if pid in by_pid or board.last(pid) is not None}  # not another loader's worker
    fallen = {pid for pid, worker in by_pid.items() if worker.exitcode}  # 0: it ended because nothing was left
    dead = sorted(fallen | told)
    for pid in dead:
        if pid in by_pid:
            by_pid[pid].join(_JOIN_SECONDS)  # torch's handler may come before the system has told us how it ended
    if dead:
        codes = {pid: by_pid[pid].exitcode if pid in by_pid else _told_code(str(err)) for pid in dead}
        lines = [f"worker {pid} {_end(code)} {_doing(board, pid)}" for pid, code in codes.items()]
        return WorkerDied(f"{'; '.join(lines)}; {len(by_pid.keys() | set(dead))} workers; {_advice(codes.values())}")
    if "shared memory" in str(err):
        return WorkerDied(f"{FULL}; torch says: {str(err).strip().splitlines()[-1]}")
    return None


def plain(err: Exception) -> Exception:
    """Return an error of a worker as it was there: torch puts the worker's traceback before its text."""
    found = _CAUGHT.match(str(err)) if isinstance(err, _OURS) else None
    return err if found is None else type(err)(found.group(2).strip())


def require_answer(workers: Workers, board: Board | None, *, seconds: float, since: float) -> None:
    """Check that the workers make progress, while the main process waits for them; one that hangs is killed.

    A worker that began its video less than `seconds` ago is left alone, and so is one that waits for another one.

    Raises:
        WorkerDied: A worker reads one file for longer than `seconds`, or all of them have said nothing for so long.
    """
    late = time.monotonic() - seconds
    notes = {worker.pid: board.last(worker.pid) if board and worker.pid else None for worker in workers}
    hanging = [pid for pid, note in notes.items() if note is not None and note.is_reading and note.since < late]
    if since < late and all(note is None or note.since < late for note in notes.values()):
        hanging = hanging or list(notes)
    if hanging:
        _kill([worker for worker in workers if worker.pid in hanging])
        names = "; ".join(f"worker {pid} hangs {_doing(board, pid)}" for pid in hanging)
        raise WorkerDied(
            f"no answer for {seconds:g} s: {names}; {len(notes)} workers; look at that file and at its disk, or allow "
            "more time with data.deadline_seconds=SECONDS"
        )


def _kill(workers: Workers) -> None:
    """End workers that would keep this process from ending, before torch's signal handler reports their death."""
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if in_main else None
    for worker in workers:
        worker.kill()
        worker.join(_JOIN_SECONDS)
    if before is not None:
        signal.signal(signal.SIGCHLD, before)


def _doing(board: Board | None, pid: int | None) -> str:
    note = board.last(pid) if board is not None and pid is not None else None
    if note is None:
        return "while it read an unknown video"
    return f"while it read {note.path}" if note.is_reading else f"after it read {note.path}"


def _told_code(text: str) -> int | None:
    """Read from torch's message how a worker ended whose process object was never returned."""
    name = found[1] if (found := _SIGNAL.search(text)) else ""
    return next((-number for number in signal.valid_signals() if name and signal.strsignal(number) == name), None)


def _end(code: int | None) -> str:
    if code is None:
        return "ended"
    if code >= 0:
        return f"ended (status {code})"
    return f"was killed by signal {-code} ({signal.Signals(-code).name})"


def _advice(codes: Iterable[int | None]) -> str:
    return "; ".join(sorted({_ADVICE.get(-(code or 0), "look at that file") for code in codes}))


_ADVICE: dict[int, str] = {
    signal.SIGKILL: "signal 9 is most often lack of memory: use fewer workers (data.num_workers) or a smaller batch",
    signal.SIGBUS: f"signal 7 most often means that {FULL}",
}
