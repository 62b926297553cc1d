import io
import json
import shlex

import pytest
import torch

from vidgn.conversion import command as convert_command
from vidgn.conversion.command import distill_command, run_convert
from vidgn.conversion.weights import ConvertedWeights
from vidgn.data.spec import DataSpec
from vidgn.description import KEY, Description
from vidgn.norms.calibrate import LayerFit
from vidgn.runs.command_line import check_words

OPTIONS = {"out": "gn.ckpt", "norm": "gn", "clips": 8, "scales": "keep", "num_groups": None, "distill": None,
           "device": "cpu", "seed": 0, "overwrite": False}  # fmt: skip


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Record what the conversion is asked for."""
    recorded = []

    def convert(source, **options):
        recorded.append((source, options))
        return ConvertedWeights(tmp_path / "gn.ckpt", (LayerFit("blocks.0.norm", 4, 0.5, False),), 10.0, 60.0, 8)

    monkeypatch.setattr(convert_command, "convert_weights", convert)
    return recorded


def test_without_options_the_checkpoint_decides(calls):
    output = io.StringIO()
    assert run_convert("runs/bn", [], output=output, **OPTIONS) == 0
    ((source, options),) = calls
    assert (source, options["data"], options["clips"]) == ("runs/bn", {}, 8)
    assert "model" not in options
    assert "top-1 is the batch-norm net's on 60.0 % of 8 clips of val (10.0 % with copied weights)" in output.getvalue()


def test_fields_of_the_data_set_replace_those_of_the_checkpoint(calls):
    run_convert("runs/bn", ["data.root=/videos"], output=io.StringIO(), **OPTIONS)
    run_convert("runs/bn", ["data=folder", "data.root=/videos"], output=io.StringIO(), **OPTIONS)
    assert calls[0][1]["data"] == {"root": "/videos"}
    assert DataSpec(**calls[1][1]["data"]) == DataSpec("folder", root="/videos")


def test_image_weights_name_the_video_net_and_its_clip(calls):
    words = ["data=folder", "data.root=/videos", "model=i3d_r50", "model.width=16", "crop=112", "init_fresh=[res5]"]
    run_convert("resnet50.pth", words, output=io.StringIO(), **OPTIONS)
    options = calls[0][1]
    assert (options["model"]["name"], options["model"]["width"]) == ("i3d_r50", 16)
    assert (options["sizes"], options["init_fresh"]) == ((32, 64, 112), ("res5",))


def test_the_answer_is_json_where_that_is_asked_for(calls):
    output = io.StringIO()
    run_convert("runs/bn", [], output=output, as_json=True, **OPTIONS)
    answer = json.loads(output.getvalue())
    assert answer["fits"] == [{"name": "blocks.0.norm", "num_groups": 4, "r2": 0.5, "scaled": False}]
    assert (answer["copied"], answer["converted"], answer["clips"]) == (10.0, 60.0, 8)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["epochs=3"], "option epochs has no part in a conversion; must be data="),
        (["crop=112"], r"crop is an option for image weights, .* set model=i3d_r50"),
        (["data.rooot=/x"], r"data\.rooot"),
    ],
)
def test_options_that_do_not_belong_are_refused(calls, overrides, message):
    with pytest.raises(ValueError, match=message):
        run_convert("runs/bn", overrides, output=io.StringIO(), **OPTIONS)
    assert calls == []


def test_a_distillation_of_no_steps_is_refused(calls):
    with pytest.raises(ValueError, match=r"--distill \(0\) must be 1 step or more"):
        run_convert("runs/bn", [], output=io.StringIO(), **{**OPTIONS, "distill": 0})


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
    with convert_command.initialize_config_dir(str(convert_command.CONFIGS), version_base="1.3"):
        config = convert_command.compose("train", overrides=typed)
    assert (config.data.root, config.init, config.distill.ckpt) == (root, str(path), "runs/bn/checkpoints/best.ckpt")
    assert shlex.split(words[-1])[0].endswith("gn.distill")
