"""A loss that is not finite on one of two ranks: both leave the step out, then both stop, with one sentence."""

import math
import re
from pathlib import Path

import pytest
import torch

from vidgn.checkpoints.checkpoint import read_state
from vidgn.training.replay import replay


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def stopped(request, ranks, tmp_path_factory):
    """Rank 1 has no number from its second step on; one step may be left out. Three steps an epoch."""
    folder = tmp_path_factory.mktemp(request.param)
    words = ("batch=4", "keep_last=3", "skip_nonfinite=1")
    return folder, ranks(2, folder, *words, strategy=request.param, at_step={1: (1, "nan")})


def sentence(text):
    (found,) = re.findall(r"step 2 \(epoch.*skip_nonfinite=N", text)
    return found


@pytest.mark.slow
def test_both_ranks_stop_with_one_sentence_about_the_rank_at_fault(stopped):
    folder, ran = stopped
    assert ran.statuses == [2, 2], ran.says
    assert sentence(ran.says[0]) == sentence(ran.says[1])
    assert "(epoch 0, batch 2): loss nan on rank 1 of 2, gradient norm nan" in sentence(ran.says[0])
    videos = re.search(r"videos (.*?);", sentence(ran.says[1]))[1].split(", ")
    assert len(videos) == len(ran.steps[1][2]["videos"]) == 4
    (dump,) = folder.glob("nonfinite-*.pt")  # only of the rank at fault
    assert Path(re.search(r"vidgn replay (\S+),", sentence(ran.says[0]))[1]) == dump
    assert read_state(dump)["replay"]["videos"] == videos
    again = replay(dump)  # the fault was put in from outside, so the step itself is sound
    assert (math.isnan(again.recorded), math.isfinite(again.loss), again.bad_gradients) == (True, True, ())


@pytest.mark.slow
def test_what_may_be_left_out_is_left_out_by_both_and_said_once(stopped):
    _, ran = stopped
    left_out = "loss nan on rank 1 of 2, .*; left out \\(1 of skip_nonfinite=1\\)"
    assert [len(re.findall(left_out, text)) for text in ran.says] == [1, 0]


@pytest.mark.slow
def test_neither_step_reaches_the_weights(stopped):
    """Checkpoints: last.1 after the first step, last after the second, which was left out; the third stopped."""
    folder, _ = stopped
    after_one, after_two = (read_state(folder / "checkpoints" / f"{name}.ckpt") for name in ("last.1", "last"))
    (dump,) = folder.glob("nonfinite-*.pt")
    stopped_with = read_state(dump)["state_dict"]
    assert [state["global_step"] for state in (after_one, after_two)] == [1, 2]
    for name, weight in after_one["state_dict"].items():
        assert torch.equal(after_two["state_dict"][name], weight)
        assert torch.equal(stopped_with[name], weight)
        assert torch.isfinite(weight).all()
    momenta = [state["optimizer_states"][0]["state"] for state in (after_one, after_two)]
    for key, moment in momenta[0].items():
        assert torch.equal(momenta[1][key]["momentum_buffer"], moment["momentum_buffer"])
