"""A run outlives its terminal (`python train.py | head`, a closed window), and takes UTF-8 names in any locale."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO

ASCII_NAMES = (
    "a name on the command line, or the current folder, has letters outside ASCII, which the locale and PYTHONUTF8=0 "
    "do not admit; set PYTHONUTF8=1, or a locale such as LC_ALL=C.UTF-8"
)


class LastingStream:
    """A stream that writes nowhere once its reader is gone, instead of ending the run.

    Args:
        stream: standard output or error.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or drop the text where the terminal is closed."""
        with self._surviving():
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or drop the text where the terminal is closed."""
        with self._surviving():
            self._stream.flush()

    def writelines(self, lines: list[str]) -> None:
        """Write several lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _surviving(self) -> Iterator[None]:
        try:
            yield
        except (BrokenPipeError, OSError) as err:
            if not isinstance(err, BrokenPipeError) and err.errno != 5:  # EIO: the terminal is gone
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # also for what is in the buffer, and for other processes' copies
            os.close(nowhere)


def outlive_terminal() -> None:
    """Let this process continue when its output is no longer read or its terminal is closed."""
    if not isinstance(sys.stdout, LastingStream):
        sys.stdout = LastingStream(sys.stdout)
    if not isinstance(sys.stderr, LastingStream):
        sys.stderr = LastingStream(sys.stderr)
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def take_utf8_names() -> None:
    """Start this process again in Python's UTF-8 mode where its locale spells the names that it was given otherwise.

    In a locale such as ISO-8859-1 TensorBoard looks for other files than Python makes. Names of other encodings than
    UTF-8 stay as they are. A process that PYTHONUTF8=0 tells to name files in ASCII ends with a sentence (status 2).
    """
    if sys.getfilesystemencoding() == "utf-8":
        return
    names = [*map(os.fsencode, sys.argv), os.getcwdb()]
    if all(name.isascii() for name in names) or not all(map(_is_utf8, names)):
        return
    if "PYTHONUTF8" in os.environ:
        if "ascii" in sys.getfilesystemencoding():
            print(f"error: {ASCII_NAMES}", file=sys.stderr)
            sys.exit(2)
        return
    os.environ["PYTHONUTF8"] = "1"  # for the processes that it starts, too
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
