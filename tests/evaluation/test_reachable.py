"""Videos that vanish during a test are no wrong videos."""

import shutil

import pytest

from vidgn.data.manifests.manifest import Manifest
from vidgn.evaluation.reachable import IN_A_ROW, DataVanished, ReachableRoot
from vidgn.scores.predictions import Prediction


def manifest_of(folder, count, *, missing=()):
    names = [f"a/{number:03d}.mp4" for number in range(count)]
    (folder / "a").mkdir(parents=True)
    for number, name in enumerate(names):
        if number not in missing:
            (folder / name).write_bytes(b"x")
    return Manifest.from_rows([(name, 0) for name in names], root=folder, classes=["a", "b"])


def failed(video):
    return Prediction(video, 0, None, "no such file")


def scored(video):
    return Prediction(video, 0, [1.0, 0.0], None, 1, 1, 1)


def test_many_videos_in_a_row_that_vanish_are_an_error_and_a_few_are_not(tmp_path):
    manifest = manifest_of(tmp_path / "videos", 40)
    watch = ReachableRoot(manifest)
    for video in range(30):
        (tmp_path / "videos" / manifest.video_id(video)).unlink()
    for video in range(IN_A_ROW - 1):
        watch(failed(video))
    watch(scored(35))
    for video in range(10, 10 + IN_A_ROW - 1):
        watch(failed(video))
    with pytest.raises(DataVanished, match=r"10 videos in a row .*a/010\.mp4.* run the same command again"):
        watch(failed(25))


def test_a_root_that_is_gone_or_empty_is_an_error_at_once(tmp_path):
    watch = ReachableRoot(manifest_of(tmp_path / "videos", 3))
    shutil.rmtree(tmp_path / "videos")
    with pytest.raises(DataVanished, match="is gone or empty since the test began"):
        watch(failed(0))
    (tmp_path / "videos").mkdir()  # where a disk was mounted
    with pytest.raises(DataVanished, match="is gone or empty since the test began"):
        watch(failed(1))


def test_videos_that_were_missing_from_the_start_or_are_broken_count_as_wrong(tmp_path):
    watch = ReachableRoot(manifest_of(tmp_path / "videos", 60, missing=range(30)))
    for video in range(60):
        watch(failed(video))
