"""The drawn split belongs to the run: what it trained on is never tested silently."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.checkpoints.description import Description
from vidgn.data.manifests.drawn_split import SplitRecord
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video
from vidgn.runs.split import described_split, trained_videos

ROOT = next(folder for folder in Path(__file__).parents if (folder / "train.py").is_file())
OWN = ("data=folder", "data.num_workers=0", "epochs=1", "batch=2", "crop=32", "clip_len=8", "span=8", "num_clips=1",
       "num_crops=1", "model.width=8", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false",
       "trainer.max_steps=1", "optim=scratch")  # fmt: skip


def fill(folder, names):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(folder / name, draw_video("move_up", spec=MotionsSpec(num_frames=8, side=36), key=(0, number)))
    return folder


def names_of(label, numbers):
    return [f"{label}/{number:02d}.mp4" for number in numbers]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    return fill(folder, [*names_of("jump", range(1, 9)), *names_of("run", range(1, 9))])


@pytest.fixture(scope="module")
def trained_on_own(videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    words = (*OWN, f"data.root={videos}", "data.seed=5", f"hydra.run.dir={folder}")
    done = subprocess.run([sys.executable, "train.py", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def parts_of(folder):
    with (folder / "split.csv").open(newline="") as file:
        return {row["video"]: row["split"] for row in csv.DictReader(file)}


def scored(folder):
    with (folder / "predictions.csv").open(newline="") as file:
        return {row["video"] for row in csv.DictReader(file)}


def trained_on(folder):
    return json.loads((folder / "metrics.json").read_text())["trained_on"]


@pytest.mark.slow
def test_predict_says_which_videos_the_checkpoint_was_trained_on(vidgn, trained_on_own, tmp_path):
    parts = parts_of(trained_on_own)
    copies = fill(tmp_path / "elsewhere", [*sorted(parts), "run/new.mp4"])
    status, out, err = vidgn("predict", copies, "--ckpt", trained_on_own, "--json")
    assert status == 0, err
    told = {Path(row["video"]).relative_to(copies).as_posix(): row["part"] for row in json.loads(out)["videos"]}
    assert told == {**parts, "run/new.mp4": None}
    count = sum(part == "train" for part in parts.values())
    assert f"note: the checkpoint was trained on {count} of the 17 videos (" in err


@pytest.mark.slow
def test_a_report_counts_test_videos_that_were_trained_on(vidgn, trained_on_own, tmp_path):
    """The number comes from the split of the run, also where the metrics do not know it."""
    status, out, err = vidgn("report", trained_on_own, "--out", tmp_path / "honest", "--json")
    assert status == 0, err
    assert json.loads(out)["runs"][0]["trained_on"] == 0
    page = (tmp_path / "honest" / "index.html").read_text()
    assert "The split was drawn: " in page
    assert "were trained on" not in page

    copy = tmp_path / "copy"
    shutil.copytree(trained_on_own, copy, ignore=shutil.ignore_patterns("checkpoints"))
    test = sorted(scored(copy))
    split = copy / "split.csv"
    split.write_text(split.read_text().replace(f"{test[0]},test", f"{test[0]},train"))
    status, out, err = vidgn("report", copy, "--out", tmp_path / "page", "--json")
    assert status == 0, err
    assert json.loads(out)["runs"][0]["trained_on"] == 1
    page = (tmp_path / "page" / "index.html").read_text()
    assert f"WARNING: 1 of the {len(test)} test videos were trained on" in page


@pytest.mark.slow
def test_eval_init_and_resume_keep_to_the_split_of_the_run(run, videos, trained_on_own, tmp_path):
    parts = parts_of(trained_on_own)
    test = {name for name in parts if parts[name] == "test"}
    assert test == scored(trained_on_own)
    assert trained_on(trained_on_own) == 0
    ckpt = trained_on_own / "checkpoints" / "last.ckpt"

    changed = tmp_path / "changed"
    kept = sorted(parts)
    fill(changed, [name for name in kept if name not in ("jump/01.mp4", "run/01.mp4")])
    fill(changed, ["jump/!new.mp4", "run/!new.mp4"])
    words = ("eval", f"ckpt={ckpt}", "data=folder", f"data.root={changed}", "data.num_workers=0")
    outcome = run(*words, f"hydra.run.dir={tmp_path / 'eval'}", "trainer.accelerator=cpu")
    assert outcome.status == 0, outcome.err
    assert scored(tmp_path / "eval") - {"jump/!new.mp4", "run/!new.mp4"} == test - {"jump/01.mp4", "run/01.mp4"}
    assert trained_on(tmp_path / "eval") == 0
    assert "14 videos keep the part that the checkpoint names, 2 are new to it" in outcome.out

    outcome = run("train", *OWN, f"init={ckpt}", f"data.root={changed}", f"hydra.run.dir={tmp_path / 'tuned'}")
    assert outcome.status == 0, outcome.err
    tuned = parts_of(tmp_path / "tuned")
    assert all(tuned[name] == parts[name] for name in tuned.keys() & parts.keys())

    again = tmp_path / "again"
    outcome = run("train", *OWN, f"data.root={videos}", "data.seed=5", "trainer.max_steps=2", "resume_force=true",
                  f"resume={ckpt}", f"hydra.run.dir={again}")  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert parts_of(again) == parts


@pytest.mark.slow
def test_eval_refuses_another_seed_of_the_split(run, videos, trained_on_own, tmp_path):
    outcome = run("eval", f"ckpt={trained_on_own}/checkpoints/last.ckpt", "data=folder", f"data.root={videos}",
                  "data.seed=4", f"hydra.run.dir={tmp_path / 'eval'}")  # fmt: skip
    assert outcome.status == 2
    assert "data.seed (4) must be the checkpoint's (5)" in outcome.err


@pytest.mark.slow
def test_videos_that_were_trained_on_and_are_tested_are_counted_and_named(run, videos, trained_on_own, tmp_path):
    parts = parts_of(trained_on_own)
    train = sorted(name for name in parts if parts[name] == "train")
    rows = [f"{name} {name.partition('/')[0]}" for name in sorted(parts)]
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "classes.txt").write_text("jump\nrun\n")
    outcome = run(
        "eval", f"ckpt={trained_on_own}/checkpoints/last.ckpt", "data=kinetics400", f"data.root={videos}",
        f"data.val={tmp_path / 'list.csv'}", f"data.classes={tmp_path / 'classes.txt'}", "data.num_workers=0",
        f"hydra.run.dir={tmp_path / 'eval'}", "trainer.accelerator=cpu",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert f"WARNING: {len(train)} of the 16 test videos were trained on ({', '.join(train[:10])}" in outcome.out
    assert trained_on(tmp_path / "eval") == len(train)


DRAWN = {"train": ["jump/1.mp4", "run/caf\u00e9.mp4"], "val": ["jump/2.mp4"], "test": ["jump/3.mp4"]}
ARRANGED = {"train": ["train/jump/1.mp4"], "val": ["val/jump/2.mp4"], "test": ["test/jump/2.mp4", "test/jump/3.mp4"]}


@pytest.mark.parametrize(
    ("parts", "root", "names", "trained"),
    [
        (DRAWN, "x", ["test/jump/1.mp4", "test/jump/3.mp4", "test/jump/9.mp4"], ["test/jump/1.mp4"]),  # by hand
        (DRAWN, "x", ["run/cafe\u0301.avi"], ["run/cafe\u0301.avi"]),  # copied by macOS, and converted
        ({"train": ["x/jump/1.mp4"]}, "data/x", ["jump/1.mp4", "jump/2.mp4"], ["jump/1.mp4"]),  # of a table
        (ARRANGED, "x/train", ["jump/1.mp4"], ["jump/1.mp4"]),
        (ARRANGED, "all", ["jump/1.mp4", "jump/2.mp4", "jump/3.mp4"], ["jump/1.mp4"]),
        (ARRANGED, "x/test", ["jump/1.mp4", "jump/2.mp4"], []),  # each part counts from 1
        (ARRANGED, "x", ["test/jump/1.mp4", "val/jump/1.mp4"], []),
        ({"train": ["1.mp4"]}, "other", ["jump/1.mp4"], []),  # a bare number names nothing
    ],
)
def test_what_was_trained_on_is_known_where_folders_were_rearranged(tmp_path, parts, root, names, trained):
    (tmp_path / root).mkdir(parents=True)
    manifest = Manifest.from_rows([(name, 0) for name in names], root=tmp_path / root, classes=["a"])
    assert trained_videos(SplitRecord.of(parts), manifest) == trained


@pytest.mark.slow
def test_a_checkpoint_without_a_record_says_so(run, videos, trained_on_own, tmp_path):
    state = torch.load(trained_on_own / "checkpoints" / "last.ckpt", weights_only=True)
    assert described_split(Description.from_plain(state["vidgn"])).seed == 5
    del state["vidgn"]["split"]
    torch.save(state, tmp_path / "old.ckpt")
    outcome = run("eval", f"ckpt={tmp_path / 'old.ckpt'}", "data=folder", f"data.root={videos}", "data.num_workers=0",
                  f"hydra.run.dir={tmp_path / 'eval'}", "trainer.accelerator=cpu")  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert "does not say which videos it was trained on" in outcome.out
    assert "drawn with seed 5" in outcome.out
    assert trained_on(tmp_path / "eval") is None


@pytest.mark.slow
def test_the_names_of_a_manifest_are_its_record(trained_on_own, videos):
    record = described_split(read_checkpoint(trained_on_own / "checkpoints" / "last.ckpt").description)
    for part in ("train", "val", "test"):
        manifest = Manifest.from_folder(videos, split=part, seed=5)
        names = [manifest.video_id(row) for row in range(len(manifest))]
        assert set(record.part_of(names)) == {part}
