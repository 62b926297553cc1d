"""What a user should know of the data before training: uneven classes, and videos on both sides of a split."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vidgn.curation.duplicates import Twin, find_twins
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.spec import Split
from vidgn.terminal.console import say
from vidgn.terminal.escape import plain_cell

LEAKS = "leaks.csv"
_UNEVEN = 3.0  # how many times as many videos the largest class has before that is told
_SHOWN = 4  # classes at either end
_WIDTH = 30  # characters of the longest bar
_MOST_LISTED = 200_000  # videos whose names are compared before training
_MOST_READ = 20_000  # videos whose contents are compared, where sizes are equal


def balance_lines(manifest: Manifest) -> list[str]:
    """Return a table of the largest and the smallest classes where they are uneven, with bars; else nothing."""
    counts = manifest.class_counts()
    present = counts[counts > 0]
    if len(present) == len(counts) and counts.max() < _UNEVEN * counts.min():
        return []
    order = sorted(range(len(counts)), key=lambda label: (-counts[label], label))
    rows = order if len(order) <= 2 * _SHOWN else [*order[:_SHOWN], -1, *order[-_SHOWN:]]
    width = max(len(manifest.classes[label]) for label in rows if label >= 0)
    lines = [f"classes are uneven: {counts.min():,} to {counts.max():,} training videos"]
    for label in rows:
        if label < 0:
            lines.append(f"  {'...':{width}}")
            continue
        bar = "#" * int(np.ceil(_WIDTH * counts[label] / counts.max()))
        lines.append(f"  {manifest.classes[label]:{width}} {counts[label]:>7,} {bar}".rstrip())
    lines.append("  class_weights=balanced or balanced=true lets rare classes count as much as common ones")
    return lines


def leak_lines(twins: Sequence[Twin]) -> list[str]:
    """Return what is said of videos on both sides of a split; nothing where there are none."""
    if not twins:
        return []
    kinds = dict.fromkeys((twin.why, twin.sure) for twin in twins)
    counts = [f"{sum(twin[4:] == kind for twin in twins):,} by {kind[0]} ({kind[1]})" for kind in kinds]
    first = twins[0]
    return [
        f"warning: {len(twins):,} pairs of videos on two sides of the split seem to be one recording: "
        f"{', '.join(counts)}; such as {first.video} ({first.split}) and {first.other} ({first.other_split}). "
        f"The test may be too easy: all are in {LEAKS}; data.group keeps them together"
    ]


def check_data(manifests: Mapping[Split, Manifest], folder: Path) -> None:
    """Tell of uneven classes and of leaks, and write the leaks down. Call it on the first process only."""
    lines = balance_lines(manifests["train"])
    count = sum(map(len, manifests.values()))
    if count <= _MOST_LISTED:
        named = {str(split): manifest for split, manifest in manifests.items()}
        twins = find_twins(named, contents=count <= _MOST_READ)
        lines += leak_lines(twins)
        if twins:
            write_twins(folder / LEAKS, twins)
    if lines:
        say("\n".join(lines))


def write_twins(file: Path, twins: Sequence[Twin]) -> None:
    """Write pairs of videos as a table."""
    table = io.StringIO(newline="")
    csv.writer(table).writerows([Twin._fields, *(map(plain_cell, twin) for twin in twins)])
    file.write_text(table.getvalue(), encoding="utf-8", newline="")
