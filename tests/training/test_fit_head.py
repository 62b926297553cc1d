import json
from operator import attrgetter

import pytest
import torch
import yaml
from torchvision.models import resnet50

from vidgn.data.manifests.manifest import Manifest
from vidgn.evaluation.linear import fit_logistic
from vidgn.runs.config import RunConfig
from vidgn.runs.session import compose_options
from vidgn.training.own_data import rule
from vidgn.training.own_data.choose import choose_for_own_data
from vidgn.training.own_data.fit_head import STRENGTHS, cross_validate, fit_rotated, recordings
from vidgn.training.own_data.run_fit import check_fit_head


def features(num_videos=40, size=60, shift=1.0):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num_videos) % 2
    return torch.randn(num_videos, size, generator=generator) + shift * labels[:, None], labels


def test_a_fit_in_the_span_of_the_features_is_the_fit():
    values, labels = features(num_videos=20, size=50)
    whole = fit_logistic(values, labels, strength=0.1, num_classes=2)
    rotated = fit_rotated(values, labels, strength=0.1, num_classes=2)
    for one, other in zip(whole, rotated, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_groups_stay_together_in_the_cross_validation():
    """Each recording has a mark of its own: with it, videos of one recording know each other's random class."""
    generator = torch.Generator().manual_seed(1)
    marks = torch.randn(40, 200, generator=generator)
    labels = torch.randint(2, (40,), generator=generator)
    values, labels = marks.repeat_interleave(3, 0), labels.repeat_interleave(3)
    apart = cross_validate(values, labels, [str(row) for row in range(120)], num_classes=2, seed=0)
    together = cross_validate(values, labels, [str(row // 3) for row in range(120)], num_classes=2, seed=0)
    assert max(score.accuracy for score in apart) > 90
    assert max(score.accuracy for score in together) < 80


def test_classes_that_differ_are_told_apart_and_too_few_videos_are_not_scored():
    values, labels = features()
    scores = cross_validate(values, labels, [str(row) for row in range(40)], num_classes=2, seed=0)
    assert len(scores) == len(STRENGTHS)
    assert max(score.accuracy for score in scores) > 90
    assert cross_validate(values[:2], labels[:2], ["a", "b"], num_classes=2, seed=0) == []
    assert cross_validate(values, labels, ["a"] * 40, num_classes=2, seed=0) == []


def manifest(names, root):
    return Manifest.from_rows([(name, 0) for name in names], root=root, classes=("a",))


@pytest.mark.parametrize(
    ("names", "pattern", "groups"),
    [
        (["a/x_g1_c1.mp4", "a/x_g1_c2.mp4", "a/x_g2_c1.mp4", "a/x_g3_c1.mp4", "a/x_g4_c1.mp4", "a/x_g5_c1.mp4",
          "a/x_g6_c1.mp4", "a/x_g7_c1.mp4"], None, 7),
        ([f"a/{number}.mp4" for number in range(8)], None, 8),  # the number is that of the video
        ([f"a/clip_{number}.mp4" for number in range(8)], None, 8),  # one name for all tells nothing
        (["a/p1_x.mp4", "a/p1_y.mp4", "a/p2_x.mp4"], r"(p\d)_", 2),
    ],
)  # fmt: skip
def test_recordings_are_known_by_name(names, pattern, groups, tmp_path):
    found = recordings(manifest(names, tmp_path), range(len(names)), pattern=pattern)
    assert len(set(found)) == groups


SMALL = (
    "data=folder", "data.num_workers=0", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false",
    "logger.names=[csv]",
)  # fmt: skip
NARROW = ("model=frames_r50", "model.width=8", "norm=gn", "clip_len=4", "span=8", "crop=32", "num_clips=2")


@pytest.mark.slow
def test_a_fitted_run_is_an_ordinary_run(run, own_videos, tmp_path):
    words = (*SMALL, *NARROW, "fit_head=true", "num_crops=full", f"data.root={own_videos}")
    folder = tmp_path / "run"
    outcome = run("train", *words, f"hydra.run.dir={folder}")
    assert outcome.status == 0, outcome.err
    assert "classifier fitted to 32 views of 8 videos" in outcome.out  # 2 clips, mirrored
    record = json.loads((folder / "fit_head.json").read_text())
    assert record["num_videos"] == 8
    assert len(record["accuracies"]) == len(STRENGTHS)
    metrics = json.loads((folder / "metrics.json").read_text())
    outcome = run("eval", f"ckpt={folder}", "data.num_workers=0", "trainer.accelerator=cpu",
                  f"hydra.run.dir={tmp_path / 'eval'}")  # fmt: skip
    assert outcome.status == 0, outcome.err
    again = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert (again["video_top1"], again["clip_top1"]) == (metrics["video_top1"], metrics["clip_top1"])
    before = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    outcome = run("train", *words, f"hydra.run.dir={folder}")
    assert outcome.status == 0, outcome.err
    assert "the classifier is fitted already" in outcome.out
    after = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ema=0.9"], "fit_head=true trains no steps, so that ema=0.9 has no effect; leave one of them out."),
        (["freeze=[stem]"], "fit_head=true trains no steps, so that freeze=['stem'] has no effect"),
    ],
)
def test_what_steps_need_is_refused_beside_a_fit(run, own_videos, tmp_path, words, message):
    outcome = run(
        "train", *SMALL, *NARROW, *words, "fit_head=true", f"data.root={own_videos}", f"hydra.run.dir={tmp_path}"
    )
    assert outcome.status == 2
    assert message in outcome.err


def test_several_processes_and_several_labels_are_refused():
    config = RunConfig.read(compose_options("train", []))
    check_fit_head(config, num_ranks=1)
    with pytest.raises(ValueError, match=r"runs in one process, not in 2; set trainer\.devices=1"):
        check_fit_head(config, num_ranks=2)
    with pytest.raises(ValueError, match=r"the videos have several labels; leave it out"):
        check_fit_head(config, num_ranks=1, one_label=False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A ResNet-50 for images without layer4, as torchvision names it."""
    torch.manual_seed(0)
    state = {
        name: value for name, value in resnet50(weights=None).state_dict().items()
        if not name.startswith(("layer4.", "fc."))
    }  # fmt: skip
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(state, path)
    return path


@pytest.mark.slow
def test_options_follow_from_the_data_where_none_is_given(run, own_videos, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDGN_WEIGHTS", str(weights))
    folder = tmp_path / "run"
    words = (*SMALL, f"data.root={own_videos}", "crop=32", "num_clips=1", "clip_len=4", f"hydra.run.dir={folder}")
    outcome = run("train", *words)
    assert outcome.status == 0, outcome.err
    assert "chosen from the data and this machine (model=frames_r50, model.last=res4" in outcome.out
    assert "start: image weights" in outcome.out
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["crop"], config["num_clips"], config["clip_len"], config["span"]) == (32, 1, 4, 8)  # three as given
    assert config["chosen"]["fit_head"] is True
    assert "crop" not in config["chosen"]
    assert config["norm"]["name"] == "frozen_bn"
    assert config["model"]["last"] == "res4"
    monkeypatch.setenv("VIDGN_WEIGHTS", "none")  # a run that goes on takes what it chose
    outcome = run("train", *words, "resume.force=true")
    assert outcome.status == 0, outcome.err
    assert "as the checkpoint's run chose" in outcome.out
    assert "the classifier is fitted already" in outcome.out


def test_whoever_names_the_net_is_left_alone(run, own_videos, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDGN_WEIGHTS", str(weights))
    words = (*SMALL, f"data.root={own_videos}", "model.width=8", "crop=32", "clip_len=8", "span=8", "batch=2")
    outcome = run("train", *words, "trainer.max_steps=1", "test=false", f"hydra.run.dir={tmp_path}")
    assert outcome.status == 0, outcome.err
    assert "chosen from the data and" not in outcome.out
    assert "note: model is given, so that start, net, recipe and clips are not chosen" in outcome.out
    assert "leave model out for the choice" in outcome.out
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["chosen"] == {}


@pytest.mark.parametrize(
    ("given", "kept", "chosen"),
    [
        (["optim.lr=0.01"], {"optim.lr": 0.01}, {"init": "motions", "optim": "finetune", "crop": 112, "epochs": 15}),
        (
            ["epochs=3", "clip_len=8"],
            {"epochs": 3, "clip_len": 8},
            {"init": "motions", "optim": "finetune", "crop": 112},
        ),
        (["optim=scratch"], {"recipe": "scratch"}, {"init": "motions", "epochs": 15}),
        (["crop=64"], {"crop": 64}, {"init": "motions", "optim": "finetune", "epochs": 15}),
    ],
)
def test_what_is_given_stays_and_the_rest_is_chosen(own_videos, monkeypatch, capsys, given, kept, chosen):
    monkeypatch.setenv("VIDGN_WEIGHTS", "none")
    monkeypatch.setattr(rule, "_EPOCHS", (15,))
    words = ["data=folder", f"data.root={own_videos}", "trainer.accelerator=cpu", *given]
    config = choose_for_own_data(RunConfig.read(compose_options("train", words)), first=None)
    assert {name: attrgetter(name)(config) for name in kept} == kept
    assert {name: config.chosen.get(name) for name in chosen} == chosen
    assert not set(kept) & set(config.chosen)
    assert config.optim.momentum == 0.9
    assert config.trainer.max_epochs == config.epochs
    assert f"given, and kept: {', '.join(given)}" in capsys.readouterr().out


def test_steps_that_are_asked_for_need_no_image_weights(own_videos, weights, monkeypatch, capsys):
    monkeypatch.setenv("VIDGN_WEIGHTS", str(weights))
    words = ["data=folder", f"data.root={own_videos}", "trainer.accelerator=cpu", "mixup=0.8"]
    config = choose_for_own_data(RunConfig.read(compose_options("train", words)), first=None)
    assert (config.fit_head, config.chosen["init"]) == (False, "motions")
    assert "since steps of a net with image weights are slow without a GPU" in capsys.readouterr().out


@pytest.mark.slow
def test_without_image_weights_the_net_of_the_package_is_fine_tuned(run, own_videos, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDGN_WEIGHTS", "none")
    monkeypatch.setattr(rule, "_EPOCHS", (2,))
    words = (*SMALL, f"data.root={own_videos}", "crop=32", "clip_len=8", "span=8", "batch=8", "test=false",
             "trainer.limit_val_batches=1", f"hydra.run.dir={tmp_path}")  # fmt: skip
    outcome = run("train", *words)
    assert outcome.status == 0, outcome.err
    assert "start: init=motions, a narrow net that comes with the package" in outcome.out
    assert "new classifier" in outcome.out
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert (config["chosen"]["init"], config["model"]["width"], config["optim"]["lr"]) == ("motions", 16, 0.16)
    outcome = run("train", *words)
    assert outcome.status == 0, outcome.err
    assert "as the checkpoint's run chose" in outcome.out


@pytest.mark.slow
def test_a_missing_file_of_weights_is_named(run, own_videos, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDGN_WEIGHTS", "/nowhere.pth")
    outcome = run("train", *SMALL, f"data.root={own_videos}", f"hydra.run.dir={tmp_path}")
    assert outcome.status == 2
    assert "VIDGN_WEIGHTS=/nowhere.pth is not a file" in outcome.err
