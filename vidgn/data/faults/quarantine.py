"""The ledger of videos that a run could not read: a file of the run folder, one JSON line per video.

    a video is bad from the first epoch on in which its clip could not be read

Within an epoch a video has one clip, so which videos are bad in it depends on nothing but the files and the seed: not
on workers, ranks, or on which of several stops and resumes the ledger has seen.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

LEDGER = "quarantine.jsonl"

Stream = Literal["train", "val"]


class BadVideo(NamedTuple):
    """One line.

    Attributes:
        video: its name in the manifest.
        error: what is wrong with it.
        split: train or val.
        row: of the manifest.
        epoch: the first one in which it could not be read.
        seconds: spent on it.
        time: when it was found, seconds since 1970.
    """

    video: str
    error: str
    split: Stream
    row: int
    epoch: int
    seconds: float
    time: float


class TooManyBadVideos(Exception):
    """More training videos than allowed could not be read; the message lists them."""


class Quarantine:
    """Remembers unreadable videos for all workers and ranks of a run, each one once.

    Args:
        path: The ledger; made when the first video is bad. A resumed run appends to it.
        num_videos: Of the training set.
        max_share: Largest share of them that may be bad.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(self, path: str | Path, *, num_videos: int, max_share: float = 0.01) -> None:
        if num_videos < 1:
            raise ValueError(f"num_videos ({num_videos}) must be at least 1.")
        if not 0 <= max_share <= 1:
            raise ValueError(f"data.max_share ({max_share}) must be in [0, 1]; 0.01 is one video of a hundred.")
        self.path = os.path.abspath(path)
        self.num_videos = num_videos
        self.max_share = max_share
        self._epochs: dict[tuple[Stream, int, str], int] = {}
        self._seen_bytes = -1

    def holds(self, split: Stream, row: int, video: str, *, epoch: int) -> bool:
        """Tell whether a video is bad in an epoch."""
        self._refresh()
        first = self._epochs.get((split, row, video))
        return first is not None and first <= epoch

    def count(self, split: Stream) -> int:
        """Count the unreadable videos of a split."""
        self._refresh()
        return sum(key[0] == split for key in self._epochs)

    def rows(self) -> list[BadVideo]:
        """Return all lines."""
        try:
            with open(self.path, "rb") as file:
                content = file.read()  # whole: a line may be growing while we read
        except FileNotFoundError:
            return []
        return [BadVideo(**json.loads(line)) for line in content.split(b"\n")[:-1]]

    def add(self, *bad: BadVideo) -> int:
        """Write videos down, but for those that some process has written before; return how many are new.

        Raises:
            TooManyBadVideos: There are more than `max_share` of the training set now.
        """
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # ends with the process, whatever happens to it
            _drop_unfinished_line(file)
            known = {_key(row) for row in self.rows()}
            new = [row for row in bad if _key(row) not in known]
            file.writelines(json.dumps(row._asdict()).encode() + b"\n" for row in new)
            file.flush()
            os.fsync(file.fileno())
        self.check()
        return len(new)

    def merge(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take over what a checkpoint knows, where the run is resumed in another folder.

        Raises:
            TooManyBadVideos: They are more than `max_share` of the training set.
        """
        bad = [BadVideo(**row) for row in rows]
        if bad:
            self.add(*bad)

    def check(self) -> None:
        """Look at the share of bad training videos.

        Raises:
            TooManyBadVideos: It is more than `max_share`.
        """
        rows = [row for row in self.rows() if row.split == "train"]
        if len(rows) <= self.max_share * self.num_videos:
            return
        names = "\n".join(f"  {row.video}: {row.error}" for row in rows[:50])
        more = f"\n  and {len(rows) - 50:,} more" if len(rows) > 50 else ""
        raise TooManyBadVideos(
            f"{len(rows):,} of {self.num_videos:,} training videos cannot be read, more than data.max_share "
            f"({self.max_share:g}); mend them and delete {self.path}, or allow more with data.max_share=SHARE:"
            f"\n{names}{more}"
        )

    def _refresh(self) -> None:
        """Read the ledger again where another process has written to it."""
        try:
            size = os.stat(self.path).st_size
        except FileNotFoundError:
            size = 0
        if size != self._seen_bytes:
            self._epochs = {_key(row): row.epoch for row in self.rows()}
            self._seen_bytes = size


def _key(row: BadVideo) -> tuple[Stream, int, str]:
    return row.split, row.row, row.video


def _drop_unfinished_line(file: BinaryIO) -> None:
    """Cut off what a killed process left."""
    file.seek(0)
    content = file.read()
    if not content.endswith(b"\n"):
        file.truncate(content.rfind(b"\n") + 1)
