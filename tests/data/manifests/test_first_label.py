"""Lists whose labels begin at 1, and UCF's classInd.txt."""

import pytest

from vidgn.data.manifests.classes import read_classes
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.spec import DataSpec
from vidgn.data.splits import read_manifests


@pytest.fixture
def ucf(tmp_path):
    (tmp_path / "classInd.txt").write_text("1 ApplyEyeMakeup\n2 Archery\n3 Baby Crawling\n")
    for split in ("train", "val"):
        rows = [f"c{label}/{split}.avi {label}" for label in (1, 2, 3)]
        (tmp_path / f"{split}.txt").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_the_numbers_of_classind_are_no_part_of_the_names(ucf):
    assert read_classes(ucf / "classInd.txt") == ("ApplyEyeMakeup", "Archery", "Baby Crawling")
    (ucf / "other.txt").write_text("2 wheels\n3 wheels\n")  # they do not count the lines
    assert read_classes(ucf / "other.txt") == ("2 wheels", "3 wheels")


def test_labels_from_1_are_said_with_the_option_that_mends_them(ucf):
    with pytest.raises(ValueError, match=r"label 3 is not in 0\.\.2; .* set data\.first_label=1"):
        Manifest.from_list(ucf / "train.txt", root=ucf, classes_file=ucf / "classInd.txt")
    with pytest.raises(ValueError, match=r"the labels are 1\.\.3; .* set data\.first_label=1"):
        Manifest.from_list(ucf / "train.txt", root=ucf)


def test_the_option_mends_them(ucf):
    spec = DataSpec(
        "kinetics400", root=str(ucf), train=str(ucf / "train.txt"), val=str(ucf / "val.txt"),
        classes=str(ucf / "classInd.txt"), first_label=1,
    )  # fmt: skip
    found = read_manifests(spec)
    assert found["train"].classes == ("ApplyEyeMakeup", "Archery", "Baby Crawling")
    assert [found["val"].label(row) for row in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match=r"label 1 is not in 2\.\.4"):
        Manifest.from_list(ucf / "train.txt", root=ucf, classes=["a", "b", "c"], first_label=2)


def test_paths_of_windows_are_told(tmp_path):
    (tmp_path / "list.txt").write_text("run\\a.mp4 0\nsit\\b.mp4 1\n")
    manifest = Manifest.from_list(tmp_path / "list.txt", root=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"paths with backslashes were written on Windows: write / in the list"):
        manifest.without_missing()
    (tmp_path / "list.txt").write_text("C:\\videos\\a.mp4 0\nD:/b.mp4 1\n")
    with pytest.raises(ValueError, match=r"2 rows are wrong:\n.*is absolute on a Windows machine"):
        Manifest.from_list(tmp_path / "list.txt", root=tmp_path)
