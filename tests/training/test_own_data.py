"""Every command of docs/own-data.md, run on a small set in the form that it is for."""

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.data.clips import ClipSpec
from vidgn.data.dataset import ClipDataset
from vidgn.data.manifests.drawn_split import PARTS, SplitRecord
from vidgn.data.spec import DataSpec
from vidgn.data.splits import read_manifests
from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video
from vidgn.data.transforms import CropSpec
from vidgn.data.video import open_video

PAGE = Path(__file__).parents[2] / "docs/own-data.md"
FAST = (
    "data.num_workers=0", "epochs=1", "batch=2", "crop=32", "clip_len=8", "span=8", "num_clips=2", "num_crops=1",
    "model.width=8", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "trainer.limit_train_batches=1",
)  # fmt: skip


def commands(heading):
    """Return the options of the commands below a heading of the page, up to the next heading."""
    text = PAGE.read_text()
    section = re.split(r"^#+ ", text, flags=re.MULTILINE)
    (body,) = [part for part in section if part.startswith(f"{heading}\n")]
    lines = re.findall(r"^    python train.py (.*)$", body, flags=re.MULTILINE)
    assert lines, f"{heading} has no command"
    return [shlex.split(line) for line in lines]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Twelve short videos of two classes and three people, and the tables of the page."""
    root = tmp_path_factory.mktemp("clips")
    rows = []
    for label in ("move_left", "zoom_in"):
        for number in range(6):
            name = f"{label}_g{number // 2}_{number}.mp4"
            (root / label).mkdir(exist_ok=True)
            frames = draw_video(label, spec=MotionsSpec(num_frames=20, side=40), key=(0, number))
            write_video(root / label / name, frames)
            split = ("train", "train", "train", "train", "val", "test")[number]
            rows.append((f"{label}/{name}", label, split, f"p{number // 2}"))
    write_table(root / "videos.csv", ["path", "label", "split", "person"], rows)
    write_table(root / "drawn.csv", ["path", "label", "person"], [(a, b, d) for a, b, _, d in rows])
    write_table(root / "named.csv", ["clip", "action"], [(a, b) for a, b, *_ in rows])
    for split in ("train", "val"):
        lines = [f"{path} {int(label == 'zoom_in')}" for path, label, of, _ in rows if of == split]
        (root / f"{split}.txt").write_text("\n".join(lines))
    segments = [(a, b, c, start, start + 0.32) for a, b, c, _ in rows for start in (0.0, 0.4)]
    write_table(root / "segments.csv", ["path", "label", "split", "start", "end"], segments)
    return root


@pytest.fixture(scope="module")
def folders(clips, tmp_path_factory):
    """The same videos as folders of images, and a table of them."""
    root = tmp_path_factory.mktemp("folders")
    with (clips / "videos.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        folder = root / row["path"].removesuffix(".mp4")
        folder.mkdir(parents=True)
        with open_video(clips / row["path"]) as reader:
            for index, image in reader.frames(range(len(reader))):
                Image.fromarray(image).save(folder / f"img_{index + 1:05d}.png")
    write_table(
        root / "folders.csv", ["path", "label", "split"],
        [(row["path"].removesuffix(".mp4"), row["label"], row["split"]) for row in rows],
    )  # fmt: skip
    return root


def write_table(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def train(run, options, root, folder, monkeypatch):
    monkeypatch.chdir(root)
    options = [option.replace("data.root=DIR", f"data.root={root}") for option in options]
    outcome = run("train", *options, *FAST, f"hydra.run.dir={folder}")
    assert outcome.status == 0, outcome.err
    return json.loads((folder / "metrics.json").read_text()), outcome.out


@pytest.mark.slow
def test_a_folder_per_class(run, clips, tmp_path, monkeypatch):
    (options,) = commands("A folder per class")
    metrics, out = train(run, options, clips, tmp_path, monkeypatch)
    assert metrics["videos_scored"] == 2
    assert "8 train, 2 val, 2 test videos, 2 classes" in out


@pytest.mark.slow
@pytest.mark.parametrize(("number", "table"), [(0, "videos.csv"), (1, "named.csv"), (2, None)])
def test_a_table(run, clips, tmp_path, monkeypatch, number, table):
    options = [option.replace("videos.csv", table or "") for option in commands("A table")[number]]
    metrics, out = train(run, options, clips, tmp_path, monkeypatch)
    assert metrics["videos_failed"] == 0
    assert "8 train, 2 val, 2 test videos, 2 classes" in out


@pytest.mark.slow
def test_segments_of_long_videos(run, clips, tmp_path, monkeypatch):
    (options,) = commands("Segments of long videos")
    metrics, out = train(run, options, clips, tmp_path, monkeypatch)
    assert metrics["videos_scored"] == 4
    assert "16 train, 4 val, 4 test videos" in out
    with (tmp_path / "predictions.csv").open() as file:
        names = [row["video"] for row in csv.DictReader(file)]
    assert names[:2] == ["move_left/move_left_g2_5.mp4#t=0,0.32", "move_left/move_left_g2_5.mp4#t=0.4,0.72"]


@pytest.mark.slow
@pytest.mark.parametrize(("heading", "number"), [("Segments of long videos", 0), ("A table", 1)])
def test_a_test_takes_everything_from_the_checkpoint(run, clips, tmp_path, monkeypatch, heading, number):
    options = commands(heading)[number]
    if heading == "A table":
        options = [option.replace("videos.csv", "named.csv") for option in options]
    metrics, _ = train(run, options, clips, tmp_path / "train", monkeypatch)
    words = (f"ckpt={tmp_path}/train/checkpoints/best.ckpt", "data.num_workers=0", "trainer.accelerator=cpu")
    outcome = run("eval", *words, f"hydra.run.dir={tmp_path / 'eval'}")
    assert outcome.status == 0, outcome.err
    again = json.loads((tmp_path / "eval/metrics.json").read_text())
    assert [again[key] for key in ("video_top1", "videos_scored")] == [
        metrics[key] for key in ("video_top1", "videos_scored")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_folders_of_images(run, folders, tmp_path, monkeypatch, number):
    options = [option.replace(".jpg", ".png") for option in commands("Folders of images")[number]]
    metrics, out = train(run, options, folders, tmp_path, monkeypatch)
    assert metrics["videos_failed"] == 0
    assert "8 train, 2 val, 2 test videos, 2 classes" in out


@pytest.mark.slow
def test_folders_of_images_give_the_clips_of_the_files(clips, folders):
    files = read_manifests(DataSpec("csv", file=str(clips / "videos.csv")))["train"]
    images = read_manifests(DataSpec("frames", file=str(folders / "folders.csv")))["train"]
    options = {"clip": ClipSpec(4, 8), "crop": CropSpec(32), "seed": 3, "flip": True, "stream": "train"}
    for rule in ("nonlocal", "segments"):
        one, other = (ClipDataset(m, rule=rule, deadline_seconds=None, **options) for m in (files, images))
        assert all(torch.equal(one[2, video].clips, other[2, video].clips) for video in range(len(files)))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "says"), [(0, "resampled to 15 fps"), (1, "8 frames one of each equal part")])
def test_time(run, clips, tmp_path, monkeypatch, number, says):
    metrics, _ = train(run, commands("Time")[number], clips, tmp_path, monkeypatch)
    assert says in metrics["protocol"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_groups(run, clips, tmp_path, monkeypatch, number):
    options = [option.replace("videos.csv", "drawn.csv") for option in commands("Splits and groups")[number]]
    metrics, out = train(run, options, clips, tmp_path, monkeypatch)
    assert "4 train, 4 val, 4 test videos, 2 classes" in out
    assert metrics["videos_scored"] == 4


@pytest.mark.slow
def test_one_person_is_left_out_at_a_time(run, clips, tmp_path, monkeypatch):
    """The sweep of the page: every video is tested once, by a net that has not seen its person; then the mean."""
    monkeypatch.chdir(clips)
    options = [option.replace("videos.csv", "drawn.csv") for option in commands("Cross-validation")[1]]
    folders = (f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=${data.fold}")
    outcome = run("train", *options, *FAST, *folders)
    assert outcome.status == 0, outcome.err
    tested, values = [], []
    for fold in range(3):
        with (tmp_path / str(fold) / "predictions.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {row["group"] for row in rows} == {f"p{fold}"}
        tested += [row["video"] for row in rows]
        record = SplitRecord.from_plain(
            read_checkpoint(tmp_path / str(fold) / "checkpoints/best.ckpt").description.split
        )
        known = dict(zip(every_video(clips), record.part_of(every_video(clips)), strict=True))
        people = {part: {name.split("_g")[1][0] for name, of in known.items() if of == part} for part in PARTS}
        assert people == {"test": {str(fold)}, "val": {str((fold + 1) % 3)}, "train": {str((fold + 2) % 3)}}
        values.append(json.loads((tmp_path / str(fold) / "metrics.json").read_text())["video_top1"])
    assert sorted(tested) == sorted(every_video(clips))
    half = 4.302653 * np.std(values, ddof=1) / np.sqrt(3)
    low, high = max(0, np.mean(values) - half), min(100, np.mean(values) + half)
    text = (
        f"top-1 {np.mean(values):.2f} % is the mean over 3 folds (95 % interval of the mean, over folds: {low:.2f} to "
    )
    assert f"{text}{high:.2f})" in outcome.out


def every_video(clips):
    with (clips / "drawn.csv").open() as file:
        return [row["path"] for row in csv.DictReader(file)]
