"""A loss or gradient that is not finite never reaches the weights."""

import re
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from vidgn.callbacks.checkpointing import Keep
from vidgn.callbacks.nonfinite import NonFiniteError, NonFiniteGuard, Seen
from vidgn.callbacks.preemption import Stop
from vidgn.checkpoints.checkpoint import read_state
from vidgn.data.batches import ClipBatch


class Module(L.LightningModule):
    """A weight whose loss is not finite in the steps of `bad`; SGD with momentum and decay."""

    def __init__(self, bad, value=float("nan")):
        super().__init__()
        self.weight, self.bad, self.value = nn.Parameter(torch.ones(2)), bad, value
        self.seed, self.seen = 0, []

    def training_step(self, batch, batch_idx):
        self.seen.append(self.weight.detach().clone())
        loss = (self.weight * batch.clips.float().mean()).sum()
        return loss * self.value if batch_idx in self.bad else loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9, weight_decay=0.1)


def fit(module, tmp_path, *callbacks, batches=5):
    clips = torch.ones((1, 1, 3, 1, 1, 1), dtype=torch.uint8)
    data = [ClipBatch(clips, torch.tensor([0]), torch.tensor([number])) for number in range(batches)]
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=list(callbacks), default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, DataLoader(data, batch_size=None))


@pytest.mark.slow
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_run_stops_before_the_step_and_says_which(tmp_path, value):
    module = Module({3}, value)
    message = r"step 3 \(epoch 0, batch 3\): loss (nan|inf), gradient norm (nan|inf), rate 0.1, videos video3.mp4"
    with pytest.raises(NonFiniteError, match=message) as caught:
        fit(module, tmp_path, NonFiniteGuard(tmp_path, video_name="video{}.mp4".format))
    assert torch.equal(module.weight.detach(), module.seen[3])  # as before the step
    dump = Path(re.search(r"vidgn replay (\S+),", str(caught.value))[1])
    state = read_state(dump)
    assert state["replay"]["videos"] == ["video3.mp4"]
    assert torch.equal(state["state_dict"]["weight"], module.seen[3])


@pytest.mark.slow
def test_as_many_steps_as_allowed_are_left_out_whole(tmp_path, capsys):
    """Without its bad steps the run is the run on the other batches: no momentum, no decay from them."""
    module, clean = Module({1, 3}), Module(())
    fit(module, tmp_path, NonFiniteGuard(tmp_path, video_name=str, skip=2))
    fit(clean, tmp_path, batches=3)
    assert torch.equal(module.weight, clean.weight)
    assert "left out (2 of skip_nonfinite=2)" in capsys.readouterr().out
    with pytest.raises(NonFiniteError, match="step 3"):
        fit(Module({1, 3}), tmp_path, NonFiniteGuard(tmp_path, video_name=str, skip=1))


@pytest.mark.slow
def test_a_buffer_that_is_spoilt_cannot_be_left_out(tmp_path):
    module = Module({2})
    module.register_buffer("running_mean", torch.tensor([float("nan")]))
    with pytest.raises(NonFiniteError, match="and running_mean is no longer finite"):
        fit(module, tmp_path, NonFiniteGuard(tmp_path, video_name=str, skip=5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: NonFiniteGuard(f, video_name=str, skip=-1), r"skip_nonfinite \(-1\) must be 0 or more"),
        (lambda f: Keep(f, every_minutes=0), r"save_every_minutes \(0\) must be above 0"),
        (lambda f: Keep(f, every_steps=0), r"save_every_steps \(0\) must be at least 1"),
        (lambda f: Keep(f, last=0), r"keep_last \(0\) must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path)


def test_the_count_of_steps_left_out_is_carried(tmp_path):
    guard = NonFiniteGuard(tmp_path, video_name=str, skip=3)
    guard.skipped = 2
    other = NonFiniteGuard(tmp_path, video_name=str, skip=3)
    other.load_state_dict(guard.state_dict())
    assert other.skipped == 2


@pytest.mark.slow
def test_without_checkpoints_a_stop_still_leaves_with_143(tmp_path):
    stop = Stop(None)
    module = Module(())
    module.on_before_zero_grad = lambda optimizer: setattr(stop, "asked", 15)
    with pytest.raises(SystemExit, match="143"):
        fit(module, tmp_path, stop)
    assert len(module.seen) == 1  # the step was finished, the next not begun


@pytest.mark.parametrize(
    ("seen", "message", "dumps"),
    [
        # only the gradient, which is that of all ranks: nobody can say where it began
        (
            [Seen(0.5, float("inf"), ["a", "b"], []), Seen(0.7, float("inf"), ["c"], [])],
            r"loss 0.5 on rank 0, 1 of 2, gradient norm inf, rate 0.1, videos a, b, c; .*nonfinite-step4-rank0.pt,",
            [0, 1],
        ),
        # a buffer of one rank: its videos, its loss
        (
            [Seen(0.5, 1.0, ["a"], []), Seen(0.7, 1.0, ["c"], ["net.running_var"])],
            r"loss 0.7 on rank 1 of 2, .*, videos c and net.running_var is no longer finite; .*step4-rank1.pt,",
            [1],
        ),
    ],
)
def test_every_rank_says_the_same_of_all_ranks_and_those_at_fault_keep_the_step(tmp_path, seen, message, dumps):
    waited = []
    for rank in range(2):
        guard, module = NonFiniteGuard(tmp_path, video_name=str, skip=0), Module(())
        guard._batch = ClipBatch(
            torch.ones((1, 1, 3, 1, 1, 1), dtype=torch.uint8), torch.tensor([0]), torch.tensor([0])
        )
        strategy = SimpleNamespace(barrier=lambda rank=rank: waited.append(rank), lightning_module_state_dict=dict)
        trainer = SimpleNamespace(global_step=4, current_epoch=1, global_rank=rank, strategy=strategy)
        with pytest.raises(NonFiniteError, match=message):
            guard._answer(trainer, module, module.configure_optimizers(), seen=seen)
    assert waited == [0, 1]
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == [f"nonfinite-step4-rank{rank}.pt" for rank in dumps]
