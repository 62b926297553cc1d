"""Two ranks are one run: the same losses, rates and order, and what is left of it can be gone on with by either."""

import csv
import re
import shutil

import pytest
import torch

from vidgn.checkpoints.checkpoint import read_state
from vidgn.data.synthetic.motions import MotionsSpec, prepare_motions

ORDER = [12, 23, 19, 17, 18, 3, 4, 9, 2, 1, 5, 11, 20, 10, 0, 6, 21, 8, 7, 22, 14, 15, 16, 13]  # seed 0, epoch 0


def curve(folder, name):
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def weights(folder):
    return read_state(folder / "checkpoints" / "last.ckpt")["state_dict"]


@pytest.fixture(scope="module")
def one(ranks, tmp_path_factory):
    """One rank with batch 8."""
    folder = tmp_path_factory.mktemp("one")
    return folder, ranks(1, folder, "batch=8")


@pytest.fixture(scope="module")
def four(ranks, tmp_path_factory):
    """One rank with batch 4."""
    folder = tmp_path_factory.mktemp("four")
    return folder, ranks(1, folder, "batch=4")


@pytest.fixture(scope="module")
def two(ranks, tmp_path_factory):
    """Two ranks with batch 4."""
    folder = tmp_path_factory.mktemp("two")
    return folder, ranks(2, folder, "batch=4", "keep_last=3")


@pytest.mark.slow
def test_two_ranks_of_batch_4_learn_as_one_of_batch_8(one, two):
    """Group norm: nothing depends on who is in the batch. 24 videos, three steps."""
    (folder, single), (other, double) = one, two
    assert single.statuses == [0], single.says
    assert double.statuses == [0, 0], double.says
    assert single.order() == ORDER
    assert double.order() == ORDER
    assert double.losses() == pytest.approx(single.losses(), rel=1e-5)
    for name in ("train/error", "val/error", "val/loss"):
        assert curve(other, name) == pytest.approx(curve(folder, name), rel=1e-5)
    for name, value in weights(folder).items():
        torch.testing.assert_close(weights(other)[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_the_rate_is_linear_in_the_clips_of_all_ranks(one, four, two):
    """optim=scratch: lr per lr_clips clips; 4 clips on one rank have half the rate of 4 on each of two."""
    single = four[1]
    half, whole = single.steps[0][0]["rate"], two[1].steps[0][0]["rate"]
    assert whole == pytest.approx(2 * half)
    assert one[1].steps[0][0]["rate"] == pytest.approx(whole)
    assert [len(rank) for rank in (single.steps[0], *two[1].steps)] == [6, 3, 3]


@pytest.mark.slow
def test_a_share_of_validation_may_be_smaller(ranks, cache, one, tmp_path):
    """13 videos: two ranks with batch 4 take 4 and 4, then 3 and 2; the mean is over videos, not over ranks."""
    root = tmp_path / "videos"
    shutil.copytree(prepare_motions(cache, spec=MotionsSpec(train=2, val=1, test=1)), root)
    shutil.copy(next((root / "val" / "zoom_in").iterdir()), root / "val" / "zoom_in" / "more.mp4")
    words = ("data=folder", f"data.root={root}", "trainer.limit_train_batches=1", "val_clips=1")
    single = ranks(1, tmp_path / "one", *words, "batch=8")
    double = ranks(2, tmp_path / "two", *words, "batch=4")
    assert single.statuses + double.statuses == [0, 0, 0], (single.says, double.says)
    for name in ("val/error", "val/loss"):
        assert curve(tmp_path / "two", name) == pytest.approx(curve(tmp_path / "one", name), rel=1e-5)
    wrong = curve(tmp_path / "two", "val/error")[0] * 13 / 100
    assert wrong == pytest.approx(round(wrong), abs=1e-4)


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_other_and_the_next_start_goes_on(ranks, two, tmp_path):
    killed = ranks(2, tmp_path, "batch=4", at_step={1: (2, "SIGKILL")})
    assert killed.statuses == [2, -9]
    assert re.search(r"error: rank 0 of 2 lost another process of this run \(.*\); none said why", killed.says[0])
    again = ranks(2, tmp_path, "batch=4")
    assert again.statuses == [0, 0], again.says
    assert again.order() == ORDER[16:]
    assert (tmp_path / "metrics.csv").read_bytes() == (two[0] / "metrics.csv").read_bytes()
    for name, value in weights(two[0]).items():
        assert torch.equal(weights(tmp_path)[name], value), name


@pytest.mark.slow
def test_weights_that_are_shared_out_go_on_to_the_same_bits(ranks, two, tmp_path):
    """trainer.strategy=fsdp: half of the weights on each rank, from the checkpoint of ddp to the one it would leave."""
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(two[0] / ".vidgn-run", tmp_path)
    shutil.copy(two[0] / "checkpoints" / "last.2.ckpt", tmp_path / "checkpoints" / "last.ckpt")  # after a step of three
    shared = ranks(2, tmp_path, "batch=4", strategy="fsdp")
    assert shared.statuses == [0, 0], shared.says
    assert shared.order() == ORDER[8:]
    assert shared.losses() == two[1].losses()[1:]
    all_weights = two[1].steps[0][0]["held"]
    held = [rank[0]["held"] for rank in shared.steps]
    assert sum(held) == all_weights
    assert max(held) < 0.52 * all_weights
    for name in ("train/error", "val/error", "val/loss"):
        assert curve(tmp_path, name) == curve(two[0], name)
    ours, theirs = (read_state(folder / "checkpoints" / "last.ckpt") for folder in (tmp_path, two[0]))
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    for name, value in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name
    momenta = [state["optimizer_states"][0]["state"] for state in (ours, theirs)]
    assert momenta[0].keys() == momenta[1].keys()
    for number, state in momenta[1].items():
        assert torch.equal(momenta[0][number]["momentum_buffer"], state["momentum_buffer"]), number


@pytest.mark.slow
def test_the_rank_that_failed_first_is_named_with_its_fault(ranks, tmp_path):
    failed = ranks(2, tmp_path, "batch=4", at_step={1: (1, "raise")})
    assert failed.statuses == [2, 2]
    assert "rank 1 failed first: ValueError: a fault of this rank alone" in failed.says[0]
    assert "error: a fault of this rank alone" in failed.says[1]


@pytest.mark.slow
def test_a_rank_that_does_not_answer_is_waited_for_no_longer_than_allowed(ranks, tmp_path):
    silent = ranks(2, tmp_path, "batch=4", "rank_timeout_minutes=0.4", at_step={1: (1, "SIGSTOP")})
    assert silent.statuses == [2, -9]  # the nursery ends what stands still
    assert "Timed out waiting" in silent.says[0]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_another_number_of_ranks_keeps_the_order_and_the_schedule(ranks, four, two, tmp_path, before, after):
    """Batch 4 on each: a step of two ranks takes what two steps of one do. Stopped after 16 of 24 videos."""
    steps = 16 // (4 * before)
    first = ranks(before, tmp_path, "batch=4", at_step=dict.fromkeys(range(before), (steps - 1, "SIGTERM")))
    assert first.statuses == [143] * before, first.says
    assert first.order() == ORDER[:16]
    second = ranks(after, tmp_path, "batch=4")
    assert second.statuses == [0] * after, second.says
    assert f"note: {after} processes take {after / before:g} times the videos" in second.says[0]
    assert second.order() == ORDER[16:]
    whole = {1: four, 2: two}[after][1]  # never stopped
    assert second.steps[0][0]["rate"] == pytest.approx(whole.steps[0][16 // (4 * after)]["rate"])
    assert len(curve(tmp_path, "val/error")) == 1
    assert curve(tmp_path, "train/error")[0] * 24 / 100 == pytest.approx(
        round(curve(tmp_path, "train/error")[0] * 0.24)
    )


@pytest.mark.slow
def test_a_rest_smaller_than_a_batch_waits_for_the_next_epoch(ranks, tmp_path):
    """One rank stops after 20 of 24 videos; two of batch 4 would need 8: this epoch is validated, the next is whole."""
    words = ("batch=4", "epochs=2")
    first = ranks(1, tmp_path, *words, at_step={0: (4, "SIGTERM")})
    assert first.statuses == [143], first.says
    second = ranks(2, tmp_path, *words)
    assert second.statuses == [0, 0], second.says
    assert [step["epoch"] for step in second.steps[0]] == [1, 1, 1]
    assert sorted(second.order()) == list(range(24))
    assert len(curve(tmp_path, "val/error")) == 2


@pytest.mark.slow
def test_another_number_of_reading_processes_changes_no_bit(ranks, one, tmp_path):
    first = ranks(1, tmp_path, "batch=8", "data.num_workers=2", at_step={0: (1, "SIGKILL")})
    second = ranks(1, tmp_path, "batch=8", "data.num_workers=1")
    assert (first.statuses, second.statuses) == ([-9], [0]), second.says
    assert first.order() + second.order() == ORDER
    for name, value in weights(one[0]).items():
        assert torch.equal(weights(tmp_path)[name], value), name
