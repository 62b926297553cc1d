"""The programs of examples/ run and do what they say."""

import importlib.util
from pathlib import Path

import pytest
import torch

import vidgn
from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.checkpoints.description import KEY, Description
from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video
from vidgn.models.registry import build_net

EXAMPLES = Path(__file__).parents[1] / "examples"


def load_example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes, four training and two validation videos each."""
    root = tmp_path_factory.mktemp("videos")
    spec = MotionsSpec(num_frames=16, side=40)
    for split, count in (("train", 4), ("val", 2)):
        for motion in ("move_up", "move_down"):
            (root / split / motion).mkdir(parents=True)
            for number in range(count):
                frames = draw_video(motion, spec=spec, key=(len(split), number))
                write_video(root / split / motion / f"{number}.mp4", frames)
    return root


@pytest.mark.slow
def test_every_example_is_tested():
    tested = {"plain_loop", "lightning_loop", "convert_other_model", "predict_video", "own_videos_from_batch_norm"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tested


@pytest.mark.slow
def test_a_plain_loop_lowers_the_loss(folder):
    torch.manual_seed(0)
    example = load_example("plain_loop")
    first, last = example.main(str(folder), epochs=1), example.main(str(folder), epochs=1)
    assert 0 < first < 5
    assert 0 < last < 5


@pytest.mark.slow
def test_a_trainer_of_your_own_validates(folder):
    metrics = load_example("lightning_loop").main(str(folder))
    assert 0 <= metrics["val/error"] <= 100


@pytest.mark.slow
def test_a_model_of_torchvision_gets_group_norm():
    model = load_example("convert_other_model").main()
    assert not [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm3d)]


@pytest.mark.slow
def test_a_video_is_scored(trained, motions, capsys):
    video = sorted((motions / "test").rglob("*.mp4"))[0]
    best = load_example("predict_video").main(str(trained), str(video))
    assert best == [tuple(item) for item in vidgn.load(trained, device="cpu").predict(video, top=3)]
    assert "frames 0.." in capsys.readouterr().out


@pytest.mark.slow
def test_batch_norm_weights_are_tuned_with_three_norms(folder, tmp_path):
    torch.manual_seed(0)
    model = {"name": "i3d_r50", "width": 8, "dropout": 0.0, "pool1": "nonlocal"}
    net = build_net(model=model, norm={"name": "bn"}, crop=32, num_classes=2)
    about = Description(classes=("move_down", "move_up"), model=model, norm={"name": "bn"}, clip_len=8, span=8, crop=32)
    state = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({KEY: about.to_plain(), "state_dict": state, "global_step": 0, "epoch": 0}, tmp_path / "bn.ckpt")
    top1 = load_example("own_videos_from_batch_norm").main(
        str(tmp_path / "bn.ckpt"), str(folder), out=str(tmp_path / "own"), epochs=1, clip_len=8, span=8, crop=32,
        num_clips=1, num_crops=1, num_workers=0, trainer={"accelerator": "cpu", "enable_progress_bar": False},
    )  # fmt: skip
    assert set(top1) == {"bn", "frozen_bn", "gn"}
    for norm in top1:
        checkpoint = read_checkpoint(tmp_path / "own" / norm / "checkpoints" / "last.ckpt")
        assert (checkpoint.description.norm["name"], checkpoint.step) == (norm, 4)
