"""Input/output errors are the network's fault, not the video's: try again, then say so."""

import errno
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

RETRIES = 3
FIRST_PAUSE = 0.5  # seconds; doubled each time
# A second try gives the same answer: names, permissions, and what the machine lacks.
_LASTING = frozenset({
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG,
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINVAL,
})  # fmt: skip


def retried(
    read: Callable[[], T],
    *,
    pause: Callable[[float], None] = time.sleep,
    on_failure: Callable[[], None] = lambda: None,
) -> T:
    """Call `read`; after an OSError that may pass (EIO, ESTALE, a timeout, ...) call it up to three times more.

    Whatever is wrong with the content of a file is no OSError, and is not tried again.

    Args:
        read: What may fail.
        pause: Waits 0.5, 1 and 2 seconds between the calls.
        on_failure: Called after each error that may pass.

    Raises:
        OSError: The last one, with a note of how often it was tried.
    """
    for retry in range(RETRIES + 1):
        try:
            return read()
        except OSError as err:
            if err.errno in _LASTING or err.errno is None:
                raise
            on_failure()
            if retry == RETRIES:
                err.add_note(f"tried {RETRIES + 1} times; this is an input/output error, not a bad video")
                raise
        pause(FIRST_PAUSE * 2**retry)
    raise AssertionError("unreachable")
