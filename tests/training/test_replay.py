"""`vidgn replay` runs the step of a dump again, and says where it is not finite."""

import json

import pytest
import torch

from vidgn.checkpoints.checkpoint import read_state
from vidgn.cli.main import main
from vidgn.objective.losses import ClipLoss, HeadsLoss, LossSpec


@pytest.fixture
def dump(trained, tmp_path):
    """The dump of a step of zeros, and whether its weights are spoilt."""

    def write(*, spoilt, **more):
        state = read_state(trained / "checkpoints" / "best.ckpt")
        if spoilt:
            state["state_dict"][_first_weight(state)].fill_(float("nan"))
        clips = torch.zeros((2, 1, 3, 8, 32, 32), dtype=torch.uint8)
        state["replay"] = {
            "clips": clips, "labels": torch.tensor([0, 1]), "loss": 2.5, "seed": 0, "batch": 0, "rank": 0,
            **more,
        }  # fmt: skip
        torch.save(state, tmp_path / "nonfinite-step1.pt")
        return str(tmp_path / "nonfinite-step1.pt")

    return write


def _first_weight(state):
    return next(name for name, value in state["state_dict"].items() if value.ndim == 5)


def replay(capsys, *words):
    with pytest.raises(SystemExit, match=r"^[01]$") as stop:
        main(["replay", *words])
    return stop.value.code, capsys.readouterr().out


@pytest.mark.slow
def test_a_step_whose_weights_are_spoilt_is_not_finite(dump, capsys):
    status, out = replay(capsys, dump(spoilt=True))
    assert status == 1
    assert "loss nan (recorded 2.5)" in out
    assert "first layer whose output is not finite: none" not in out
    status, out = replay(capsys, dump(spoilt=True), "--json")
    assert (status, json.loads(out)["loss"], json.loads(out)["recorded"]) == (1, "nan", 2.5)


@pytest.mark.slow
def test_a_step_that_is_finite_says_so(dump, capsys):
    status, out = replay(capsys, dump(spoilt=False))
    assert status == 0
    assert "first layer whose output is not finite: none" in out
    assert "parameters whose gradient is not finite: none" in out


@pytest.mark.slow
def test_a_step_with_drop_path_leaves_out_the_branches_that_it_left_out(dump, capsys):
    losses = {}
    for draw in (0.0, 0.99):  # all branches of both clips are left out, or none
        for scale in (1.0, 9.0):
            dropped = {"rate": 0.5, "draws": torch.full((15, 2), draw)}
            path = dump(spoilt=False, drop_path=dropped)
            state = read_state(path)
            state["state_dict"]["net.blocks.5.res_blocks.2.branch2.norm_c.weight"].fill_(scale)
            torch.save(state, path)
            status, out = replay(capsys, path, "--json")
            assert status == 0
            losses[draw, scale] = json.loads(out)["loss"]
    assert losses[0.0, 1.0] == losses[0.0, 9.0]
    assert losses[0.99, 1.0] != losses[0.99, 9.0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (ClipLoss(LossSpec("focal", class_weights="balanced"), weights=range(1, 13)), None),
        (ClipLoss(LossSpec("bce")), torch.eye(12)[:2, None]),
        (HeadsLoss(LossSpec(label_smoothing=0.1), heads=[slice(0, 5), slice(5, 12)]), torch.eye(12)[:2, None]),
    ],
    ids=["focal", "bce of mixed clips", "heads"],
)
def test_the_loss_is_that_of_the_run(dump, capsys, loss, targets):
    """The net starts from scores that are nearly equal, so the loss of zero logits is near."""
    more = {} if targets is None else {"targets": targets}
    status, out = replay(capsys, dump(spoilt=False, minimized=loss.to_plain(), teacher=True, **more), "--json")
    labels = torch.tensor([0, 1]) if targets is None else targets[:, 0]
    found = json.loads(out)
    assert (status, found["without_teacher"]) == (0, True)
    assert found["loss"] == pytest.approx(float(loss(torch.zeros(2, 12), labels)), rel=0.1)
