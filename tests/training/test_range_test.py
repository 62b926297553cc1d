"""`optim.lr=auto`: a range test that leaves the run as it is, and a rate that a resumed run keeps."""

import csv

import pytest
import torch
from torch import nn

from vidgn.data.batches import ClipBatch
from vidgn.models.net import VideoNet
from vidgn.objective.losses import ClipLoss
from vidgn.optim import OptimSpec
from vidgn.training import range_test as module
from vidgn.training.range_test import STEPS, Point, Trial, choose_rate, range_test, rates_of, write_curve


class Net(VideoNet):
    """A linear classifier of the mean colours, in stages that have names."""

    def __init__(self):
        nn.Module.__init__(self)
        self.blocks = nn.ModuleList(nn.Linear(3, 3) for _ in range(6))

    def forward(self, x):
        x = x.mean((2, 3, 4))
        for block in self.blocks:
            x = block(x)
        return x


class Scale(nn.Module):
    def forward(self, clips):
        return clips.float() / 255


def batches(count):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        labels = torch.randint(3, (8,), generator=generator)
        clips = torch.zeros((8, 1, 3, 2, 4, 4), dtype=torch.uint8)
        clips[torch.arange(8), 0, labels] = 200
        yield ClipBatch(clips, labels, torch.arange(8))


def trial(**options):
    torch.manual_seed(1)
    return Trial(Net(), Scale(), ClipLoss(), device=torch.device("cpu"), clips=64, **options)


def test_the_loss_falls_then_rises_and_nothing_has_changed():
    one = trial()
    before = {name: value.clone() for name, value in one.net.state_dict().items()}
    state = torch.get_rng_state()
    points = range_test(one, OptimSpec(lr=rates_of("sgd")[1]), batches(STEPS))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in one.net.state_dict().items())
    assert all(parameter.grad is None for parameter in one.net.parameters())
    assert points[0].lr == pytest.approx(1e-3)
    assert [point.lr for point in points] == sorted(point.lr for point in points)
    lowest = min(points, key=lambda point: point.smoothed)
    assert lowest.smoothed < points[0].loss - 0.02
    assert points[0].lr < lowest.lr < points[-1].lr
    assert points == range_test(trial(), OptimSpec(lr=rates_of("sgd")[1]), batches(STEPS))
    assert 1e-4 < choose_rate(points) < 1


def test_frozen_stages_take_no_part_and_few_batches_end_it():
    spec = OptimSpec(lr=rates_of("sgd")[1])
    free, frozen = (range_test(trial(frozen=names), spec, batches(9)) for names in ((), ("stem", "res2")))
    assert len(free) == len(frozen) == 9
    assert free[0] == frozen[0]
    assert free[-1].loss != frozen[-1].loss
    pairs = range_test(trial(), spec, batches(9), accumulate=2)
    assert len(pairs) == 5


def test_adaptive_optimizers_have_rates_of_their_own():
    points = range_test(trial(), OptimSpec(name="adamw", lr=rates_of("adamw")[1]), batches(STEPS))
    assert points[0].lr == pytest.approx(1e-6)
    assert points[-1].lr <= 0.05 + 1e-9


def test_the_curve_is_written_and_too_short_a_one_is_refused(tmp_path):
    points = [Point(0.01, 2.0, 2.0), Point(0.1, 1.0, 1.5), Point(1.0, 9.0, 5.0)]
    assert choose_rate(points) == 0.01
    write_curve(points, 0.01, tmp_path)
    assert (tmp_path / "lr_range.csv").read_text().splitlines()[2] == "0.1,1,1.5"
    assert (tmp_path / "lr_range.png").stat().st_size > 2000
    with pytest.raises(ValueError, match=r"optim.lr \(auto\) took 2 steps with a finite loss, and needs 3 or more"):
        choose_rate(points[:2])


def losses(folder):
    with (folder / "metrics.csv").open() as file:
        return [row["train/loss"] for row in csv.DictReader(file) if row.get("train/loss")]


@pytest.mark.slow
def test_a_run_is_that_of_the_rate_typed_by_hand_and_keeps_it(run, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STEPS", 5)
    words = [*tiny, "trainer.limit_val_batches=1", "trainer.log_every_n_steps=1", "test=false", "trainer.max_steps=2"]
    outcome = run("train", *words, "optim.lr=auto", f"hydra.run.dir={tmp_path / 'auto'}")
    assert outcome.status == 0, outcome.err
    assert "optim.lr=auto: 5 steps at optim.lr 0.001 to 10; the loss was lowest" in outcome.out
    rate = outcome.out.partition("so the run takes optim.lr=")[2].split(".\u0020")[0].split(". ")[0]
    outcome = run("train", *words, f"optim.lr={rate}", f"hydra.run.dir={tmp_path / 'typed'}")
    assert outcome.status == 0, outcome.err
    assert losses(tmp_path / "auto") == losses(tmp_path / "typed")
    states = [torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
              for name in ("auto", "typed")]  # fmt: skip
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    outcome = run("train", *words, "optim.lr=auto", "trainer.max_steps=3", f"hydra.run.dir={tmp_path / 'auto'}")
    assert outcome.status == 0, outcome.err
    assert "optim.lr=auto" not in outcome.out
    assert f"(optim.lr {float(rate):g} is for 64 clips)" in outcome.out


@pytest.mark.slow
def test_several_processes_do_not_measure(run, tiny, tmp_path):
    outcome = run("train", *tiny, "optim.lr=auto", "trainer.devices=2", f"hydra.run.dir={tmp_path}")
    assert outcome.status == 2
    assert "optim.lr (auto) is measured by one process, but trainer.devices is 2" in outcome.err
