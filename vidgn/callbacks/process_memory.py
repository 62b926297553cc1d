"""How much memory a process and all that it has started hold, from /proc (Linux)."""

import os
from contextlib import suppress
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int:
    """Return the resident memory of one process; 0 where it has ended or the system does not tell."""
    with suppress(OSError):
        return _PAGE * int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return 0


def proportional_bytes(pid: int) -> int:
    """Return the memory of one process in which pages that n processes share count as an n-th (PSS).

    Sums over processes are then what the machine gives them; resident memory would count a shared page for each.
    Where the system does not tell (before Linux 4.14, another user's process) it is the resident memory.
    """
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return resident_bytes(pid)


def descendants(pid: int) -> list[int]:
    """Return the children of a process, theirs, and so on: reading processes and their helpers."""
    processes: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                processes += [int(child), *descendants(int(child))]
    return processes
