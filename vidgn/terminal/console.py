"""What is shown on the console: a progress bar, and lines printed by the first rank alone."""

import sys
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from vidgn.terminal.escape import escaped

SECONDS_IN_FILES = 30  # between two states of a progress bar where the output goes into a file


class ProgressBar:
    """A progress bar that appears with the first call."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Show `done` of `total`."""
        if self._bar is None:
            interval = 0.1 if sys.stderr.isatty() else SECONDS_IN_FILES
            self._bar = tqdm(total=total, desc=self._title, unit="video", mininterval=interval)
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()


@rank_zero_only
def say(text: str) -> None:
    """Print on the first process only."""
    print(text, file=escaped(sys.stdout), flush=True)
