"""Whether a process waits for a disk or the network: what tells a stalled file system from a decoder that hangs."""

import platform
import time
from contextlib import suppress
from typing import NamedTuple

_LOOK_SECONDS = 0.05
# read, open, stat, lseek, pread64, readv, openat, newfstatat, statx (asm/unistd_64.h, asm-generic/unistd.h)
_FILE_CALLS = {
    "x86_64": frozenset({0, 2, 4, 8, 17, 19, 257, 262, 332}),
    "aarch64": frozenset({56, 62, 63, 65, 67, 79, 291}),
}


def waits_for_disk(pid: int) -> bool:
    """Tell whether a process sleeps within one call that reads or opens a file, or without interruption (state D)."""
    before = _asleep(pid)
    if before is None:
        return False
    time.sleep(_LOOK_SECONDS)
    calls = _FILE_CALLS.get(platform.machine(), frozenset())
    return _asleep(pid) == before and (before.state == "D" or before.call in calls)


class _Sleep(NamedTuple):
    state: str  # S, or D without interruption
    call: int  # of the system; -1: not told
    number: int  # how often the process has gone to sleep


def _asleep(pid: int) -> _Sleep | None:
    call = ""
    try:
        with open(f"/proc/{pid}/status") as file:
            facts = dict(line.split(":\t", 1) for line in file if ":\t" in line)
    except OSError:  # the process has ended, or this system does not tell
        return None
    with suppress(OSError), open(f"/proc/{pid}/syscall") as file:
        call = file.read().partition(" ")[0]
    state = facts["State"].partition(" ")[0]
    if state not in ("S", "D"):
        return None
    return _Sleep(state, int(call) if call.isdigit() else -1, int(facts["voluntary_ctxt_switches"]))
