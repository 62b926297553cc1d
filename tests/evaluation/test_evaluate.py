import csv
import json
import re
import shutil

import numpy as np
import pytest

from vidgn.data.manifests.manifest import Manifest
from vidgn.evaluation.evaluate import match_classes


@pytest.fixture
def ckpt(trained):
    return f"ckpt={trained}/checkpoints/best.ckpt"


@pytest.fixture
def split_videos(motions, tmp_path):
    """The test split of the tiny motions as a folder per class, once as train/ and once as val/."""
    for split in ("train", "val"):
        shutil.copytree(motions / "test", tmp_path / "videos" / split)
    return tmp_path / "videos"


def predictions(folder):
    with (folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_checkpoint_is_all_that_is_needed_and_gives_the_runs_own_numbers(run, ckpt, trained, tmp_path):
    outcome = run("eval", ckpt, f"hydra.run.dir={tmp_path}")
    assert outcome.status == 0, outcome.err
    assert outcome.out.strip().splitlines()[-1] == str(tmp_path)
    assert predictions(tmp_path) == predictions(trained)
    ours, theirs = (json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path, trained))
    for name in ("video_top1", "video_top5", "clip_top1", "clip_top5", "protocol", "videos_scored"):
        assert ours[name] == theirs[name]


@pytest.mark.slow
def test_another_folder_another_protocol(run, ckpt, trained, split_videos, tmp_path):
    outcome = run(
        "eval", ckpt, "data=folder", f"data.root={split_videos}", "num_clips=3", "num_crops=3", "batch=5",
        f"hydra.run.dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert "3 clips (linspace) x 3 crops of 37" in outcome.out
    assert "note: " in outcome.out  # the folder has no test/
    rows = predictions(tmp_path / "run")
    assert [row["label"] for row in rows] == [row["label"] for row in predictions(trained)]


@pytest.mark.slow
def test_the_full_frame_is_a_protocol(run, ckpt, tmp_path):
    outcome = run("eval", ckpt, "num_crops=full", "num_clips=1", f"hydra.run.dir={tmp_path}")
    assert outcome.status == 0, outcome.err
    assert "1 clip (linspace) x the full frame" in outcome.out


@pytest.mark.slow
def test_broken_and_missing_videos_are_failed_and_wrong_and_listed(run, ckpt, trained, split_videos, tmp_path):
    """The accuracy over 12 videos, 2 of which cannot be read, is that of the other 10 over 12."""
    broken = sorted((split_videos / "val").rglob("*.mp4"))[:2]
    broken[0].write_bytes(b"")
    broken[1].write_bytes(broken[1].read_bytes()[:300])
    outcome = run("eval", ckpt, "data=folder", f"data.root={split_videos}", f"hydra.run.dir={tmp_path / 'run'}")
    assert outcome.status == 0, outcome.err
    assert "videos: 10 scored / 12 expected / 2 failed (counted as wrong)" in outcome.out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert len(metrics["failures"]) == 2
    assert any("empty file" in reason for reason in metrics["failures"].values())
    rows = {row["video"].split("/", 1)[1]: row for row in predictions(tmp_path / "run")}
    whole = {row["video"].split("/", 1)[1]: row for row in predictions(trained)}
    lost = [path.relative_to(split_videos / "val").as_posix() for path in broken]
    assert [name for name, row in rows.items() if row["error"]] == lost
    assert all(rows[name]["class1"] == "" for name in lost)
    right = sum(row["class1"] == row["label"] for name, row in whole.items() if name not in lost)
    assert metrics["video_top1"] == pytest.approx(100 * right / 12, abs=1e-3)
    same = [name for name in whole if name not in lost]
    assert [rows[name]["score1"] for name in same] == [whole[name]["score1"] for name in same]


@pytest.mark.slow
def test_a_test_on_kinetics_needs_the_validation_list_alone(run, ckpt, trained, split_videos, tmp_path):
    shutil.rmtree(split_videos / "train")
    rows = [f"{row['video'].split('/', 1)[1]} {row['label']}" for row in predictions(trained)]
    (split_videos / "val.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "classes.txt").write_text("\n".join(sorted({row["label"] for row in predictions(trained)})) + "\n")
    outcome = run(
        "eval", ckpt, "data=kinetics400", f"data.root={split_videos / 'val'}", f"data.val={split_videos / 'val.csv'}",
        f"data.classes={tmp_path / 'classes.txt'}", f"hydra.run.dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert [row["score1"] for row in predictions(tmp_path / "run")] == [row["score1"] for row in predictions(trained)]


@pytest.mark.slow
@pytest.mark.parametrize("split", ["test", "val"])  # without test/, val/ is the test
def test_a_test_on_a_folder_needs_the_folder_of_the_test_alone(run, ckpt, motions, trained, tmp_path, split):
    shutil.copytree(motions / "test", tmp_path / "videos" / split)
    words = ("eval", ckpt, "data=folder", f"data.root={tmp_path / 'videos'}")
    outcome = run(*words, f"hydra.run.dir={tmp_path / 'run'}")
    assert outcome.status == 0, outcome.err
    assert [row["score1"] for row in predictions(tmp_path / "run")] == [row["score1"] for row in predictions(trained)]


@pytest.mark.slow
def test_a_test_on_a_folder_of_training_videos_says_what_is_missing(run, ckpt, motions, tmp_path):
    shutil.copytree(motions / "test", tmp_path / "videos" / "train")
    outcome = run("eval", ckpt, "data=folder", f"data.root={tmp_path / 'videos'}", f"hydra.run.dir={tmp_path / 'run'}")
    assert outcome.status != 0
    assert "has train/ but neither test/ nor val/; add val/CLASS/ with the videos" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "scored"),
    [
        ("trainer.limit_test_batches=3", 3),
        ("trainer.limit_test_batches=0.5", 6),
        ("trainer.fast_dev_run=2", 2),
    ],
)
def test_a_part_of_the_test_says_so(run, ckpt, tmp_path, option, scored):
    outcome = run("eval", ckpt, option, f"hydra.run.dir={tmp_path}")
    assert outcome.status == 0, outcome.err
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["videos_expected"], metrics["videos_scored"], metrics["videos_failed"]) == (12, scored, 0)
    sentence = f"only {scored} of 12 test videos ({option})"
    assert sentence in metrics["protocol"]
    assert metrics["part_of_the_test"] == [sentence]
    assert f"{scored} scored / 12 expected / 0 failed / {12 - scored} NOT SCORED" in outcome.out
    assert len(predictions(tmp_path)) == scored


@pytest.mark.slow
def test_a_limit_that_leaves_all_videos_is_a_whole_test(run, ckpt, trained, tmp_path):
    outcome = run("eval", ckpt, "trainer.limit_test_batches=12", f"hydra.run.dir={tmp_path}")
    assert outcome.status == 0, outcome.err
    assert "NOT SCORED" not in outcome.out
    assert json.loads((tmp_path / "metrics.json").read_text())["part_of_the_test"] == []
    assert predictions(tmp_path) == predictions(trained)


def test_classes_are_matched_by_name():
    rows = [("a.mp4", 0), ("b.mp4", 1), ("c.mp4", 1)]
    manifest = Manifest.from_rows(rows, root="/", classes=["run", "jump"])
    matched = match_classes(manifest, ["jump", "run", "sit"])
    np.testing.assert_array_equal(matched.labels, [1, 0, 0])
    assert matched.classes == ("jump", "run", "sit")
    with pytest.raises(ValueError, match=r"1 of the 2 classes in / are unknown to the checkpoint \(run\)"):
        match_classes(manifest, ["jump", "sit"])


@pytest.mark.parametrize(
    ("given", "known"),
    [(["alpha", "Alpha"], ["alpha", "beta"]), (["a b", "a_b"], ["A b", "c"])],
)
def test_two_classes_that_are_one_to_the_checkpoint_are_not_merged(given, known):
    manifest = Manifest.from_rows([("a.mp4", 0), ("b.mp4", 1)], root="/", classes=given)
    with pytest.raises(ValueError, match=f"'{given[0]}' and '{given[1]}' in / differ in capitals.*rename or join"):
        match_classes(manifest, known)


def test_classes_that_differ_in_capitals_are_two_where_the_checkpoint_has_both():
    manifest = Manifest.from_rows([("a.mp4", 0), ("b.mp4", 1)], root="/", classes=["Alpha", "alpha"])
    matched = match_classes(manifest, ["alpha", "beta", "Alpha"])
    np.testing.assert_array_equal(matched.labels, [2, 0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ckpt=/nowhere.ckpt"], "ckpt=/nowhere.ckpt does not exist"),
        ([], "ckpt must be given; set ckpt=VALUE"),
        (["CKPT", "num_crops=5"], "num_crops (5) must be 3, 1 or full."),
        (["CKPT", "clip_len=5"], "clip_len (5) must divide span (16)"),
        (["CKPT", "data=folder"], "data.root must be given; set data.root=VALUE"),
        (["CKPT", "trainer.limit_test_batches=0"], "trainer.limit_test_batches (0) leaves no video to score"),
        (["CKPT", "trainer.limit_test_batches=0.0"], "trainer.limit_test_batches (0.0) leaves no video to score"),
    ],
)
def test_a_mistake_is_one_sentence(run, ckpt, tmp_path, words, message):
    words = [ckpt if word == "CKPT" else word for word in words]
    outcome = run("eval", *words, f"hydra.run.dir={tmp_path}")
    assert outcome.status != 0
    assert message in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.slow
def test_real_videos_are_scored_by_a_checkpoint(run, ckpt, real_videos, tmp_path):
    """Every ordinary and odd file is scored; every broken one is failed, named and wrong."""
    folders = ["clips", "odd", "broken"]
    for index, kind in enumerate(folders):
        for split in ("train", "val"):
            target = tmp_path / "videos" / split / ("move_down", "move_left", "move_right")[index]
            target.mkdir(parents=True)
            for path in (real_videos / kind).iterdir():
                (target / path.name).symlink_to(path)
    outcome = run("eval", ckpt, "data=folder", f"data.root={tmp_path / 'videos'}", f"hydra.run.dir={tmp_path / 'run'}")
    assert outcome.status == 0, outcome.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    broken = {
        path.name for path in (real_videos / "broken").iterdir() if path.suffix != ".wav"
    }  # .wav is not a video name
    assert {name.rpartition("/")[2] for name in metrics["failures"]} == broken
    good = [path for kind in ("clips", "odd") for path in (real_videos / kind).iterdir()]
    assert metrics["videos_scored"] == len(good)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["crop=100000", "num_clips=1000000000", "view_batch=100000"])
def test_a_test_that_no_machine_holds_is_refused(run, trained, tmp_path, option):
    outcome = run("eval", f"ckpt={trained}/checkpoints/best.ckpt", option, f"hydra.run.dir={tmp_path}")
    assert outcome.status == 2
    name, _, value = option.partition("=")
    assert re.search(rf"error: this test has {name} {value}; it must be a whole number from 1 to \d+", outcome.err)
