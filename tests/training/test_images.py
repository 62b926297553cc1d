"""The paper's own starting point: train on pictures, inflate, go on with videos."""

import csv
import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from vidgn.checkpoints.description import Description
from vidgn.runs.command_line import default_words
from vidgn.runs.defaults import check_task, shape_from

TINY = (
    "task=image", "data.train=4", "data.val=1", "data.test=1", "data.num_workers=0", "epochs=2", "batch=4",
    "model.width=8", "crop=32", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "logger=none",
    "optim.schedule=steps", "optim.drops=[]", "optim.warmup=0",  # one rate, however many steps a run may make
)  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, cache):
    """The folder of a tiny run on the embedded pictures."""
    import subprocess
    import sys
    from pathlib import Path

    folder = tmp_path_factory.mktemp("pictures")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(root / "train.py"), *TINY, f"hydra.run.dir={folder}"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


def told(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["vidgn"]


@pytest.mark.slow
def test_pictures_are_trained_with_the_papers_recipe(pictures):
    out = (pictures / "stdout.txt").read_text()
    assert "5 classes; clips 1 frames x stride 1, crop 32, batch 4" in out
    assert "pictures: 1 centre crop of 32, short side 37, softmax averaged over positions" in out
    assert json.loads((pictures / "metrics.json").read_text())["videos_scored"] == 5
    describe = told(pictures)
    assert describe["model"] == {"name": "c2d_r50", "width": 8, "dropout": 0.0}
    assert (describe["clip"], describe["data"]["name"]) == ({"clip_len": 1, "span": 1}, "exposures")


@pytest.mark.slow
def test_an_interrupted_run_on_pictures_goes_on_to_the_same_weights(run, tmp_path):
    words = (*TINY, "test=false")
    for folder, more in (("whole", ()), ("parts", ("trainer.max_steps=6",)), ("parts", ())):
        outcome = run("train", *words, *more, f"hydra.run.dir={tmp_path / folder}")
        assert outcome.status == 0, outcome.err
    assert "resuming from" in outcome.out
    whole, resumed = (
        torch.load(tmp_path / folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in ("whole", "parts")
    )
    assert whole["global_step"] == resumed["global_step"] == 10
    assert [
        name for name, value in whole["state_dict"].items() if not torch.equal(value, resumed["state_dict"][name])
    ] == []


@pytest.mark.slow
def test_its_checkpoint_is_evaluated_as_pictures(run, pictures, tmp_path):
    outcome = run("eval", f"ckpt={pictures}/checkpoints/best.ckpt", "data.num_workers=0", f"hydra.run.dir={tmp_path}")
    assert outcome.status == 0, outcome.err
    ours, theirs = (json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path, pictures))
    assert (ours["video_top1"], ours["protocol"]) == (theirs["video_top1"], theirs["protocol"])


@pytest.mark.slow
def test_bad_pictures_of_a_folder_are_replaced_written_down_and_wrong_in_the_test(run, tmp_path):
    for split, count in (("train", 6), ("val", 2)):
        for index, label in enumerate(("cat", "dog")):
            (tmp_path / "in" / split / label).mkdir(parents=True)
            for number in range(count):
                colour = (200 * index, 30 * number, 90)
                Image.new("RGB", (40, 40), colour).save(tmp_path / "in" / split / label / f"{number}.png")
    (tmp_path / "in" / "train" / "cat" / "3.png").write_bytes(b"")
    (tmp_path / "in" / "val" / "dog" / "1.png").write_text("<html>404</html>")
    small = [word for word in TINY if not word.startswith(("data.train", "data.val", "data.test"))]
    words = (*small, "data=images", f"data.root={tmp_path / 'in'}", "model.dropout=0", "logger=default")
    outcome = run("train", *words, "data.max_share=0.1", f"hydra.run.dir={tmp_path / 'run'}")
    assert outcome.status == 0, outcome.err
    lines = (tmp_path / "run" / "quarantine.jsonl").read_text().splitlines()
    found = {(row["split"], row["video"]): row["error"] for row in map(json.loads, lines)}
    assert found["train", "train/cat/3.png"] == "empty file"
    assert found["val", "val/dog/1.png"].startswith("no whole picture")
    assert len(found) == 2
    with (tmp_path / "run" / "metrics.csv").open() as file:
        failed = [row["val/failed"] for row in csv.DictReader(file) if row["val/error"]]
    assert [float(value) for value in failed] == [1, 1]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(metrics["failures"]) == ["val/dog/1.png"]
    assert (metrics["videos_expected"], metrics["videos_scored"], metrics["videos_failed"]) == (4, 3, 1)
    outcome = run("train", *words, f"hydra.run.dir={tmp_path / 'share'}")
    assert outcome.status == 2
    assert "1 of 12 training videos cannot be read, more than data.max_share (0.01)" in outcome.err
    outcome = run("train", *words, "strict=true", f"hydra.run.dir={tmp_path / 'strict'}")
    assert outcome.status == 2
    assert "train/cat/3.png: empty file" in outcome.err or "val/dog/1.png: no whole picture" in outcome.err
    assert not (tmp_path / "strict" / "quarantine.jsonl").exists()


@pytest.mark.slow
def test_an_i3d_starts_from_it_inflated(run, pictures, tiny, tmp_path):
    words = [word for word in tiny if not word.startswith("model.width")]
    outcome = run(
        "train", *words, f"init={pictures}/checkpoints/best.ckpt", "trainer.max_steps=1", "test=false",
        f"hydra.run.dir={tmp_path}",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert "159 tensors, new classifier" in outcome.out
    assert "2-D kernels inflated, 10 of them to more than one frame" in outcome.out
    describe = told(tmp_path)
    assert (describe["model"]["name"], describe["model"]["width"]) == ("i3d_r50", 8)
    assert describe["norm"] == told(pictures)["norm"]
    assert describe["clip"] == {"clip_len": 8, "span": 16}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("data=motions",),
            "data=motions holds videos, which task=image does not take; use task=video, or data=images",
        ),
        (("model=i3d_r50",), "A clip of 1 frames must have a multiple of 8"),
        (("clip_len=8", "span=8"), "clip_len (8) and span (8) must be 1 for the pictures of data=exposures"),
        (("num_crops=3",), "num_clips (1) and num_crops (3) must be 1 for pictures"),
    ],
)
def test_a_mistake_is_one_sentence(run, tmp_path, words, message):
    outcome = run("train", *TINY, *words, f"hydra.run.dir={tmp_path}")
    assert outcome.status == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_a_task_takes_its_own_data():
    check_task("image", "exposures")
    check_task("video", "folder")
    with pytest.raises(
        ValueError, match=r"data=exposures holds pictures, which task=video does not take; use task=image"
    ):
        check_task("video", "exposures")
    with pytest.raises(ValueError, match=r"task.name \(images\) is unknown; use task=video or task=image"):
        check_task("images", "exposures")


def test_pictures_from_weights_keep_the_recipe_of_pictures():
    assert default_words(["task=image", "init=a.ckpt"]) == []
    assert default_words(["task=video", "init=a.ckpt"]) == ["optim=finetune"]


I3D = {"name": "i3d_r50", "width": 64, "dropout": 0.5, "pool1": "nonlocal"}


def describe(name, clip_len=1, **shape):
    model = {"name": name, "dropout": 0.1, **shape}
    return Description(("a",), model=model, norm={"name": "gn"}, clip_len=clip_len, span=clip_len, crop=32)


@pytest.mark.parametrize(
    ("theirs", "model", "shape"),
    [
        (describe("c2d_r50", width=8), I3D, {"name": "i3d_r50", "width": 8, "pool1": "nonlocal"}),
        (describe("c2d_r101", width=16), I3D, {"name": "i3d_r101", "width": 16, "pool1": "nonlocal"}),
        (describe("c2d_r50", width=8), {"name": "slow_r50", "width": 64}, {"name": "slow_r50", "width": 8}),
        (describe("vgg16", width=8), {"name": "vgg16", "width": 64}, {"name": "vgg16", "width": 8}),
        (describe("slow_r50", 8, width=8), I3D, {"name": "slow_r50", "width": 8}),  # of videos: its own net
    ],
)
def test_a_net_takes_the_shape_of_what_it_starts_from(theirs, model, shape):
    for choice in (False, True):  # kernels are standardized as the checkpoint's are
        told = replace(theirs, model={**theirs.model, **({"weight_standardization": True} if choice else {})})
        assert shape_from(told, {**model, "weight_standardization": "auto"}) == {
            **shape,
            "weight_standardization": choice,
        }


@pytest.mark.parametrize(
    ("theirs", "model", "takers"),
    [
        (
            describe("c2d_r50", width=8),
            {"name": "x3d_s"},
            "i3d_r50, i3d_r50_8x8, slow_r50, tsn_r50, tsm_r50 or c2d_r50",
        ),
        (describe("c2d_r101", width=8), {"name": "slow_r50"}, "i3d_r101 or c2d_r101"),
        (describe("vgg16", width=8), I3D, "vgg16"),
    ],
)
def test_a_net_that_pictures_do_not_become_is_refused(theirs, model, takers):
    with pytest.raises(ValueError, match=rf"cannot start from init=, a \w+ of pictures; use model={takers}\."):
        shape_from(theirs, model)
