"""Which of the videos found are used: those that a passport calls ok, those that a list names too."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vidgn.data.manifests.manifest import Manifest
from vidgn.data.passports.compare import pair, read_published
from vidgn.data.passports.passport import read_passport
from vidgn.data.spec import DataSpec, Split

_ONLY = "only the "  # begins the note of a manifest that was cut down; `subset_words` finds it by this


def chosen(manifests: Mapping[Split, Manifest], spec: DataSpec) -> dict[Split, Manifest]:
    """Apply the options `data.passport` (training and validation) and `data.intersect` (the test).

    The test keeps what a passport calls broken: it counts as failed, as ever.

    Raises:
        ValueError: nothing would be left.
    """
    kept = dict(manifests)
    if spec.passport is not None:
        rows = read_passport(spec.passport)
        good = {row.id for row in rows if row.status == "ok"}
        status = {row.id: row.status for row in rows}
        for split in kept.keys() - {"test"}:
            kept[split] = _ok(kept[split], good, status, source=spec.passport)
    if spec.intersect is not None and "test" in kept:
        kept["test"] = intersection(kept["test"], spec.intersect)
    return kept


def intersection(manifest: Manifest, file: str | Path) -> Manifest:
    """Return the videos of a manifest that exist here and are named by a passport (where ok) or a published list.

    Raises:
        ValueError: there is none.
    """
    names = [manifest.video_id(row) for row in range(len(manifest))]
    shared = pair(names, read_published(file))
    missing = set(manifest.missing())
    kept = [row for row, name in enumerate(names) if name in shared and name not in missing]
    if not kept:
        raise ValueError(
            f"none of the {len(names):,} videos in {manifest.root} (such as {names[0]}) is named by {file}, or none of "
            "those exists; give a list of the same data set"
        )
    note = f"{_ONLY}{len(kept):,} of {len(names):,} videos that are here and in {Path(file).name}"
    return manifest.select(kept).noted(note)


def subset_words(manifest: Manifest) -> list[str]:
    """Return as text which part of the test videos is scored; empty where all of them are."""
    return [note for note in manifest.notes if note.startswith(_ONLY)]


def _ok(manifest: Manifest, good: set[str], status: Mapping[str, str], *, source: str) -> Manifest:
    names = [manifest.video_id(row) for row in range(len(manifest))]
    kept = [row for row, name in enumerate(names) if name in good]
    if not kept:
        raise ValueError(
            f"none of the {len(names):,} videos in {manifest.root} (such as {names[0]}) is ok in data.passport="
            f"{source} (it has such as {next(iter(status), 'nothing')}); scan the folder that is data.root"
        )
    if len(kept) == len(names):
        return manifest
    lost = sorted(set(names) - good)
    bad = [f"{name} ({status[name]})" for name in lost if name in status]
    unknown = f", {len(lost) - len(bad):,} are not in it" if len(bad) < len(lost) else ""
    first = f": {', '.join([*bad, *(name for name in lost if name not in status)][:5])}"
    note = f"{len(lost):,} videos are left out by {Path(source).name}: {len(bad):,} are not ok{unknown}{first}"
    return manifest.select(np.array(kept)).noted(note)
