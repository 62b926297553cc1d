import io
import json
import shlex
import subprocess
import sys

import pytest
import torch

from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.checkpoints.description import KEY, Description
from vidgn.conversion import command as convert_command
from vidgn.conversion.command import distill_command, run_convert
from vidgn.conversion.weights import ConvertedWeights, convert_weights
from vidgn.data.spec import DataSpec
from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video
from vidgn.models.registry import build_net
from vidgn.norms.calibrate import LayerFit
from vidgn.runs.command_line import check_words
from vidgn.runs.config import RunConfig
from vidgn.runs.session import compose_options

OPTIONS = {"out": "gn.ckpt", "norm": "gn", "clips": 8, "scales": "keep", "kernels": "keep",
           "num_groups": None, "distill": None, "device": "cpu", "seed": 0, "overwrite": False}  # fmt: skip


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Record what the conversion is asked for."""
    recorded = []

    def convert(source, **options):
        recorded.append((source, options))
        return ConvertedWeights(tmp_path / "gn.ckpt", (LayerFit("blocks.0.norm", 4, 0.5, False),), 10.0, 60.0, 8, 20)

    monkeypatch.setattr(convert_command, "convert_weights", convert)
    return recorded


@pytest.mark.slow
def test_without_options_the_checkpoint_decides(calls):
    output = io.StringIO()
    assert run_convert("runs/bn", [], output=output, **OPTIONS) == 0
    ((source, options),) = calls
    assert (source, options["data"], options["clips"]) == ("runs/bn", {}, 8)
    assert "model" not in options
    assert "top-1 is the batch-norm net's on 60.0 % of 8 clips of val (10.0 % with copied weights)" in output.getvalue()


@pytest.mark.slow
def test_fields_of_the_data_set_replace_those_of_the_checkpoint(calls):
    run_convert("runs/bn", ["data.root=/videos"], output=io.StringIO(), **OPTIONS)
    run_convert("runs/bn", ["data=folder", "data.root=/videos"], output=io.StringIO(), **OPTIONS)
    assert calls[0][1]["data"] == {"root": "/videos"}
    assert DataSpec(**calls[1][1]["data"]) == DataSpec("folder", root="/videos")


@pytest.mark.slow
def test_image_weights_name_the_video_net_and_its_clip(calls):
    words = ["data=folder", "data.root=/videos", "model=i3d_r50", "model.width=16", "crop=112", "init_fresh=[res5]"]
    run_convert("resnet50.pth", words, output=io.StringIO(), **OPTIONS)
    options = calls[0][1]
    assert (options["model"]["name"], options["model"]["width"]) == ("i3d_r50", 16)
    assert (options["sizes"], options["init_fresh"]) == ((32, 64, 112), ("res5",))


@pytest.mark.slow
def test_the_answer_is_json_where_that_is_asked_for(calls):
    output = io.StringIO()
    run_convert("runs/bn", [], output=output, as_json=True, **OPTIONS)
    answer = json.loads(output.getvalue())
    assert answer["fits"] == [{"name": "blocks.0.norm", "num_groups": 4, "r2": 0.5, "scaled": False, "kernel": False}]
    assert (answer["copied"], answer["converted"], answer["clips"]) == (10.0, 60.0, 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["epochs=3"], "option epochs has no part in a conversion; must be data="),
        (["crop=112"], r"crop is an option for image weights, .* set model=i3d_r50"),
        (["network=slow_r50", "epochs=3"], "option epochs has no part"),
        (["data.rooot=/x"], r"data\.rooot"),
    ],
)
def test_options_that_do_not_belong_are_refused(calls, overrides, message):
    with pytest.raises(ValueError, match=message):
        run_convert("runs/bn", overrides, output=io.StringIO(), **OPTIONS)
    assert calls == []


@pytest.mark.slow
def test_a_distillation_of_no_steps_is_refused(calls):
    with pytest.raises(ValueError, match=r"--distill \(0\) must be 1 step or more"):
        run_convert("runs/bn", [], output=io.StringIO(), **{**OPTIONS, "distill": 0})


@pytest.mark.slow
def test_the_distillation_is_a_run_of_train_py(tmp_path):
    root = str(tmp_path / "it's, a {folder}")
    about = Description(
        classes=("a", "b"), model={"name": "i3d_r50", "width": 8, "dropout": 0.0, "pool1": "nonlocal"},
        norm={"name": "gn"}, clip_len=8, span=16, crop=112,
        data=dict(vars(DataSpec("folder", root=root))),
    )  # fmt: skip
    path = tmp_path / "gn.ckpt"
    torch.save({KEY: about.to_plain(), "state_dict": {"net.x": torch.zeros(1)}}, path)
    words = distill_command(path, teacher="runs/bn/checkpoints/best.ckpt", steps=120)
    assert "trainer.max_steps=120" in words
    assert "clip_len=8" in words
    typed = [word.replace("distill=", "distill.ckpt=") for word in words]
    check_words("train", [word for word in typed if not word.startswith("hydra.")])
    config = RunConfig.read(compose_options("train", typed))
    assert (config.model.width, config.model.dropout, config.epochs) == (8, 0.0, 120)
    assert (config.data.root, config.init, config.distill.ckpt) == (root, str(path), "runs/bn/checkpoints/best.ckpt")
    assert shlex.split(words[-1])[0].endswith("gn.distill")


@pytest.mark.slow
def test_image_weights_have_no_classifier_to_imitate(calls):
    with pytest.raises(ValueError, match=r"--distill imitates what a classifier gives, and that of image weights"):
        run_convert("resnet50.pth", ["model=i3d_r50"], output=io.StringIO(), **{**OPTIONS, "distill": 9})
    assert calls == []


@pytest.mark.slow
def test_a_published_teacher_is_written_down_with_the_classes_that_were_given(calls, monkeypatch, tmp_path):
    source = tmp_path / "x3d.pyth"
    torch.save({"model_state": {"blocks.0.weight": torch.zeros(1)}}, source)
    started = []
    monkeypatch.setattr(convert_command, "run_distillation", lambda path, **options: started.append(options) or 0)
    run_convert(str(source), ["classes=names.txt"], output=io.StringIO(), **{**OPTIONS, "distill": 9})
    teacher = tmp_path / "gn.teacher.ckpt"
    assert [options["classes"] for _, options in calls] == ["names.txt", "names.txt"]
    assert (calls[1][1]["out"], calls[1][1]["norm"]) == (teacher, "frozen_bn")
    assert started[0]["teacher"] == str(teacher)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A batch-norm checkpoint and its eight videos: fewer for training than a distillation takes per step."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("teacher")
    for split, count in (("train", 3), ("val", 1)):
        for number in range(count):
            for label in ("move_down", "move_up"):
                path = root / "videos" / split / label / f"{number}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                frames = draw_video(label, spec=MotionsSpec(num_frames=12, side=40), key=(len(split), number))
                write_video(path, frames)
    model = {"name": "i3d_r50", "width": 8, "dropout": 0.0, "pool1": "nonlocal"}
    net = build_net(model=model, norm={"name": "bn"}, crop=32, num_classes=2)
    about = Description(
        classes=("move_down", "move_up"), model=model, norm={"name": "bn"}, clip_len=8, span=8, crop=32,
        data=dict(vars(DataSpec("folder", root=str(root / "videos"), num_workers=0))),
    )  # fmt: skip
    state = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({KEY: about.to_plain(), "state_dict": state, "global_step": 9, "epoch": 1}, root / "bn.ckpt")
    return root / "bn.ckpt"


@pytest.mark.slow
def test_the_command_converts_and_distills(teacher, tmp_path):
    out = tmp_path / "gn.ckpt"
    command = [sys.executable, "-m", "vidgn", "convert-weights", str(teacher), "--norm", "gn", "--out", str(out),
               "--clips", "2", "--device", "cpu", "--distill", "2", "--json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)  # nothing else is there
    assert (answer["path"], answer["num_train"]) == (str(out), 6)
    assert f"distilled 2 steps: {out}" in done.stderr
    assert " batch=6 " in done.stderr
    converted = read_checkpoint(out)
    assert (converted.step, converted.description.norm["name"]) == (2, "gn")
    assert converted.description.model["dropout"] == 0
    start, end = read_checkpoint(teacher).net, converted.net
    assert not torch.equal(start["blocks.0.conv.weight"], end["blocks.0.conv.weight"])  # it was trained
    assert (tmp_path / "gn.distill" / "metrics.csv").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["gn", "ln", "frozen_bn"])
def test_the_result_is_evaluated_and_trained_on(norm, teacher, run, tmp_path):
    out = tmp_path / f"{norm}.ckpt"
    convert_weights(teacher, out=out, norm=norm, clips=2, batch=2, device="cpu")
    options = ("data=folder", f"data.root={teacher.parent / 'videos'}", "data.num_workers=0", "num_clips=1",
               "num_crops=1", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false")  # fmt: skip
    scored = run("eval", f"ckpt={out}", *options, f"hydra.run.dir={tmp_path / 'eval'}")
    assert scored.status == 0, scored.err
    assert "videos: 2 scored / 2 expected / 0 failed" in scored.out
    tuned = run(
        "train", f"init={out}", *options, "epochs=1", "batch=2", "test=false", f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert tuned.status == 0, tuned.err
    assert "classifier kept" in tuned.out
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt").description.norm["name"] == norm
