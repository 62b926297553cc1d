"""What a test has scored so far, a line per video, so that a test that was interrupted goes on."""

import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vidgn.predictions import Begun, Prediction


class Journal:
    """Predictions as they come, `predictions.rankR.jsonl` in the run folder; each line is whole or ignored.

    Floats are written with all their digits, so that a test that goes on gives the bits of one never stopped.

    Args:
        folder: of the run.
        rank: of this process; each writes a file of its own and reads all.
        key: what the scores depend on; lines of another key do not count.
    """

    def __init__(self, folder: Path, *, rank: int, key: Mapping[str, Any]) -> None:
        self.folder = folder
        self.path = folder / f"predictions.rank{rank}.jsonl"
        self._head = {"key": hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()}
        self._has_begun = False

    def read(self) -> dict[int, Prediction]:
        """Return what all ranks have scored with this key; a video that could not be read is tried again.

        Raises:
            ValueError: A whole line is no prediction: the file was damaged or changed.
        """
        found: dict[int, Prediction] = {}
        for path, line in self._lines():
            if not line.startswith(_BEGUN):
                prediction = _parse(line, path)
                if prediction.scores is not None:
                    found[prediction.video] = prediction
        return found

    def read_begun(self) -> dict[int, Begun]:
        """Return how far all ranks were in videos that come in several pieces, those among them that are done too.

        Raises:
            ValueError: as `read` does.
        """
        found: dict[int, Begun] = {}
        for path, line in self._lines():
            if line.startswith(_BEGUN):
                begun = _parse_begun(line, path)
                if begun.video not in found or found[begun.video].views < begun.views:
                    found[begun.video] = begun
        return found

    def add(self, prediction: Prediction) -> None:
        """Write a line; the first one of this process begins a new file, or mends the end of its old one."""
        self._write(json.dumps(prediction, ensure_ascii=True, default=list))  # the scores are an array

    def add_begun(self, begun: Begun) -> None:
        """Write a line in the same way."""
        self._write(_BEGUN + json.dumps(begun) + "}")

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


def _parse(line: str, path: Path) -> Prediction:
    try:
        video, label, scores, *rest = json.loads(line)
        return Prediction(video, label, None if scores is None else array("d", scores), *rest)
    except (ValueError, TypeError) as err:
        raise _damaged(path, err) from err


def _parse_begun(line: str, path: Path) -> Begun:
    try:
        video, views, sums, *rest = json.loads(line)["begun"]
        return Begun(video, views, tuple(sums), *rest)
    except (ValueError, TypeError) as err:
        raise _damaged(path, err) from err


def _damaged(path: Path, err: Exception) -> ValueError:
    return ValueError(f"{path} is damaged ({err}); remove it, and the test begins anew")
