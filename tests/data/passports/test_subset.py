"""A passport leaves videos out of training, never out of the test; a list cuts the test down, and that is said."""

from pathlib import Path

import pytest

from vidgn.data.manifests.manifest import Manifest
from vidgn.data.passports.passport import VideoFacts, write_passport
from vidgn.data.passports.subset import chosen, intersection, subset_words
from vidgn.data.spec import DataSpec


def row(name: str, status: str = "ok") -> VideoFacts:
    return VideoFacts(name, "", "run", 1, 1, "a", "h264", 64, 48, 0, 25.0, 9, 9, 0.4, status)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    names = ["run/a.mp4", "run/b.mp4", "jump/c.mp4", "jump/gone.mp4"]
    for name in names[:3]:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    labels = [1, 1, 0, 0]
    return Manifest.from_rows(zip(names, labels, strict=True), root=tmp_path / "data", classes=["jump", "run"])


def names_of(manifest: Manifest) -> list[str]:
    return [manifest.video_id(i) for i in range(len(manifest))]


def test_a_passport_leaves_out_what_is_not_ok_and_says_so(manifest, tmp_path):
    write_passport([row("run/a.mp4"), row("run/b.mp4", "truncated"), row("jump/c.mp4")], tmp_path / "p.jsonl")
    spec = DataSpec("folder", passport=str(tmp_path / "p.jsonl"))
    found = chosen({"train": manifest, "val": manifest, "test": manifest}, spec)
    for split in ("train", "val"):
        assert names_of(found[split]) == ["run/a.mp4", "jump/c.mp4"]
        assert found[split].labels.tolist() == [1, 0]
        assert found[split].notes == (
            "2 videos are left out by p.jsonl: 1 are not ok, 1 are not in it: run/b.mp4 (truncated), jump/gone.mp4",
        )
    assert found["test"] is manifest


def test_a_passport_that_calls_all_ok_changes_nothing(manifest, tmp_path):
    write_passport([row(name) for name in names_of(manifest)], tmp_path / "p.jsonl")
    assert chosen({"train": manifest}, DataSpec("folder", passport=str(tmp_path / "p.jsonl")))["train"] is manifest


def test_a_passport_of_another_folder_is_refused(manifest, tmp_path):
    write_passport([row("train/run/a.mp4")], tmp_path / "p.jsonl")
    with pytest.raises(
        ValueError, match=r"none of the 4 videos .*such as run/a\.mp4\) is ok in data\.passport=.*p\.jso"
    ):
        chosen({"train": manifest}, DataSpec("folder", passport=str(tmp_path / "p.jsonl")))


def test_the_intersection_is_what_both_have(manifest, tmp_path):
    (tmp_path / "list.txt").write_text("b.mp4\nc.mp4\ngone.mp4\nother.mp4\n")
    found = chosen({"test": manifest}, DataSpec("folder", intersect=str(tmp_path / "list.txt")))["test"]
    assert names_of(found) == ["run/b.mp4", "jump/c.mp4"]
    assert found.labels.tolist() == [1, 0]
    assert subset_words(found) == ["only the 2 of 4 videos that are here and in list.txt"]
    assert subset_words(manifest) == []


def test_an_empty_intersection_is_refused(manifest, tmp_path):
    (tmp_path / "list.txt").write_text("other.mp4\ngone.mp4\n")
    with pytest.raises(ValueError, match=r"none of the 4 videos in .*give a list of the same data set"):
        intersection(manifest, tmp_path / "list.txt")
