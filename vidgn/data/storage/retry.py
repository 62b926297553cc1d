"""The one retry: errors of a disk or a network that may pass are tried again, then raised."""

import errno
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

RETRIES = 3
FIRST_PAUSE = 0.5  # seconds; doubled each time
# A second call would fail the same way: names, permissions, and what the machine lacks.
_LASTING = frozenset({
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG,
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINVAL,
})  # fmt: skip


def may_pass(error: Exception) -> bool:
    """Whether the same call may succeed in a second: EIO, ESTALE, a timeout of a network file system, ...

    An error in the content of a file is not an OSError, and does not pass.
    """
    return isinstance(error, OSError) and error.errno is not None and error.errno not in _LASTING


def retried(
    read: Callable[[], T],
    *,
    is_transient: Callable[[Exception], bool] = may_pass,
    pause: Callable[[float], None] | None = None,
    on_failure: Callable[[], None] = lambda: None,
) -> T:
    """Call `read`; after an error that may pass, call it up to three times more.

    Args:
        read: What may fail.
        is_transient: Whether an error may pass.
        pause: Waits 0.5, 1 and 2 seconds between the calls; None: `time.sleep`.
        on_failure: Called after each error that may pass.

    Raises:
        Exception: The last error, with a note of how often `read` was called; or the first one that does not pass.
    """
    for retry in range(RETRIES + 1):
        try:
            return read()
        except Exception as err:
            if not is_transient(err):
                raise
            on_failure()
            if retry == RETRIES:
                err.add_note(f"tried {RETRIES + 1} times; this is an input/output error, not an unreadable video")
                raise
        (pause or time.sleep)(FIRST_PAUSE * 2**retry)
    raise AssertionError("unreachable")
