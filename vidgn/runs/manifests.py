"""Find the videos of a run, and say before it starts what is missing."""

from collections.abc import Mapping, Sequence

from vidgn.data.manifests.drawn_split import SplitRecord
from vidgn.data.manifests.manifest import Manifest, missing_message
from vidgn.data.passports.subset import chosen
from vidgn.data.spec import SPLITS, DataSpec, Split
from vidgn.data.splits import read_manifests
from vidgn.terminal.console import ProgressBar, say


def find_videos(
    spec: DataSpec,
    *,
    splits: Sequence[Split] = SPLITS,
    num_classes: int | None = None,
    record: SplitRecord | None = None,
) -> dict[Split, Manifest]:
    """Read the manifests of the splits, with a progress bar where videos must be written first."""
    progress = ProgressBar(f"writing {spec.name}")
    found = read_manifests(spec, splits=splits, num_classes=num_classes, progress=progress, record=record)
    return chosen(found, spec)


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
