"""A test needs its own list alone; the training list need not be on the machine that tests."""

import numpy as np
import pytest
from PIL import Image

from vidgn.data.spec import DataSpec
from vidgn.data.splits import cache_folder, read_manifests

HEADER = "label,youtube_id,time_start,time_end,split\n"


def only_test(spec, **changes):
    found = read_manifests(spec, splits=("test",), **changes)
    assert list(found) == ["test"]
    return found["test"]


def test_the_test_of_kinetics_reads_the_validation_list_alone(tmp_path):
    (tmp_path / "val.csv").write_text(HEADER + "run,ccccccccccc,1,11,val\njump,ddddddddddd,1,11,val\n")
    spec = DataSpec("kinetics400", root=str(tmp_path), train=str(tmp_path / "gone.csv"))
    manifest = only_test(spec)
    assert manifest.classes == ("jump", "run")
    np.testing.assert_array_equal(manifest.labels, [1, 0])
    with pytest.raises(FileNotFoundError, match=r"gone\.csv"):
        read_manifests(spec)


def test_numbers_without_names_count_to_those_of_the_checkpoint(tmp_path):
    (tmp_path / "val.txt").write_text("a.mp4 0\nb.mp4 3\n")
    spec = DataSpec("kinetics400", root=str(tmp_path))
    manifest = only_test(spec, num_classes=5)
    assert manifest.classes == ("0", "1", "2", "3", "4")
    np.testing.assert_array_equal(manifest.labels, [0, 3])
    with pytest.raises(ValueError, match=r"label 3 is not in 0\.\.2"):
        only_test(spec, num_classes=3)


def test_a_list_with_a_file_of_names_has_these(tmp_path):
    (tmp_path / "val.txt").write_text("a.mp4 0\nb.mp4 walk\n")
    (tmp_path / "classes.txt").write_text("run\njump\nwalk\n")
    manifest = only_test(
        DataSpec("kinetics400", root=str(tmp_path), classes=str(tmp_path / "classes.txt")), num_classes=5
    )
    assert manifest.classes == ("run", "jump", "walk")
    np.testing.assert_array_equal(manifest.labels, [0, 2])


@pytest.mark.parametrize("folder", ["test", "val"])  # without test/, val/ is the test
def test_the_test_of_pictures_reads_its_own_folder_alone(folder, tmp_path):
    (tmp_path / folder / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / folder / "cat" / "1.png")
    spec = DataSpec("images", root=str(tmp_path))
    manifest = only_test(spec)
    assert (manifest.classes, manifest.video_id(0)) == (("cat",), f"{folder}/cat/1.png")
    with pytest.raises(ValueError, match=r"has no train/"):
        read_manifests(spec)


def test_a_folder_without_classes_is_no_test(tmp_path):
    (tmp_path / "val").mkdir()
    with pytest.raises(ValueError, match=r"val holds no class folder; pictures lie in val/CLASS/\*\.jpg"):
        only_test(DataSpec("images", root=str(tmp_path)))


def test_a_user_without_a_home_folder_is_told_what_to_set(monkeypatch):
    def nobody(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("VIDGN_CACHE", raising=False)
    monkeypatch.setattr("vidgn.data.splits.Path.expanduser", nobody)
    with pytest.raises(OSError, match="no home folder for data sets; set VIDGN_CACHE=DIR"):
        cache_folder()
