"""Pools of processes that leave nothing behind: not where this process is killed, not where it is interrupted."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess

from vidgn.data.faults.child_process import die_with


@contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of spawned processes.

    They are killed with the thread that made the pool (Linux), so that SIGKILL and SIGTERM leave no orphans, and at
    once where the block ends with an exception: an interrupted job of a minute is not waited for.
    """
    before = active_children()
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=die_with, initargs=(os.getpid(),))
    try:
        yield pool
    except BaseException:
        _kill(pool, before)
        raise
    pool.shutdown(wait=True)


def _kill(pool: ProcessPoolExecutor, before: list[BaseProcess]) -> None:
    """End the pool and what was started since: an interrupt may come before the pool knows a process it has started."""
    pool.shutdown(wait=False, cancel_futures=True)
    processes = [process for process in active_children() if process not in before and _is_spawned(process)]
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def _is_spawned(process: BaseProcess) -> bool:
    return isinstance(process, get_context("spawn").Process)
