"""A process that sleeps in a read waits for its disk; one that sleeps, computes or is gone does not."""

import os
import subprocess
import sys
import time

import pytest

from vidgn.data.faults.disk_wait import waits_for_disk

# A pipe that nobody writes to stands for a disk that does not answer.
DOING = {"read": ("import os; os.read(0, 1)", True), "sleep": ("import time; time.sleep(1000)", False),
         "compute": ("while True: pass", False)}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("what", DOING)
def test_only_a_read_that_does_not_return_is_a_wait_for_the_disk(what):
    code, waits = DOING[what]
    reading, writing = os.pipe()
    child = subprocess.Popen([sys.executable, "-S", "-c", f"print(1, flush=True); {code}"], stdin=reading, stdout=-1)
    try:
        assert child.stdout is not None
        child.stdout.readline()  # it has started
        end = time.monotonic() + 60  # at its start it may wait for a moment for the disk it comes from
        while waits_for_disk(child.pid) is not waits and time.monotonic() < end:
            os.sched_yield()
        assert waits_for_disk(child.pid) is waits
    finally:
        child.kill()
        child.communicate()
        os.close(reading)
        os.close(writing)


def test_a_process_that_is_gone_waits_for_nothing():
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    child.wait()
    assert not waits_for_disk(child.pid)
