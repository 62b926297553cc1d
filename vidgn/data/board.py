"""A loader that says which video its worker was reading when the worker died."""

import mmap
import os
import re
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, get_worker_info

_SLOTS, _SLOT_BYTES = 512, 4104  # workers at most; pid and a path of at most PATH_MAX bytes


class Board:
    """What each worker reads at the moment, in memory that the main process shares with workers that it forks."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SLOTS * _SLOT_BYTES)

    def note(self, path: str) -> None:
        """Write down what this worker reads from now on; nothing in the main process."""
        info = get_worker_info()
        if info is None or info.id >= _SLOTS:
            return
        name = path.encode(errors="surrogateescape")[: _SLOT_BYTES - 8]
        start = info.id * _SLOT_BYTES
        self._memory[start : start + 8 + len(name)] = (
            os.getpid().to_bytes(4, "little") + len(name).to_bytes(4, "little") + name
        )

    def reading(self, pid: int) -> str | None:
        """Return what the worker with this process id read last."""
        for slot in range(_SLOTS):
            start = slot * _SLOT_BYTES
            if int.from_bytes(self._memory[start : start + 4], "little") == pid:
                length = int.from_bytes(self._memory[start + 4 : start + 8], "little")
                return self._memory[start + 8 : start + 8 + length].decode(errors="surrogateescape")
        return None

    def __reduce__(self) -> tuple[type["Board"], tuple[()]]:
        """A spawned worker gets a board of its own, which nobody reads."""
        return Board, ()


class WorkerDied(RuntimeError):
    """A worker of the loader was killed or crashed; the message names what it was reading."""


class VideoLoader(DataLoader[Any]):
    """A `DataLoader` whose error for a dead worker names the video, from the `board` of its data set."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield batches.

        Raises:
            WorkerDied: A worker was killed, crashed, or does not answer within `timeout`.
        """
        batches = super().__iter__()
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, ConnectionError, EOFError) as err:
                said = _explain(err, batches, getattr(self.dataset, "board", None))
                if said is None:
                    raise
                raise WorkerDied(said) from err
            yield batch


def _explain(err: Exception, batches: Any, board: Board | None) -> str | None:
    """Name the dead workers and what they read; None where no worker is dead."""
    workers = [worker for worker in getattr(batches, "_workers", []) if worker.pid is not None]
    by_pid = {worker.pid: worker for worker in workers}
    told = {int(pid) for pid in re.findall(r"\d+", str(err)) if int(pid) in by_pid}
    late = isinstance(err, RuntimeError) and "timed out" in str(err)
    dead = sorted(told | {worker.pid for worker in workers if not worker.is_alive()})
    concerned = dead or (sorted(by_pid) if late else [])
    if not concerned:
        return None
    lines = []
    for pid in concerned:
        code = by_pid[pid].exitcode
        how = "does not answer" if not dead else f"was killed by signal {-code}" if code and code < 0 else "has ended"
        lines.append(f"worker {pid} {how} while it read {(board and board.reading(pid)) or 'an unknown video'}")
    advice = "signal 9 is most often lack of memory: use fewer workers (data.num_workers) or a smaller batch"
    return f"{'; '.join(lines)}; {len(workers)} workers; {advice}"
