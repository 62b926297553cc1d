"""Pools of processes that leave nothing behind: not where this process is killed, not where it is interrupted."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

from vidgn.data.faults.child_process import die_with


@contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of spawned processes.

    They are killed with the thread that made the pool (Linux), so that SIGKILL and SIGTERM leave no orphans, and at
    once where the block ends with an exception: an interrupted job of a minute is not waited for.
    """
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=die_with, initargs=(os.getpid(),))
    try:
        yield pool
    except BaseException:
        _kill(pool)
        raise
    pool.shutdown(wait=True)


def _kill(pool: ProcessPoolExecutor) -> None:
    processes = list((pool._processes or {}).values())  # concurrent/futures/process.py; Python 3.14 has kill_workers
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
