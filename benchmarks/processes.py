"""Processes of runs that are killed: how they end, what they begin, and what of them lives on."""

import contextlib
import os
import signal
import time
from pathlib import Path

PATIENCE = 300.0  # seconds until a run that does not end counts as hanging
LINGER = 60.0  # seconds that what a killed run began has to end; a machine may be busy with other things


def wait(process: int) -> None:
    """Wait for a child that must succeed."""
    if status := end(process):
        raise SystemExit(f"a run that must succeed ended with status {status}; see its .log file")


def end(process: int) -> int:
    """Return the status of a child, negative for a signal, which must end by itself."""
    for _ in range(round(PATIENCE / 0.01)):  # not by a clock: what stands still as a whole may go on as a whole
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    (os.killpg if os.getpgid(process) == process else os.kill)(process, signal.SIGKILL)
    raise SystemExit(f"a run did not end within {PATIENCE:.0f} s; see its .log file")


def children(process: int) -> list[int]:
    """Return the child processes, on Linux."""
    found: list[int] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended since
            found += [int(word) for word in path.read_text().split()]
    return found


def survivors(group: int) -> list[int]:
    """Return the processes of a killed run's group that do not end by themselves within LINGER seconds."""
    for _ in range(round(LINGER / 0.05)):  # not by a clock: what stands still as a whole may go on as a whole
        if not (found := _members(group)):
            return []
        time.sleep(0.05)
    return found


def _members(group: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended since
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(int(path.parent.name))
    return found
