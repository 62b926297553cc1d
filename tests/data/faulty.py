"""Videos whose names say what goes wrong with them, and data sets of such videos."""

import ctypes
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from vidgn.data import dataset
from vidgn.data import views as views_module
from vidgn.data.clips import ClipSpec
from vidgn.data.dataset import ClipDataset
from vidgn.data.faults.quarantine import Quarantine
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.readers.gather import ArrayPicture, as_pictures
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.transforms import CropSpec
from vidgn.data.views import ViewDataset


class Faulty:
    """A reader of gray pictures; the name of the file says what goes wrong."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: str) -> None:
        self.path = path

    def __len__(self) -> int:
        return 8

    def frames(self, indices: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        name, wanted = Path(self.path).name, sorted(set(map(int, indices)))
        if name.startswith("hang"):
            ctypes.PyDLL(None).sleep(1000)  # for ever, holding the interpreter lock
        if name.startswith("crash"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if name.startswith("memory"):
            os.kill(os.getpid(), signal.SIGKILL)
        if name.startswith("slow"):
            time.sleep(0.5)
        if name.startswith("cut"):
            raise VideoDecodeError(self.path, "truncated")
        if name.startswith("spot") and wanted[0] in (0, 1):
            raise VideoDecodeError(self.path, "damaged at its beginning")
        if name.startswith("worker"):  # the helper kills the worker: worker9_1 by signal 9
            os.kill(os.getppid(), int(name[6:].partition("_")[0]))
            time.sleep(0.2)
        for index in wanted:
            yield index, np.full((8, 8, 3), 10 * int(name[-1]) + index, np.uint8)

    def pictures(self, indices: Iterable[int]) -> Iterator[tuple[int, ArrayPicture]]:
        return as_pictures(self.frames(indices))

    def __enter__(self) -> "Faulty":
        return self

    def __exit__(self, *args: object) -> None: ...


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (dataset, views_module):
        monkeypatch.setattr(module, "open_video", lambda path, *, backend: Faulty(path))


def manifest(root: Path, names: list[str]) -> Manifest:
    return Manifest.from_rows([(name, i % 2) for i, name in enumerate(names)], root=root, classes=["x", "y"])


def clips(root: Path, names: list[str], *, share: float | None = None, **options) -> ClipDataset:
    """Return a data set of clips of 2 frames; with `share` there is a ledger, which allows so many bad ones."""
    quarantine = None
    if share is not None:
        quarantine = Quarantine(root / "ledger.jsonl", num_videos=len(names), max_share=share)
    given = {"clip": ClipSpec(2, 4), "crop": CropSpec(4), "seed": 0, "flip": False, "stream": "train"} | options
    return ClipDataset(manifest(root, names), quarantine=quarantine, **given)


def views(root: Path, names: list[str], **options) -> ViewDataset:
    given = {"clip": ClipSpec(2, 4), "crop": CropSpec(4), "num_clips": 2} | options
    return ViewDataset(manifest(root, names), **given)
