import csv
import json
import shutil

import pytest
import torch

from vidgn.checkpoints.checkpoint import read_checkpoint


def column(path, name):
    with path.open() as file:
        return [row[name] for row in csv.DictReader(file) if row[name]]


def test_a_run_leaves_everything_in_its_folder(trained):
    names = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    assert {
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "config.yaml",
        "environment.json",
        "metrics.csv",
        "metrics.json",
        "predictions.csv",
    } <= names
    assert any(name.startswith("tensorboard/events") for name in names)
    environment = json.loads((trained / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert "epochs=1" in environment["words"]


def test_the_last_line_is_the_run_folder_and_the_protocol_stands_above(trained):
    lines = (trained / "stdout.txt").read_text().strip().splitlines()
    assert lines[-1] == str(trained)
    assert lines[-2] == "videos: 12 scored / 12 expected / 0 failed"
    assert lines[-3].startswith("2 clips (linspace) x 1 crop of 37, 8 frames x stride 2, native fps, short side 37")


def test_the_figures_are_those_of_the_predictions(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    with (trained / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == metrics["videos_expected"] == metrics["videos_scored"] == 12
    assert metrics["videos_failed"] == 0
    right = sum(row["class1"] == row["label"] for row in rows)
    among = sum(row["label"] in [row[f"class{k}"] for k in range(1, 6)] for row in rows)
    assert metrics["video_top1"] == pytest.approx(100 * right / 12, abs=1e-3)
    assert metrics["video_top5"] == pytest.approx(100 * among / 12, abs=1e-3)
    assert all(float(row["score1"]) >= float(row["score2"]) for row in rows)


def test_a_checkpoint_holds_tensors_and_plain_values_only(trained):
    for name in ("best", "last"):
        state = torch.load(trained / "checkpoints" / f"{name}.ckpt", weights_only=True)
        told = state["vidgn"]
        assert told["classes"][:2] == ["move_down", "move_left"]
        assert told["norm"] == {"name": "gn", "num_groups": 4, "channels_per_group": None, "eps": 1e-5}  # width 8
        assert told["clip"] == {"clip_len": 8, "span": 16}
        assert told["normalize"] == {"mean": [0.45] * 3, "std": [0.225] * 3}
        assert told["data"]["name"] == "motions"
        assert "clip_len: 8" in told["config"]


@pytest.mark.slow
def test_one_seed_gives_one_loss_curve_whatever_the_workers(run, tiny, tmp_path):
    losses = []
    for number, workers in enumerate((0, 0, 2)):
        folder = tmp_path / str(number)
        words = (
            *tiny, f"data.num_workers={workers}", "trainer.log_every_n_steps=1", "test=false",
            f"hydra.run.dir={folder}",
        )  # fmt: skip
        outcome = run("train", *words)
        assert outcome.status == 0, outcome.err
        losses.append(column(folder / "metrics.csv", "train/loss"))
    assert len(losses[0]) == 3
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["bn", "ln", "in"])
def test_every_norm_trains(run, tiny, tmp_path, norm):
    outcome = run("train", *tiny, f"norm={norm}", "test=false", "trainer.max_steps=1", f"hydra.run.dir={tmp_path}")
    assert outcome.status == 0, outcome.err
    assert f"net i3d_r50 with {norm} (" in outcome.out


# Frames of a raw span, as pytorchvideo's model zoo prints them (32x2 for SlowFast's fast path).
@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "frames", "stride"),
    [
        ("c2d_r50", 8, 8),
        ("slowfast_r50", 32, 2),
        ("r2plus1d_r50", 16, 4),
        ("x3d_s", 13, 6),
    ],
)
def test_other_networks_train_with_their_own_clip(run, tiny, tmp_path, model, frames, stride):
    words = [word for word in tiny if not word.startswith(("clip_len=", "span="))]
    tested = model in ("slowfast_r50", "x3d_s")
    outcome = run(
        "train", *words, f"model={model}", "norm=gn", "batch=2", "trainer.max_steps=1", "num_clips=1",
        "trainer.limit_val_batches=1", f"test={tested}", f"hydra.run.dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert f"clips {frames} frames x stride {stride}, crop 32, batch 2" in outcome.out
    ckpt = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert torch.load(ckpt, weights_only=True)["vidgn"]["clip"] == {"clip_len": frames, "span": frames * stride}
    if tested:
        outcome = run("eval", f"ckpt={ckpt}", "data.num_workers=0", f"hydra.run.dir={tmp_path / 'eval'}")
        assert outcome.status == 0, outcome.err
        ours, theirs = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("eval", "run"))
        assert ours["clip_top1"] == theirs["clip_top1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=x3d_s", "clip_len=16"], "clip_len (16) must divide span (78); use 6 or 13, or set span."),
        (["model=r2plus1d_r50", "clip_len=2"], "A clip of 2 frames must have a multiple of 4; use clip_len=4 or 8."),
        (["model=slowfast_r50", "model.width=12"], "width (12) must be a multiple of 8"),
        (["model=csn_r101", "model.pool1=paper"], "unknown option 'model.pool1'; model has"),
    ],
)
def test_a_clip_or_shape_that_a_network_cannot_have_is_one_sentence(run, tiny, tmp_path, words, message):
    plain = [word for word in tiny if not word.startswith(("clip_len=", "span="))]
    outcome = run("train", *plain, *words, f"hydra.run.dir={tmp_path}")
    assert outcome.status == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.slow
def test_precise_statistics_are_a_word(run, tiny, tmp_path):
    outcome = run("train", *tiny, "norm=bn", "precise_bn=2", "test=false", f"hydra.run.dir={tmp_path}")
    assert outcome.status == 0, outcome.err
    assert "precise_bn" in torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.slow
def test_groups_are_set_by_number_or_by_their_channels(run, tiny, tmp_path):
    for word, message in [
        ("norm.num_groups=3", r"num_groups (3) must divide num_features (8)"),
        ("norm.channels_per_group=3", r"channels_per_group (3) must divide num_features (8)"),
    ]:
        outcome = run("train", *tiny, word, f"hydra.run.dir={tmp_path}")
        assert outcome.status == 2
        assert message in outcome.err
    outcome = run(
        "train", *tiny, "norm.channels_per_group=2", "test=false", "trainer.max_steps=1", f"hydra.run.dir={tmp_path}"
    )
    assert outcome.status == 0, outcome.err


@pytest.mark.slow
def test_a_run_of_two_steps_ends_with_a_test_too(run, tiny, tmp_path):
    outcome = run("train", *tiny, "trainer.max_steps=2", f"hydra.run.dir={tmp_path}")
    assert outcome.status == 0, outcome.err
    assert json.loads((tmp_path / "metrics.json").read_text())["videos_scored"] == 12


OWN = ("data=folder", "data.num_workers=0", "epochs=1", "batch=2", "crop=32", "clip_len=8", "span=16", "num_clips=2",
       "num_crops=1", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false")  # fmt: skip


@pytest.mark.slow
def test_own_videos_start_from_a_checkpoint_and_take_its_shape(run, trained, own_videos, tmp_path):
    words = (*OWN, f"data.root={own_videos}", f"init={trained}/checkpoints/best.ckpt", f"hydra.run.dir={tmp_path}")
    outcome = run("train", *words)
    assert outcome.status == 0, outcome.err
    assert "width 8," in outcome.out
    assert "net i3d_r50 with gn (" in outcome.out
    assert "new classifier" in outcome.out
    assert "is drawn with seed 0" in outcome.out
    told = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["vidgn"]
    assert told["classes"] == ["move_down", "move_up"]
    assert told["model"]["width"] == 8
    assert "lr: 0.16" in told["config"]  # optim=finetune by default


@pytest.mark.slow
def test_another_shape_than_the_checkpoints_is_refused(run, trained, own_videos, tmp_path):
    words = (*OWN, f"data.root={own_videos}", f"init={trained}/checkpoints/best.ckpt", f"hydra.run.dir={tmp_path}")
    outcome = run("train", *words, "model.width=16")
    assert outcome.status == 2
    assert "model.width=16, but init=" in outcome.err
    assert "has 8; leave model.width out." in outcome.err
    outcome = run("train", *words, "norm=bn")
    assert outcome.status == 2
    assert "has no batch-norm statistics" in outcome.err


@pytest.mark.slow
def test_stages_stay_fresh_beside_weights_to_start_from(run, trained, own_videos, tmp_path):
    words = (*OWN, f"data.root={own_videos}", "init_fresh=[res5]", "test=false", "trainer.max_steps=1")
    outcome = run("train", *words, f"init={trained}/checkpoints/best.ckpt", f"hydra.run.dir={tmp_path / 'one'}")
    assert outcome.status == 0, outcome.err
    assert "note: res5: fresh weights, as init_fresh asks" in outcome.out
    outcome = run("train", *words, "model.width=8", f"hydra.run.dir={tmp_path / 'two'}")
    assert outcome.status == 2
    assert "init_fresh (res5) needs weights for the other stages; set init=FILE." in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "note"),
    [
        (["optim=paper"], "note: optim=paper is meant for weights to start from, but init= is not given"),
        (["optim=scratch", "init=CKPT"], "note: optim=scratch has a high rate meant for random weights"),
    ],
)
def test_a_recipe_that_does_not_fit_the_start_says_so(run, tiny, trained, tmp_path, words, note):
    words = [word.replace("CKPT", str(trained / "checkpoints" / "best.ckpt")) for word in words]
    outcome = run("train", *tiny, *words, "test=false", "trainer.max_steps=1", f"hydra.run.dir={tmp_path}")
    assert outcome.status == 0, outcome.err
    assert note in outcome.out


@pytest.mark.slow
def test_missing_videos_are_reported_before_training_with_the_first_names(run, own_videos, tmp_path):
    (tmp_path / "videos").mkdir()
    for label in ("move_up", "move_down"):
        shutil.copytree(own_videos / label, tmp_path / "videos" / label)
    rows = [
        f"{label}/{number}.mp4 {index}" for index, label in enumerate(("move_down", "move_up")) for number in range(6)
    ]
    (tmp_path / "videos" / "train.csv").write_text("\n".join([*rows, "move_up/gone.mp4 1"]) + "\n")
    (tmp_path / "videos" / "val.csv").write_text("\n".join([*rows, "move_up/lost.mp4 1"]) + "\n")
    (tmp_path / "classes.txt").write_text("down\nup\n")
    words = (
        *OWN, "data=kinetics400", f"data.root={tmp_path / 'videos'}", f"data.train={tmp_path / 'videos' / 'train.csv'}",
        f"data.val={tmp_path / 'videos' / 'val.csv'}", f"data.classes={tmp_path / 'classes.txt'}", "model.width=8",
        f"hydra.run.dir={tmp_path / 'run'}",
    )  # fmt: skip
    outcome = run("train", *[word for word in words if word != "data=folder"])
    assert outcome.status == 0, outcome.err
    assert "warning: train: 1 of 13 videos are missing" in outcome.out
    assert "gone.mp4" in outcome.out.partition("epoch 1/1")[0]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["videos_expected"], metrics["videos_scored"], metrics["videos_failed"]) == (13, 12, 1)
    assert list(metrics["failures"]) == ["move_up/lost.mp4"]


@pytest.mark.slow
def test_a_broken_training_video_is_an_error_that_names_it(run, own_videos, tmp_path):
    shutil.copytree(own_videos, tmp_path / "videos")
    for path in (tmp_path / "videos").rglob("*.mp4"):
        path.write_bytes(b"")
    outcome = run(
        "train", *OWN, f"data.root={tmp_path / 'videos'}", "model.width=8", f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert outcome.status == 2
    assert ".mp4: empty file" in outcome.err
    assert (tmp_path / "run" / "error.log").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=folder", "data.root=/nowhere"], "/nowhere"),
        (["data=folder", "data.root=null"], "data=folder needs the folder of the videos; set data.root=DIR."),
        (["init=/nowhere.pth"], "/nowhere.pth"),
        (["clip_len=6"], "clip_len (6) must divide span (16)"),
        (["clip_len=4"], "A clip of 4 frames must have a multiple of 8"),
        (["crop=16"], "must be at least 32x32"),
        (["batch=0"], "batch (0) must be at least 1 clip per device."),
        (["batch=999"], "batch (999) is more than the 24 training videos; set batch=24."),
        (["num_clips=0"], "num_clips (0) must be at least 1"),
        (["num_crops=2"], "num_crops (2) must be 3, 1 or full."),
        (["clip_rule=middle"], "clip_rule (middle) must be one of nonlocal, linspace, dense, segments."),
        (["data.train=0"], "motions: train (0) must be at least 1"),
        (["data.num_workers=-1"], "data.num_workers (-1) must be 0 or more."),
        (["data.name=ucf"], "data.name (ucf) is unknown; use one of motions, folder, kinetics400, images"),
        (["model.name=vgg"], "model=vgg is unknown; use one of i3d_r50"),
        (["optim.lr=-1"], "optim.lr (-1) must be a positive number"),
        (["logger.names=[csvv]"], "logger.names (csvv) is unknown; use csv, tensorboard, wandb or mlflow."),
        (["resume=/nowhere.ckpt"], "resume=/nowhere.ckpt does not exist"),
        (["data.backend=vlc"], "data.backend (vlc) must be one of pyav, decord, torchcodec."),
    ],
)
def test_a_wrong_value_is_one_sentence_and_status_2(run, tiny, tmp_path, words, message):
    names = {word.partition("=")[0] for word in words}
    kept = [word for word in tiny if word.partition("=")[0] not in names]
    if "data=folder" in words:
        kept = [word for word in kept if word.partition("=")[0] not in ("data.train", "data.val", "data.test")]
    outcome = run("train", *kept, *words, f"hydra.run.dir={tmp_path}")
    assert outcome.status == 2, outcome.out + outcome.err
    assert message in outcome.err
    assert outcome.err.count("Traceback") == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("view_batch=2000", "has view_batch 2000; it must be a whole number from 1 to 1024"),
        ("num_clips=20000", "has num_clips 20000; it must be a whole number from 1 to 10000"),
    ],
)
def test_a_checkpoint_that_could_not_be_read_is_refused_before_the_first_step(run, tiny, tmp_path, option, message):
    outcome = run("train", *tiny, option, f"hydra.run.dir={tmp_path}")
    assert outcome.status == 2
    assert f"error: a checkpoint of this run {message}" in outcome.err
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.slow
def test_a_command_line_of_any_length_is_kept_and_a_net_without_a_step_is_named(run, tiny, tmp_path):
    weights = ",".join(["1." + "0" * 500] * 12)
    outcome = run("train", *tiny, f"class_weights=[{weights}]", "epochs=0", f"hydra.run.dir={tmp_path}")
    assert outcome.status == 0, outcome.err
    assert "warning: no step was trained: the test scores the weights that the run began with" in outcome.out
    described = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt").description
    assert f"class_weights=[{weights}]" in described.overrides
