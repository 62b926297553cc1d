"""End a test whose disk or network goes away: its videos are not wrong, they are unreachable."""

import os

from vidgn.data.manifests.manifest import Manifest
from vidgn.data.storage.remote import is_remote, open_file
from vidgn.scores.predictions import Prediction

IN_A_ROW = 10  # of 10 readable videos not one is lost by chance where 1 of 100 is


class DataVanished(OSError):
    """The videos could be listed when the test began and cannot be opened any more."""


class ReachableRoot:
    """Looks at each prediction of a rank as it comes.

    Args:
        manifest: the test videos; those that are missing now count as failed, as ever.

    Raises:
        DataVanished: when called, if the root is gone or empty, or if `IN_A_ROW` videos in a row vanished.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._missing = set(manifest.missing())
        self._vanished: list[str] = []  # in a row

    def __call__(self, prediction: Prediction) -> None:
        """Take note of a prediction."""
        name = self._manifest.video_id(prediction.video)
        if name in self._missing:
            return
        path = self._manifest.path(prediction.video)
        if prediction.scores is not None or _opens(path):
            self._vanished = []
            return
        self._vanished.append(name)
        root = self._manifest.root
        if not is_remote(path) and not _holds_something(root):
            raise DataVanished(f"{root} is gone or empty since the test began; {_advice(root)}")
        if len(self._vanished) >= IN_A_ROW:
            first = ", ".join(self._vanished[:3])
            raise DataVanished(
                f"{len(self._vanished)} videos in a row that were there when the test began cannot be opened ({first}, "
                f"...); {_advice(root)}"
            )


def _advice(root: str) -> str:
    return (
        f"bring {root} back (is the disk mounted, the network up?) and run the same command again: what is scored so "
        "far is kept"
    )


def _opens(path: str) -> bool:
    """Tell whether the first byte of a file, or its end, can be read."""
    try:
        with open_file(path) as file:
            file.read(1)
    except OSError:
        return False
    return True


def _holds_something(root: str) -> bool:
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is not None
    except OSError:
        return False
