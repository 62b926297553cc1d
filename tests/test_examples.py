"""The programs of examples/ run and do what they say."""

import importlib.util
from pathlib import Path

import pytest
import torch

import vidgn
from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video

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


def test_every_example_is_tested():
    tested = {"plain_loop", "lightning_loop", "convert_other_model", "predict_video"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tested


def test_a_plain_loop_lowers_the_loss(folder):
    torch.manual_seed(0)
    example = load_example("plain_loop")
    first, last = example.main(str(folder), epochs=1), example.main(str(folder), epochs=1)
    assert 0 < first < 5
    assert 0 < last < 5


def test_a_trainer_of_your_own_validates(folder):
    metrics = load_example("lightning_loop").main(str(folder))
    assert 0 <= metrics["val/error"] <= 100


def test_a_model_of_torchvision_gets_group_norm():
    model = load_example("convert_other_model").main()
    assert not [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm3d)]


def test_a_video_is_scored(trained, motions, capsys):
    video = sorted((motions / "test").rglob("*.mp4"))[0]
    best = load_example("predict_video").main(str(trained), str(video))
    assert best == [tuple(item) for item in vidgn.load(trained, device="cpu").predict(video, top=3)]
    assert "frames 0.." in capsys.readouterr().out
