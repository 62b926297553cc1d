"""Find the videos of a run, and say before it starts what is missing."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from vidgn.data.find import SPLITS
from vidgn.data.manifest import Manifest, missing_message
from vidgn.data.module import DataSpec, Split, read_manifests
from vidgn.tools.subset import chosen


def find_videos(
    spec: DataSpec, *, splits: Sequence[Split] = SPLITS, num_classes: int | None = None
) -> dict[Split, Manifest]:
    """Read the manifests of the splits, with a progress bar where videos must be written first."""
    progress = ProgressBar(f"writing {spec.name}")
    return chosen(read_manifests(spec, splits=splits, num_classes=num_classes, progress=progress), spec)


def usable(manifests: Mapping[Split, Manifest]) -> dict[Split, Manifest]:
    """Report what is missing before training starts, and leave it out of training and validation.

    The test keeps every video: what is missing counts as failed there.

    Raises:
        FileNotFoundError: all training or validation videos are missing.
    """
    found: dict[Split, Manifest] = {}
    said: set[str] = set()
    for split, manifest in manifests.items():
        for note in manifest.notes:
            if note not in said:
                say(f"note: {note}")
            said.add(note)
        kept, missing = manifest.without_missing()
        if missing:
            rule = "counted as failed in the test" if split == "test" else "left out"
            say(f"warning: {split}: {missing_message(manifest, missing)}; {rule}")
        found[split] = manifest if split == "test" else kept
    return found


class ProgressBar:
    """A progress bar that appears with the first call."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Show `done` of `total`."""
        if self._bar is None:
            self._bar = tqdm(total=total, desc=self._title, unit="video")
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()


@rank_zero_only
def say(text: str) -> None:
    """Print on the first process only."""
    print(text, flush=True)
