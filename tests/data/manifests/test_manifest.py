"""Manifests: what they hold, and what is found on the disk."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from vidgn.data.manifests.manifest import Manifest, Split, missing_message

from .files import touch


def rows(manifest: Manifest) -> list[tuple[str, int]]:
    return [(manifest.video_id(i), manifest.label(i)) for i in range(len(manifest))]


def test_a_manifest_gives_back_its_rows(tmp_path: Path) -> None:
    manifest = Manifest.from_rows([("a.mp4", 1), ("sub/ä 日.mp4", 0)], root=tmp_path, classes=["x", "y"])
    assert rows(manifest) == [("a.mp4", 1), ("sub/ä 日.mp4", 0)]
    assert manifest.path(1) == f"{tmp_path}/sub/ä 日.mp4"
    assert manifest.classes == ("x", "y")
    assert repr(manifest) == f"Manifest(2 videos, 2 classes, root={str(tmp_path)!r})"


def test_rows_are_kept_as_three_arrays_that_cannot_be_written(tmp_path: Path) -> None:
    manifest = Manifest.from_rows([("a.mp4", 0), ("bc.mp4", 0)], root=tmp_path, classes=["x"])
    assert manifest.names.tobytes() == b"a.mp4bc.mp4"
    assert manifest.offsets.tolist() == [0, 5, 11]
    assert (manifest.names.dtype, manifest.offsets.dtype, manifest.labels.dtype) == (
        np.uint8,
        np.int64,
        np.int64,
    )
    with pytest.raises(ValueError, match="read-only"):
        manifest.labels[0] = 1


def test_a_manifest_travels_to_worker_processes(tmp_path: Path) -> None:
    manifest = Manifest.from_rows([("a.mp4", 0), ("b.mp4", 1)], root=tmp_path, classes=["x", "y"])
    assert rows(pickle.loads(pickle.dumps(manifest))) == rows(manifest)


def test_there_is_no_row_beyond_the_last(tmp_path: Path) -> None:
    manifest = Manifest.from_rows([("a.mp4", 0)], root=tmp_path, classes=["x"])
    with pytest.raises(IndexError, match="out of range"):
        manifest.video_id(1)


def test_selected_rows_keep_their_order_and_classes(tmp_path: Path) -> None:
    three = [("a.mp4", 0), ("bb.mp4", 1), ("ccc.mp4", 2)]
    manifest = Manifest.from_rows(three, root=tmp_path, classes=["x", "y", "z"])
    assert rows(manifest.select([2, 0])) == [("ccc.mp4", 2), ("a.mp4", 0)]
    assert rows(manifest.select([-1])) == [("ccc.mp4", 2)]
    assert manifest.select([2, 0]).classes == ("x", "y", "z")


def test_the_root_is_absolute_whatever_the_working_directory_becomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "videos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Manifest.from_rows([("a.mp4", 0)], root="videos", classes=["x"]).root == f"{tmp_path}/videos"


def test_a_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "file.mp4")
    with pytest.raises(FileNotFoundError, match=r"the data root .*/nowhere does not exist; set data\.root"):
        Manifest.from_folder(tmp_path / "nowhere", split="train")
    with pytest.raises(NotADirectoryError, match=r"the data root .*/file\.mp4 is not a folder; set data\.root"):
        Manifest.from_folder(tmp_path / "file.mp4", split="train")


def test_given_rows_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"labels \[-1, 2\] are not in 0\.\.1"):
        Manifest.from_rows([("a", 2), ("b", -1)], root=tmp_path, classes=["x", "y"])
    with pytest.raises(ValueError, match=r"'a' has label 1 here and 0 in row 0"):
        Manifest.from_rows([("a", 0), ("a", 1)], root=tmp_path, classes=["x", "y"])
    with pytest.raises(ValueError, match="0 videos in the rows; a manifest needs at least one row"):
        Manifest.from_rows([], root=tmp_path, classes=["x", "y"])


class TestMissing:
    def test_missing_videos_are_named_in_order(self, tmp_path: Path) -> None:
        touch(tmp_path, "a/1.mp4", "3.mp4")
        given = [("a/1.mp4", 0), ("b/2.mp4", 0), ("3.mp4", 0), ("a/0.mp4", 0)]
        manifest = Manifest.from_rows(given, root=tmp_path, classes=["x"])
        assert manifest.missing() == ["b/2.mp4", "a/0.mp4"]
        kept, dropped = manifest.without_missing()
        assert dropped == ["b/2.mp4", "a/0.mp4"]
        assert rows(kept) == [("a/1.mp4", 0), ("3.mp4", 0)]

    def test_a_folder_a_pipe_and_a_broken_link_are_missing_and_a_link_is_not(self, tmp_path: Path) -> None:
        touch(tmp_path, "real.mp4")
        (tmp_path / "folder.mp4").mkdir()
        os.mkfifo(tmp_path / "pipe.mp4")
        (tmp_path / "broken.mp4").symlink_to("nowhere.mp4")
        (tmp_path / "link.mp4").symlink_to("real.mp4")
        names = ["broken.mp4", "folder.mp4", "link.mp4", "pipe.mp4", "real.mp4"]
        manifest = Manifest.from_rows([(name, 0) for name in names], root=tmp_path, classes=["x"])
        assert manifest.missing() == ["broken.mp4", "folder.mp4", "pipe.mp4"]

    def test_each_folder_is_listed_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        touch(tmp_path, *(f"{c}/{i}.mp4" for c in "ab" for i in range(50)))
        given = [(f"{c}/{i}.mp4", 0) for i in range(60) for c in "ab"]
        manifest = Manifest.from_rows(given, root=tmp_path, classes=["x"])
        listed: list[str] = []
        scandir = os.scandir
        monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
        assert len(manifest.missing()) == 20
        assert listed == [f"{tmp_path}/a", f"{tmp_path}/b"]

    def test_nothing_missing_leaves_the_manifest_as_it_is(self, tmp_path: Path) -> None:
        manifest = Manifest.from_rows([("a.mp4", 0)], root=touch(tmp_path, "a.mp4"), classes=["x"])
        assert manifest.without_missing() == (manifest, [])

    def test_all_missing_is_an_error(self, tmp_path: Path) -> None:
        manifest = Manifest.from_rows([("a.mp4", 0), ("b.mp4", 0)], root=tmp_path, classes=["x"])
        with pytest.raises(FileNotFoundError, match=r"2 of 2 videos are missing in .*, all of them: a\.mp4, b\.mp4"):
            manifest.without_missing()

    def test_the_message_counts_and_names_the_first_ten(self, tmp_path: Path) -> None:
        given = [(f"{i:02d}.mp4", 0) for i in range(12)]
        manifest = Manifest.from_rows(given, root=tmp_path, classes=["x"])
        names = ", ".join(f"{i:02d}.mp4" for i in range(10))
        expected = f"12 of 12 videos are missing in {tmp_path}, the first ten: {names}"
        assert missing_message(manifest, manifest.missing()) == expected


class TestFolder:
    def test_class_names_are_the_sorted_folders_and_splits_are_theirs(self, tmp_path: Path) -> None:
        touch(
            tmp_path,
            "train/run/b.mp4",
            "train/run/a.MKV",
            "train/Jump/c.webm",
            "val/run/d.avi",
            "test/Jump/e.mov",
        )
        train = Manifest.from_folder(tmp_path, split="train")
        assert train.classes == ("Jump", "run")
        assert rows(train) == [("train/Jump/c.webm", 0), ("train/run/a.MKV", 1), ("train/run/b.mp4", 1)]
        assert rows(Manifest.from_folder(tmp_path, split="val")) == [("val/run/d.avi", 1)]
        assert rows(Manifest.from_folder(tmp_path, split="test")) == [("test/Jump/e.mov", 0)]
        assert train.notes == ()
        assert train.missing() == []

    def test_without_a_test_folder_val_is_the_test_split_and_says_so(self, tmp_path: Path) -> None:
        touch(tmp_path, "train/a/1.mp4", "train/b/1.mp4", "val/a/2.mp4")
        test = Manifest.from_folder(tmp_path, split="test")
        assert rows(test) == [("val/a/2.mp4", 0)]
        assert test.notes == (f"{tmp_path} has no test/: the test split is val/",)

    @pytest.mark.parametrize("folder", ["test", "val"])  # without test/, val/ is the test
    def test_a_test_needs_its_own_folder_alone_whose_classes_it_has(self, tmp_path: Path, folder: str) -> None:
        touch(tmp_path, f"{folder}/run/a.mp4")
        test = Manifest.from_folder(tmp_path, split="test")
        assert (test.classes, rows(test)) == (("run",), [(f"{folder}/run/a.mp4", 0)])

    def test_with_training_videos_a_test_has_their_classes_and_val_may_be_missing(self, tmp_path: Path) -> None:
        touch(tmp_path, "train/jump/a.mp4", "train/run/b.mp4", "test/run/c.mp4")
        test = Manifest.from_folder(tmp_path, split="test")
        assert (test.classes, rows(test)) == (("jump", "run"), [("test/run/c.mp4", 1)])

    @pytest.mark.parametrize(
        ("split", "there", "message"),
        [
            ("test", "train", r"has train/ but neither test/ nor val/; add val/CLASS/ with the videos, or put one"),
            ("val", "test", r"has test/ but no val/; add val/CLASS/ with the videos, or put one folder per class"),
            ("train", "test", r"has test/ but not both train/ and val/; add the other, or put one folder per class"),
        ],
    )
    def test_a_split_whose_folder_is_missing_is_an_error(
        self, tmp_path: Path, split: Split, there: str, message: str
    ) -> None:
        touch(tmp_path, f"{there}/a/1.mp4", f"{there}/b/1.mp4")
        with pytest.raises(ValueError, match=message):
            Manifest.from_folder(tmp_path, split=split)

    def test_without_train_and_val_each_class_is_split(self, tmp_path: Path) -> None:
        touch(
            tmp_path,
            *(f"{c}/{i:02d}.mp4" for c in ("a", "b") for i in range(20)),
            *(f"c/{i}.mp4" for i in range(3)),
        )
        parts = {split: Manifest.from_folder(tmp_path, split=split) for split in ("train", "val", "test")}
        counts = {split: np.bincount(part.labels).tolist() for split, part in parts.items()}
        assert counts == {"train": [14, 14, 1], "val": [3, 3, 1], "test": [3, 3, 1]}
        names = [name for part in parts.values() for name, _ in rows(part)]
        assert sorted(names) == sorted(f"{f.parent.name}/{f.name}" for f in tmp_path.glob("*/*"))
        assert "drawn with seed 0" in parts["train"].notes[0]

    def test_the_drawn_split_depends_on_the_seed_alone(self, tmp_path: Path) -> None:
        touch(tmp_path, *(f"{c}/{i:02d}.mp4" for c in ("a", "b") for i in range(20)))
        first = rows(Manifest.from_folder(tmp_path, split="val", seed=1))
        assert first == rows(Manifest.from_folder(tmp_path, split="val", seed=1))
        assert first != rows(Manifest.from_folder(tmp_path, split="val", seed=2))
        touch(tmp_path, *(f"aa/{i}.mp4" for i in range(4)))
        again = [name for name, _ in rows(Manifest.from_folder(tmp_path, split="val", seed=1))]
        assert [name for name in again if not name.startswith("aa/")] == [name for name, _ in first]

    def test_the_drawn_split_is_the_same_on_every_machine(self, tmp_path: Path) -> None:
        touch(tmp_path, *(f"{c}/{i}.mp4" for c in ("a", "b") for i in range(10)))
        val = [name for name, _ in rows(Manifest.from_folder(tmp_path, split="val"))]
        assert val == ["a/3.mp4", "a/4.mp4", "b/1.mp4", "b/8.mp4"]  # the least of printf '0\\0a/3' | b2sum -l 64

    def test_hidden_files_are_ignored_and_other_files_are_noted(self, tmp_path: Path) -> None:
        touch(
            tmp_path,
            "train/a/1.mp4",
            "train/a/.x.mp4",
            "train/a/n.txt",
            "train/.cache/1.mp4",
            "train/b/1.mp4",
        )
        touch(tmp_path, "train/b/deep/2.mp4", "val/a/1.mp4")
        train = Manifest.from_folder(tmp_path, split="train")
        assert rows(train) == [("train/a/1.mp4", 0), ("train/b/1.mp4", 1)]
        assert train.notes == ("2 entries that are not videos are left out: 1 x .txt, 1 x folder",)

    def test_one_class_may_be_called_train(self, tmp_path: Path) -> None:
        touch(tmp_path, *(f"{c}/{i}.mp4" for c in ("train", "bus") for i in range(3)))
        assert Manifest.from_folder(tmp_path, split="test").classes == ("bus", "train")

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            # nothing at all
            ([], r"is empty; it must hold a folder per class with videos \(\.mp4"),
            (["train/a/1.mp4", "val/x.mp4"], r"/val holds videos but no class folders \(1 x \.mp4\)"),
            (
                ["a.mp4", "b.mp4"],
                r"holds videos but no class folders \(2 x \.mp4\); put them into a folder per class",
            ),
            (["a.jpg", "b.jpg"], r"holds no class folders, only 2 x \.jpg"),
            # an image folder
            (
                ["a/1.jpg", "a/2.jpg", "b/1.png"],
                r"no video in 2 of its folders: a, b \(found 2 x \.jpg, 1 x \.png\)",
            ),
            # the root is one level too high
            (
                ["videos/a/1.mp4", "videos/b/1.mp4"],
                r"videos/ holds folders: is .*/videos the root you mean\?",
            ),
            (["train/a/1.mp4", "train/b/1.mp4"], r"has train/ but not both train/ and val/; add the other"),
            (["train/a/1.mp4", "val/a/1.mp4"], r"holds one class, 'a'; a classifier needs at least two"),
            (
                ["train/a/1.mp4", "val/b/1.mp4", "val/c/1.mp4"],
                r"/val has 2 classes that .*/train has not: b, c; rename",
            ),
            (
                ["a/1.mp4", "a/2.mp4", "a/3.mp4", "b/1.mp4"],
                r"at least 3 videos per class.*too few in b \(1\); add",
            ),
        ],
    )
    def test_a_wrong_folder_says_what_it_holds(self, tmp_path: Path, files: list[str], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Manifest.from_folder(touch(tmp_path, *files), split="train")

    @pytest.mark.parametrize("split", ["val", "test"])
    def test_a_class_that_training_does_not_know_is_named(self, tmp_path: Path, split: Split) -> None:
        touch(tmp_path, "train/a/1.mp4", "train/d/1.mp4", "val/b/1.mp4", "val/c/1.mp4")
        with pytest.raises(ValueError, match=r"/val has 2 classes that .*/train has not: b, c; rename"):
            Manifest.from_folder(tmp_path, split=split)

    def test_a_file_name_that_is_not_utf8_is_named(self, tmp_path: Path) -> None:
        touch(tmp_path, "train/a/1.mp4", "train/b/1.mp4", "val/a/1.mp4")
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/train/a/caf\xe9.mp4")).write_bytes(b"")
        with pytest.raises(ValueError, match=r"1 file names are not UTF-8: 'train/a/caf\\udce9.mp4'; rename"):
            Manifest.from_folder(tmp_path, split="train")

    def test_split_and_fractions_are_checked(self, tmp_path: Path) -> None:
        touch(tmp_path, *(f"{c}/{i}.mp4" for c in "ab" for i in range(3)))
        with pytest.raises(ValueError, match="split 'training' must be one of train, val, test"):
            Manifest.from_folder(tmp_path, split="training")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"fractions \(0\.5, 0\.2, 0\.2\) must be three positive numbers"):
            Manifest.from_folder(tmp_path, split="train", fractions=(0.5, 0.2, 0.2))
