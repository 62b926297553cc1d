"""The ledger of videos that training could not read: a file of the run folder, one JSON line per video."""

import fcntl
import json
import os
import time
from pathlib import Path
from typing import BinaryIO, NamedTuple

LEDGER = "quarantine.jsonl"


class BadVideo(NamedTuple):
    """One line: the name of the video, what is wrong with it, seconds spent on it, and when (Unix time)."""

    video: str
    error: str
    seconds: float
    time: float


class TooManyBadVideos(Exception):
    """More videos than allowed could not be read; the message lists them."""


class Quarantine:
    """Remembers bad videos for all workers and ranks of a run, each one once.

    Args:
        path: The ledger; made when the first video is bad. A resumed run goes on with it.
        num_videos: Of the training set.
        max_share: Largest share of them that may be bad.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(self, path: str | Path, *, num_videos: int, max_share: float = 0.01) -> None:
        if num_videos < 1:
            raise ValueError(f"num_videos ({num_videos}) must be at least 1.")
        if not 0 <= max_share <= 1:
            raise ValueError(f"max_share ({max_share}) must be in [0, 1]; 0.01 is one video of a hundred.")
        self.path = os.path.abspath(path)
        self.num_videos = num_videos
        self.max_share = max_share
        self._known: set[str] = set()
        self._seen_bytes = -1

    def __contains__(self, video: str) -> bool:
        self._refresh()
        return video in self._known

    def __len__(self) -> int:
        self._refresh()
        return len(self._known)

    def rows(self) -> list[BadVideo]:
        """Return all lines."""
        try:
            with open(self.path, "rb") as file:
                content = file.read()  # whole: a line may be growing while we read
        except FileNotFoundError:
            return []
        return [BadVideo(**json.loads(line)) for line in content.split(b"\n")[:-1]]

    def add(self, video: str, error: str, *, seconds: float) -> bool:
        """Write a video down, unless some process has done so already; tell whether it is new.

        Raises:
            TooManyBadVideos: There are more than `max_share` of the training set now.
        """
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # ends with the process, whatever happens to it
            _drop_unfinished_line(file)
            known = {row.video for row in self.rows()}
            is_new = video not in known
            if is_new:
                row = BadVideo(video, error, round(seconds, 3), round(time.time(), 3))
                file.write(json.dumps(row._asdict()).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        self._check()
        return is_new

    def _check(self) -> None:
        rows = self.rows()
        share = f"max_share ({self.max_share:g})"
        if len(rows) <= self.max_share * self.num_videos:
            return
        names = "\n".join(f"  {row.video}: {row.error}" for row in rows[:50])
        more = f"\n  and {len(rows) - 50:,} more" if len(rows) > 50 else ""
        raise TooManyBadVideos(
            f"{len(rows):,} of {self.num_videos:,} training videos cannot be read, more than {share}; "
            f"repair or remove them (listed in {self.path}), or allow a larger share:\n{names}{more}"
        )

    def _refresh(self) -> None:
        """Read the ledger again where another process has written to it."""
        try:
            size = os.stat(self.path).st_size
        except FileNotFoundError:
            size = 0
        if size != self._seen_bytes:
            self._known = {row.video for row in self.rows()}
            self._seen_bytes = size


def _drop_unfinished_line(file: BinaryIO) -> None:
    """Cut off what a killed process left."""
    file.seek(0)
    content = file.read()
    if not content.endswith(b"\n"):
        file.truncate(content.rfind(b"\n") + 1)
