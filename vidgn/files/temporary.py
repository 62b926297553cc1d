"""A temporary folder that is removed however the process is asked to end."""

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that is gone afterwards: also after SIGTERM, whose default ends the process at once.

    Only the main thread hears signals; in another one the folder is removed by the end of the block alone.
    """
    with _ending_by_exception():
        folder = Path(tempfile.mkdtemp(prefix="vidgn-")).resolve()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _ending_by_exception() -> Iterator[None]:
    """Let SIGTERM raise SystemExit in this process, where nothing else answers it."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    process = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() != process:  # a child that was forked inside the block
            os.kill(os.getpid(), signal.SIGTERM)
            return
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
