import pytest
import torch

from vidgn.checkpoints.description import KEY, Description
from vidgn.data.spec import DataSpec
from vidgn.models.registry import build_net
from vidgn.objective.distillation import DistillSpec
from vidgn.runs.command_line import full_names
from vidgn.runs.config import RunConfig
from vidgn.runs.resume import TRAINING
from vidgn.runs.session import compose_options
from vidgn.training.parts import find_teacher

MODEL = {"name": "i3d_r50", "width": 8, "dropout": 0.0, "pool1": "nonlocal"}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(0)
    net = build_net(model=MODEL, norm={"name": "gn", "num_groups": 4}, crop=32, num_classes=3)
    about = Description(
        classes=("a", "b_1", "c"), model=MODEL, norm={"name": "gn", "num_groups": 4}, clip_len=8, span=8, crop=32,
        data=dict(vars(DataSpec("folder"))),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("teacher") / "teacher.ckpt"
    state = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({KEY: about.to_plain(), "state_dict": state}, path)
    return path


def spec_of(*words):
    return RunConfig.read(compose_options("train", full_names(words))).distill


def test_the_options_of_the_command_line_are_a_distillation():
    assert spec_of() == DistillSpec()
    spec = spec_of("distill=bn.ckpt", "distill.steps=120", "distill.temperature=2", "distill.weight=1")
    assert spec == DistillSpec("bn.ckpt", steps=120, temperature=2, weight=1)
    assert "distill" in TRAINING  # a run with another teacher is another job


@pytest.mark.slow
def test_a_checkpoint_becomes_a_teacher_with_the_classes_in_the_order_of_the_run(teacher):
    found = find_teacher(DistillSpec(str(teacher), weight=1.0), classes=["c", "b 1"])  # `_` stands for a space
    clips = torch.randint(0, 256, (2, 3, 8, 32, 32), dtype=torch.uint8)
    net = build_net(model=MODEL, norm={"name": "gn", "num_groups": 4}, crop=32, num_classes=3).eval()
    state = torch.load(teacher, weights_only=True)["state_dict"]
    net.load_state_dict({name.removeprefix("net."): tensor for name, tensor in state.items()})
    with torch.no_grad():
        own = net((clips.float() / 255 - 0.45) / 0.225)[:, [2, 1]]
    loss = found.mix(torch.tensor(9.0), own, clips)
    assert loss.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.slow
def test_without_a_checkpoint_there_is_no_teacher_and_other_classes_are_one_sentence(teacher):
    assert find_teacher(DistillSpec(), classes=["a"]) is None
    with pytest.raises(ValueError, match=r"distill: the teacher does not know 1 of 2 classes \(z\)"):
        find_teacher(DistillSpec(str(teacher)), classes=["a", "z"])
    with pytest.raises(FileNotFoundError, match=r"nowhere\.ckpt"):
        find_teacher(DistillSpec("nowhere.ckpt"), classes=["a"])
