"""Motions whose opposites are one class."""

import numpy as np
import pytest

from vidgn.data.manifests.manifest import Manifest
from vidgn.data.spec import DataSpec
from vidgn.data.splits import read_manifests
from vidgn.data.synthetic.motions import CLASSES
from vidgn.data.synthetic.opposites import join_opposites

SEVEN = ("move_horizontally", "move_vertically", "orbit", "rotate", "shake_horizontally", "shake_vertically", "zoom")


def test_opposite_motions_become_one_class_and_the_shakes_stay(tmp_path):
    twelve = Manifest.from_rows(
        [(f"{name}.mp4", label) for label, name in enumerate(CLASSES)], root=tmp_path, classes=CLASSES
    )
    seven = join_opposites(twelve)
    assert seven.classes == SEVEN
    assert [seven.video_id(row) for row in range(12)] == [f"{name}.mp4" for name in CLASSES]
    # down, left, right, up, orbit x 2, rotate x 2, shake x 2, zoom x 2
    np.testing.assert_array_equal(seven.labels, [1, 0, 0, 1, 2, 2, 3, 3, 4, 5, 6, 6])


def test_the_word_opposites_changes_classes_and_no_video(tmp_path):
    sizes = {"root": str(tmp_path), "train": 1, "val": 1, "test": 1}
    apart = read_manifests(DataSpec("motions", **sizes), splits=("test",))["test"]
    together = read_manifests(DataSpec("motions", **sizes, opposites="together"), splits=("test",))["test"]
    assert (apart.classes, together.classes) == (CLASSES, SEVEN)
    assert [together.path(row) for row in range(12)] == [apart.path(row) for row in range(12)]
    assert len(list(tmp_path.glob("motions1-*[!k]"))) == 1  # one folder of videos for both


def test_opposites_are_apart_or_together(tmp_path):
    with pytest.raises(ValueError, match=r"data\.opposites \(joined\) must be apart \(12 classes\) or together \(7\)"):
        read_manifests(DataSpec("motions", root=str(tmp_path), opposites="joined"))
