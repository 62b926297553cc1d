"""Folders as people have them: litter of operating systems, other names of the splits, a level too many."""

import unicodedata

import pytest

from vidgn.curation.scan import scan
from vidgn.data.manifests.listing import list_videos
from vidgn.data.manifests.manifest import Manifest
from vidgn.inference.model import find_videos_of

LITTER = ("._a.mp4", ".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/x.mp4", "@eaDir/a/b.jpg", "@eaDir/y.mp4")


def fill(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def names(manifest):
    return [manifest.video_id(row) for row in range(len(manifest))]


def test_one_rule_says_what_a_video_of_a_folder_is(tmp_path):
    split = [f"{part}/{label}/{part}.mp4" for part in ("train", "val") for label in ("run", "sit")]
    fill(tmp_path, *split, *LITTER, *(f"train/run/{name}" for name in LITTER), *(f"train/{name}" for name in LITTER))
    assert list_videos(str(tmp_path)) == sorted(split)
    assert find_videos_of([str(tmp_path)]) == [str(tmp_path / name) for name in sorted(split)]
    found = [name for part in ("train", "val") for name in names(Manifest.from_folder(tmp_path, split=part))]
    assert sorted(found) == sorted(split)
    assert sorted(row.id for row in scan(tmp_path, tmp_path.parent / "p.jsonl")) == sorted(split)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("Train", "Val", "Test"), ("training", "validation", "testing"), ("TRAIN", "valid", None), ("train", "Val", None)],
)
def test_splits_by_another_name_are_taken_and_said(tmp_path, train, val, test):
    folders = [name for name in (train, val, test) if name is not None]
    fill(tmp_path, *(f"{part}/{label}/0.mp4" for part in folders for label in ("run", "sit")))
    for part, folder in (("train", train), ("val", val), ("test", test or val)):
        manifest = Manifest.from_folder(tmp_path, split=part)
        assert names(manifest) == [f"{folder}/run/0.mp4", f"{folder}/sit/0.mp4"]
    assert any(f"{val}/ is taken as val/" in note for note in manifest.notes)


def test_classes_that_are_named_like_splits_stay_classes(tmp_path):
    fill(tmp_path, *(f"{label}/{number}.mp4" for label in ("valid", "invalid", "testing") for number in range(9)))
    assert Manifest.from_folder(tmp_path, split="train").classes == ("invalid", "testing", "valid")


def test_two_folders_for_one_split_are_named(tmp_path):
    fill(tmp_path, *(f"{part}/{label}/0.mp4" for part in ("train", "val", "Validation") for label in ("run", "sit")))
    assert len(Manifest.from_folder(tmp_path, split="val")) == 2  # the exact name wins
    fill(tmp_path / "b", *(f"{part}/{label}/0.mp4" for part in ("train", "Val", "valid") for label in ("run", "sit")))
    with pytest.raises(ValueError, match=r"has Val and valid, and both would be val/; rename one of them"):
        Manifest.from_folder(tmp_path / "b", split="train")


def test_a_level_too_many_is_shown_and_no_part_is_dropped(tmp_path):
    fill(tmp_path, *(f"{who}/{label}/0.mp4" for who in ("ann", "bob") for label in ("run", "sit")))
    with pytest.raises(ValueError, match=r"ann/ holds run, sit; bob/ holds run, sit: .*data=csv") as error:
        Manifest.from_folder(tmp_path, split="train")
    assert "the root you mean" not in str(error.value)


@pytest.mark.slow
def test_folders_of_frames_are_told_from_videos(tmp_path):
    fill(tmp_path, *(f"{label}/clip/{number:05d}.jpg" for label in ("run", "sit") for number in range(3)))
    with pytest.raises(ValueError, match=r"it holds images: .* ffmpeg -framerate 25"):
        Manifest.from_folder(tmp_path, split="train")
    with pytest.raises(FileNotFoundError, match=r"holds no video; .*it holds images"):
        find_videos_of([str(tmp_path)])


def test_classes_in_two_unicode_forms_are_explained(tmp_path):
    composed, apart = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    fill(tmp_path, f"train/{composed}/0.mp4", "train/sit/0.mp4", f"val/{apart}/0.mp4", "val/sit/0.mp4")
    with pytest.raises(ValueError, match=r"looks like a class of train/ but its letters are composed otherwise"):
        Manifest.from_folder(tmp_path, split="train")
