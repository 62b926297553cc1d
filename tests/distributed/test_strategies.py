"""Which strategies there are, how long ranks wait, and what is said where one is gone."""

from datetime import timedelta

import lightning as L
import pytest
import torch.distributed as dist

from vidgn.runs import ranks as module
from vidgn.runs.ranks import RankLostError, find_strategy, forget_failures, limit_waiting, tell_who_failed


def trainer(strategy):
    return L.Trainer(accelerator="cpu", devices=2, strategy=strategy, logger=False, enable_checkpointing=False)


@pytest.mark.parametrize("strategy", ["deepspeed_stage_2", "ddpx", "fsdp_cpu_offload", "model_parallel"])
def test_a_strategy_whose_state_does_not_fit_our_checkpoints_is_refused(strategy):
    with pytest.raises(
        ValueError, match=rf"trainer\.strategy \({strategy}\) must be auto, ddp, fsdp or single_device: check"
    ):
        find_strategy(strategy)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["auto", "ddp", "ddp_find_unused_parameters_true", "fsdp"])
def test_processes_wait_as_long_as_asked(strategy):
    """The attribute is Lightning's own; this test tells when it goes."""
    asked = trainer(find_strategy(strategy))
    assert asked.strategy._timeout == timedelta(minutes=30)
    limit_waiting(asked, minutes=0.5)
    assert asked.strategy._timeout == timedelta(seconds=30)
    with pytest.raises(ValueError, match=r"rank_timeout_minutes \(0\) must be above 0"):
        limit_waiting(asked, minutes=0)


def be(monkeypatch, rank, world=2):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: rank)
    monkeypatch.setattr(dist, "get_world_size", lambda: world)


def fail(folder, error):
    with tell_who_failed(folder):
        raise error


def test_an_error_of_one_process_stays_as_it_is(tmp_path):
    with pytest.raises(RuntimeError, match=r"^gloo: Connection closed by peer$"):
        fail(tmp_path, RuntimeError("gloo: Connection closed by peer"))
    assert not list(tmp_path.iterdir())


def test_the_rank_with_a_fault_of_its_own_is_named_by_the_others(tmp_path, monkeypatch):
    be(monkeypatch, 1)
    with pytest.raises(OSError, match="disk gone"):
        fail(tmp_path, OSError("disk gone\nand more"))
    be(monkeypatch, 0)
    with pytest.raises(
        RankLostError, match=r"rank 0 of 2 lost another .*\); rank 1 failed first: OSError: disk gone\."
    ):
        fail(tmp_path, RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:1"))
    forget_failures(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_fault_that_cannot_be_written_down_stays_the_fault(tmp_path, monkeypatch):
    be(monkeypatch, 0)
    with pytest.raises(OSError, match="the disk is full"):
        fail(tmp_path / "gone", OSError("the disk is full"))


@pytest.mark.parametrize(
    "error",
    [
        dist.DistBackendError("NCCL error: remote process exited"),
        RuntimeError("Timed out waiting 6000ms for recv operation to complete"),
        RuntimeError("Connection reset by peer"),
    ],
)
def test_where_no_rank_said_why_that_is_said(tmp_path, monkeypatch, error):
    be(monkeypatch, 0)
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    with pytest.raises(RankLostError, match=r"none said why, so it was killed, .*run the same command again"):
        fail(tmp_path, error)
