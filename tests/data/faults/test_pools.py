"""A pool of processes ends with the process that made it, however that ends."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest

from vidgn.data.faults.pools import process_pool

ROOT = next(folder for folder in Path(__file__).parents if (folder / "train.py").is_file())
BUSY = """
import os, sys, time
from vidgn.data.faults.pools import process_pool

def work(number):
    os.write(1, b"%d\\n" % os.getpid())  # one write: print makes two where PYTHONUNBUFFERED is set
    time.sleep(1000)

if __name__ == "__main__":
    with process_pool(2) as pool:
        list(pool.map(work, range(2)))
"""


def children_of(script, number):
    """Run a script until two processes work, send it a signal; return its status and the processes."""
    with subprocess.Popen(
        [sys.executable, str(script)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell ignores it in the background
    ) as process:  # fmt: skip
        pids = [int(process.stdout.readline()) for _ in range(2)]
        os.kill(process.pid, number)
        assert process.stdout.read() == ""  # its end is reached when the last of them has closed it
        return process.wait(), pids


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_no_process_outlives_the_one_that_made_it(tmp_path, number):
    (tmp_path / "busy.py").write_text(BUSY)
    status, pids = children_of(tmp_path / "busy.py", number)
    assert status != 0
    assert not any(is_running(pid) for pid in pids)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_pool_gives_results_and_errors():
    with process_pool(2) as pool:
        assert list(pool.map(abs, [-1, -2, 3])) == [1, 2, 3]
    with pytest.raises(TypeError, match="bad operand"), process_pool(1) as pool:
        list(pool.map(abs, ["x"]))


@pytest.mark.slow
def test_an_interrupt_ends_a_process_that_the_pool_does_not_know_yet():
    process = get_context("spawn").Process(target=time.sleep, args=(1000,))

    def start_and_be_interrupted():
        with process_pool(1):
            process.start()
            raise KeyboardInterrupt("after the start")

    with pytest.raises(KeyboardInterrupt, match="after the start"):
        start_and_be_interrupted()
    assert not process.is_alive()
