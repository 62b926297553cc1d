"""task=detect from the command line: train, test, resume, evaluate, on the machinery of all runs."""

import csv
import json
from itertools import pairwise

import pytest
import torch

import vidgn
from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.detection.dispatch import OPTIONS, choose_options
from vidgn.detection.network import DetectorSpec, build_detector
from vidgn.detection.optim import DetectorOptim, build_detector_optimizer, detector_groups, detector_optim
from vidgn.norms import is_norm
from vidgn.runs.command_line import CONFIGS, check_words


def test_a_run_leaves_its_numbers_its_detections_and_a_checkpoint_that_describes_itself(detected):
    metrics = json.loads((detected / "metrics.json").read_text())
    assert metrics["images_scored"] == 3
    assert metrics["protocol"] == "one scale, shorter side 64 up to 64; shapes 3; COCO's AP over IoU 0.50:0.95"
    assert all(0 <= metrics[f"{kind}_{name}"] <= 100 for kind in ("box", "mask") for name in ("ap", "ap50", "ap75"))
    rows = json.loads((detected / "detections.json").read_text())
    assert {row["image"] for row in rows} <= {"test/00000", "test/00001", "test/00002"}
    assert all(row["class"] in ("disc", "square", "triangle") for row in rows)
    assert all(row["segmentation"]["size"] == [64, 64] for row in rows)
    assert not (detected / "checkpoints" / "best.ckpt").exists()  # a validation chooses nothing
    about = read_checkpoint(detected / "checkpoints" / "last.ckpt").description
    assert (about.net_name, about.classes) == ("mask_rcnn_r18_fpn", ("disc", "square", "triangle"))
    assert about.model["box_norm"] == "gn"
    with (detected / "metrics.csv").open() as file:
        logged = list(csv.DictReader(file))
    assert any(row.get("val/box_ap") for row in logged)


@pytest.mark.slow
def test_its_checkpoint_scores_the_same_by_eval(detected, detect, tmp_path):
    last = detected  # of a run folder the last weights, which its own test scored
    words = ("logger=none", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false")
    status, _, err = detect("eval", f"ckpt={last}", *words, f"hydra.run.dir={tmp_path}")
    assert status == 0, err
    first, again = (json.loads((folder / "metrics.json").read_text()) for folder in (detected, tmp_path))
    assert {key: first[key] for key in first if "_ap" in key} == {key: again[key] for key in again if "_ap" in key}
    assert (tmp_path / "detections.json").read_text() == (detected / "detections.json").read_text()
    status, _, err = detect("eval", f"ckpt={last}", "num_clips=3", *words, f"hydra.run.dir={tmp_path}")
    assert status == 2
    assert "num_clips=3 belongs to videos" in err
    status, _, err = detect("eval", f"ckpt={last}", "data=motions", *words, f"hydra.run.dir={tmp_path}")
    assert status == 2
    assert "data=motions is not the checkpoint's data=shapes" in err


@pytest.mark.slow
@pytest.mark.parametrize("steps", [4, 3])  # within the second epoch of three steps, at the end of the first
def test_an_interrupted_run_goes_on_to_the_same_weights(detected, detect, small, tmp_path, steps):
    words = (*small, "data.val=null", "test=false", f"hydra.run.dir={tmp_path}", f"trainer.max_steps={steps}")
    assert detect("train", *words)[0] == 0
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt").step == steps
    status, out, err = detect("train", *words[:-1])
    assert status == 0, err
    assert "resuming from" in out
    whole, parts = (read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (detected, tmp_path))
    assert (whole.step, parts.step) == (6, 6)
    assert all(torch.equal(value, parts.net[name]) for name, value in whole.net.items())
    status, _, err = detect("train", *words[:-1], "optim.lr=0.5")
    assert status == 2
    assert "belongs to another job: optim.lr" in err


def test_what_detection_alone_has_chooses_its_options():
    assert choose_options(["preset=detect_t6_r50_gn"]) == choose_options(["data=coco"]) == OPTIONS
    assert choose_options(["task=detect", "batch=1"]) == choose_options(["model=mask_rcnn_r50_c4"]) == OPTIONS
    assert choose_options(["task=video"]) == choose_options(["optim=adamw", "data=/x/coco"]) == CONFIGS
    check_words("train", ["task=detect", "logger=none", "trainer=dry"], OPTIONS)
    with pytest.raises(ValueError, match=r"unknown option 'model\.box_nrom'; did you mean 'box_norm'\?"):
        check_words("train", ["task=detect", "model.box_nrom=gn"], OPTIONS)


# Detectron's schedules: 1x with 16 images, and the same images in steps of 2.
@pytest.mark.parametrize(("images", "total", "drops", "rate"), [(16, 90_000, (60_000, 80_000), 0.02),
                                                                (2, 720_000, (480_000, 640_000), 0.0025)])  # fmt: skip
def test_the_schedule_is_detectrons_at_any_batch(images, total, drops, rate):
    spec = DetectorOptim()
    assert (spec.total_steps(images), spec.learning_rate(images)) == (total, rate)
    assert spec.factor(0, images) == pytest.approx(1 / 3)
    assert [spec.factor(step, images) for step in (500, drops[0] - 1)] == [1.0, 1.0]
    assert [spec.factor(step, images) for step in drops] == pytest.approx([0.1, 0.01])


def test_decay_and_rate_go_by_the_kind_of_parameter():
    spec = DetectorSpec(name="mask_rcnn_r18_fpn", width=8, backbone_norm="gn", box_norm="gn")
    net = build_detector(spec, num_classes=3)
    kernels, norms, biases = detector_groups(net, DetectorOptim(), rate=0.1)
    assert [group["weight_decay"] for group in (kernels, norms, biases)] == [1e-4, 0.0, 0.0]
    assert [group["lr"] for group in (kernels, norms, biases)] == [0.1, 0.1, 0.2]
    of_norms = {id(value) for module in net.modules() if is_norm(module) for value in module.parameters()}
    learned = [value for value in net.parameters() if value.requires_grad]
    assert {id(value) for value in norms["params"]} == {id(value) for value in learned} & of_norms
    assert all(value.dim() >= 2 for value in kernels["params"])
    assert sum(len(group["params"]) for group in (kernels, norms, biases)) == len(learned) < len(list(net.parameters()))


def test_the_rate_of_every_group_follows_the_schedule():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.GroupNorm(2, 4))
    optimizer, schedule = build_detector_optimizer(net, DetectorOptim(warmup_steps=2, steps=8, drops=(4,)), images=16)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[-1]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.04 / 3, 0.04 * 2 / 3, 0.04, 0.04, 0.004, 0.004])
    assert all(a["lr"] * 2 == pytest.approx(b["lr"]) for a, b in pairwise(optimizer.param_groups[1:]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, r"optim\.lr \(0\.0\) must be a positive number"),
        ({"steps": 0, "drops": []}, r"optim\.steps \(0\) must be at least 1"),
        ({"drops": [90_001]}, r"optim\.drops \(\[90001\]\) must be growing steps up to optim\.steps \(90000\)"),
        ({"warmup_from": 0.0}, r"optim\.warmup_from \(0\.0\) must be in \(0, 1\]"),
        ({"bias_rate": -1.0}, r"optim\.bias_rate \(-1\.0\) must be 0 or more"),
        ({"nesterov": True}, r"unknown option optim\.nesterov with task=detect"),
    ],
)
def test_a_recipe_out_of_range_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        detector_optim({"drops": [60_000], **options})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("data=coco", "data.root=/nowhere"), "instances_train2017.json is missing"),
        (("data=coco",), "data.root must be given"),
        (("task=detect", "data=motions"), "data=motions has no boxes, which task=detect needs"),
        (("task=detect", "batch=0"), "batch (0) must be at least 1"),
        (("task=detect", "data.shorter_side=9000"), "data.shorter_side (9000) must be at least 1"),
        (("task=detect", "data.train=1", "data.num_workers=0"), "batch (2) is more than the 1 training images"),
        (("task=detect", "data.train=small"), "data.train"),
        (("task=detect", "data.num_workers=-1"), "data.num_workers (-1) must be 0 or more"),
    ],
)
def test_a_mistake_is_one_sentence(detect, tmp_path, words, message):
    quiet = ("trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "logger=none")
    status, _, err = detect("train", *words, *quiet, f"hydra.run.dir={tmp_path}")
    assert status == 2
    assert message in err


@pytest.mark.slow
def test_a_dry_run_measures_and_trains_nothing(detect, small, tmp_path):
    status, out, err = detect("train", *small, "trainer=dry", "trainer.dry.gpus=2", f"hydra.run.dir={tmp_path}")
    assert status == 0, err
    found = json.loads((tmp_path / "dry.json").read_text())
    assert (found["sides"], found["images_per_step"], found["steps"]) == ([64, 64], 4, 3)  # 6 steps of 2 images
    assert found["step_seconds"] > 0
    assert "a step of 2 images of 64x64" in out
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_training_and_scoring_from_python_are_the_commands(detected, small, tmp_path):
    words = [word for word in small if not word.startswith(("data.val", "task", "optim", "trainer"))]
    result = vidgn.train(
        *words, f"hydra.run.dir={tmp_path / 'run'}", task="detect", val=2,
        optim={"steps": 6, "drops": [4], "warmup_steps": 2},
        trainer={"accelerator": "cpu", "enable_progress_bar": False},
    )  # fmt: skip
    assert (tmp_path / "run" / "detections.json").read_text() == (detected / "detections.json").read_text()
    assert (result.images_scored, result.folder) == (3, tmp_path / "run")
    again = vidgn.evaluate(
        result.folder, "logger=none", f"hydra.run.dir={tmp_path / 'again'}", trainer={"accelerator": "cpu"}
    )
    assert dict(again.precision) == pytest.approx(dict(result.precision))
