"""What a test has scored so far, a line per video: an interrupted test is resumed from it."""

import json
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vidgn.scores.predictions import Begun, Prediction


class Journal:
    """Predictions as they come, `predictions.rankR.jsonl` in the run folder; each line is whole or ignored.

    Floats are written with all their digits, so that a resumed test gives the same bits as one never stopped.

    Args:
        folder: of the run.
        rank: of this process; each writes a file of its own and reads all.
        key: plain values that the scores depend on; lines of another key do not count.
        stamp: of a video (row), what changes with its file; a line of another stamp does not count.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rank: int,
        key: Mapping[str, Any],
        stamp: Callable[[int], str | None] = lambda video: None,
    ) -> None:
        self.folder = folder
        self.path = folder / f"predictions.rank{rank}.jsonl"
        self._head = {"key": json.loads(json.dumps(dict(key), sort_keys=True))}
        self._stamp = stamp
        self._has_begun = False

    def read(self) -> dict[int, Prediction]:
        """Return what all ranks have scored with this key; a video that could not be read is tried again.

        Raises:
            ValueError: A whole line is not a prediction: the file was damaged or changed.
        """
        predictions: dict[int, Prediction] = {}
        for path, line in self._lines():
            if not line.startswith(_BEGUN):
                prediction, stamp = _parse(line, path)
                if prediction.scores is not None and stamp == self._stamp(prediction.video):
                    predictions[prediction.video] = prediction
        return predictions

    def read_begun(self) -> dict[int, Begun]:
        """Return how far all ranks were in videos that come in several pieces, those among them that are done too.

        Raises:
            ValueError: as `read` does.
        """
        by_video: dict[int, Begun] = {}
        for path, line in self._lines():
            if line.startswith(_BEGUN):
                begun, stamp = _parse_begun(line, path)
                if stamp != self._stamp(begun.video):
                    continue
                if begun.video not in by_video or by_video[begun.video].views < begun.views:
                    by_video[begun.video] = begun
        return by_video

    def others(self) -> dict[str, tuple[Any, Any]]:
        """Return what differs between the key of a journal in the folder and this one: name -> (its, this one's)."""
        for path in self._files():
            with path.open(encoding="utf-8") as file:
                first = file.readline()
            theirs = _key_of(first)
            if theirs is not None and theirs != self._head["key"]:
                ours = self._head["key"]
                names = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
                return {name: (theirs.get(name), ours.get(name)) for name in names}
        return {}

    def add(self, prediction: Prediction) -> None:
        """Write a line; the first one of this process begins a new file, or mends the end of its old one."""
        stamped = [*prediction, self._stamp(prediction.video)]
        self._write(json.dumps(stamped, ensure_ascii=True, default=list))  # the scores are an array

    def add_begun(self, begun: Begun) -> None:
        """Write a line in the same way."""
        self._write(_BEGUN + json.dumps([*begun, self._stamp(begun.video)]) + "}")

    def remove(self) -> None:
        """Remove the files of all ranks: the results are written."""
        for path in self._files():
            path.unlink()

    def _lines(self) -> Iterator[tuple[Path, str]]:
        """Yield the whole lines of files with our key."""
        for path in self._files():
            lines = path.read_text("utf-8").split("\n")[:-1]  # what follows the last line break was cut off
            if lines and lines[0] == json.dumps(self._head):
                yield from ((path, line) for line in lines[1:])

    def _write(self, line: str) -> None:
        if not self._has_begun:
            self._begin()
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("predictions.rank*.jsonl"))

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        old = self.path.read_text("utf-8") if self.path.is_file() else ""
        whole = old[: old.rfind("\n") + 1]
        head = json.dumps(self._head) + "\n"
        self.path.write_text(whole if whole.startswith(head) else head, "utf-8")
        self._has_begun = True


_BEGUN = '{"begun": '  # a line of a video that is not done


def _key_of(line: str) -> dict[str, Any] | None:
    """Return the key of a first line; None where vidgn did not write it."""
    try:
        head = json.loads(line)
    except ValueError:
        return None
    key = head.get("key") if isinstance(head, dict) else None
    return key if isinstance(key, dict) else None


def _parse(line: str, path: Path) -> tuple[Prediction, str | None]:
    try:
        video, label, scores, *rest, stamp = json.loads(line)
        return Prediction(video, label, None if scores is None else array("d", scores), *rest), stamp
    except (ValueError, TypeError) as err:
        raise _damaged(path, err) from err


def _parse_begun(line: str, path: Path) -> tuple[Begun, str | None]:
    try:
        video, views, sums, *rest, stamp = json.loads(line)["begun"]
        return Begun(video, views, tuple(sums), *rest), stamp
    except (ValueError, TypeError) as err:
        raise _damaged(path, err) from err


def _damaged(path: Path, err: Exception) -> ValueError:
    return ValueError(f"{path} is damaged ({err}); remove it, and the test starts again")
