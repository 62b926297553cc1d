"""The split of a run: from its checkpoints, to its checkpoints and folder, and what is tested that was trained on."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.checkpoints.description import Description
from vidgn.data.manifests.drawn_split import PARTS, Part, SplitRecord
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.spec import Split

SPLIT_FILE = "split.csv"  # of a run folder, where the split was drawn
_MOST_NAMES = 5  # of folders and the file, in the name of a video below its root


def described_split(description: Description | None) -> SplitRecord | None:
    """Return the split that a checkpoint describes; None where it was written without one.

    Raises:
        ValueError: it is damaged.
    """
    return SplitRecord.from_plain(None if description is None else description.split)


def earlier_split(resume: Path | None, init: Path | None) -> SplitRecord | None:
    """Return the split of the checkpoint that a run resumes, or else of the one it takes its weights from.

    Raises:
        ValueError: it is damaged.
    """
    path = init if resume is None else resume
    return None if path is None else described_split(read_checkpoint(path).description)


def split_of_run(
    manifests: Mapping[Split, Manifest], *, resume: Path | None, earlier: SplitRecord | None
) -> SplitRecord:
    """Return the record of a run; a resumed one began with what its checkpoint began with."""
    names = {split: video_names(manifest) for split, manifest in manifests.items()}
    record = SplitRecord.of(names, seed=manifests["train"].drawn_seed, earlier=earlier)
    if resume is None or earlier is None:
        return record
    return SplitRecord(record.parts, record.seed, earlier.before)


def write_split(folder: Path, manifests: Mapping[Split, Manifest]) -> None:
    """Write which video belongs to which part, where that was drawn."""
    if manifests["train"].drawn_seed is None:
        return
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["video", "split"])
    for split, manifest in manifests.items():
        writer.writerows([name, split] for name in video_names(manifest))
    (folder / SPLIT_FILE).write_text(table.getvalue(), encoding="utf-8", newline="")


def trained_on_note(trained: Sequence[str], *, num_videos: int) -> str:
    """Return the sentence about test videos that the weights were trained on.

    >>> trained_on_note(["run/1.mp4"], num_videos=9)
    '1 of the 9 test videos were trained on (run/1.mp4): the test says nothing about new videos'
    """
    first = ", ".join(trained[:10]) + (", ..." if len(trained) > 10 else "")
    return (
        f"{len(trained):,} of the {num_videos:,} test videos were trained on ({first}): the test says nothing about "
        "new videos"
    )


def trained_videos(record: SplitRecord, manifest: Manifest) -> list[str]:
    """Return the names of the videos that the weights were trained on, also where their folders were rearranged.

    A name that the run does not know is compared again: with the folders above the root, without folders of its own
    (test/CLASS/FILE was CLASS/FILE), and as train/CLASS/FILE, where no val/CLASS/FILE or test/CLASS/FILE is known and
    the root is not a folder of one part.
    """
    names = video_names(manifest)
    trained, known = set(record.trained_on(names)), record.part_of(names)
    moved = parts_of_files(record, [f"{manifest.root}/{name}" for name in names], fewest=2)
    is_part = Path(manifest.root).name in PARTS
    arranged = [record.part_of([f"{part}/{name}" for name in names]) for part in PARTS]
    for name, now, elsewhere, train, val, test in zip(names, known, moved, *arranged, strict=True):
        only_train = train if val is None and test is None and not is_part else None
        if now is None and (elsewhere or only_train) == "train":
            trained.add(name)
    return [name for name in names if name in trained]


def parts_of_files(record: SplitRecord, paths: Sequence[str], *, fewest: int = 1) -> list[Part | None]:
    """Return the part of the run that each file belongs to, wherever its folder lies now; None for an unknown one.

    A run knows its videos by their names below the root of the data set, such as CLASS/FILE: the last names of a path,
    at least `fewest`, are compared. Files that an earlier run trained on, whose weights this one began with, are of
    train.
    """
    parts: list[Part | None] = [None] * len(paths)
    for depth in range(fewest, _MOST_NAMES + 1):
        names = ["/".join(Path(path).parts[-depth:]) for path in paths]
        trained = set(record.trained_on(names))
        parts = [
            "train" if name in trained else now or before
            for name, now, before in zip(names, record.part_of(names), parts, strict=True)
        ]
    return parts


def video_names(manifest: Manifest) -> list[str]:
    """Return the names of all videos in order."""
    return [manifest.video_id(row) for row in range(len(manifest))]
