import pytest
import torch
from torch import nn

from vidgn.norms import is_norm, make_norm
from vidgn.optim import OptimSpec, build_optimizer, parameter_groups


def test_the_rate_grows_linearly_with_the_clips_of_a_step():
    assert OptimSpec(lr=0.01).learning_rate(64) == pytest.approx(0.01)
    assert OptimSpec(lr=0.01).learning_rate(4) == pytest.approx(0.000625)  # one device, batch 4
    assert OptimSpec(lr=0.01).learning_rate(32) == pytest.approx(0.005)  # 8 devices, batch 4


def test_the_papers_schedule_drops_at_150k_and_300k_of_400k():
    spec = OptimSpec()
    factors = [spec.factor(step, 400_000) for step in (0, 149_999, 150_000, 299_999, 300_000, 399_999)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_warm_up_is_linear_and_cosine_ends_near_zero():
    spec = OptimSpec(schedule="cosine", warmup=0.1)
    factors = [spec.factor(step, 100) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert factors[10] == pytest.approx(1.0)
    assert factors[55] == pytest.approx(0.5)  # the middle of the cosine
    assert 0 < factors[99] < 0.001
    assert factors[10:] == sorted(factors[10:], reverse=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "stairs"}, r"optim.schedule \('stairs'\) must be one of steps, cosine"),
        ({"lr": 0.0}, r"optim.lr \(0.0\) must be a positive number"),
        ({"lr": float("nan")}, r"optim.lr \(nan\) must be a positive number"),
        ({"lr_clips": 0}, r"optim.lr_clips \(0\) must be at least 1"),
        ({"warmup": 1.0}, r"optim.warmup \(1.0\) must be a fraction"),
        ({"drops": (0.7, 0.3)}, r"optim.drops \(\[0.7, 0.3\]\) must be growing"),
        ({"drops": (1.5,)}, r"optim.drops \(\[1.5\]\) must be growing"),
        ({"momentum": 0.0}, r"optim.momentum \(0.0\) must lie in \(0, 1\) with nesterov"),
    ],
)
def test_a_wrong_value_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        OptimSpec(**change)


@pytest.mark.parametrize("norm", ["gn", "ln", "in", "bn"])
def test_no_norm_of_any_kind_and_no_bias_decays(norm):
    net = nn.Sequential(nn.Conv3d(3, 32, 1, bias=False), make_norm(norm)(32), nn.Linear(32, 5))
    decay, no_decay = parameter_groups(net, weight_decay=0.1, decay_norms=False, is_norm=is_norm)
    assert [tuple(p.shape) for p in decay["params"]] == [(32, 3, 1, 1, 1), (5, 32)]
    assert [tuple(p.shape) for p in no_decay["params"]] == [(32,), (32,), (5,)]
    assert (decay["weight_decay"], no_decay["weight_decay"]) == (0.1, 0.0)


def test_decay_norms_puts_every_parameter_into_one_group():
    net = nn.Sequential(nn.Conv3d(3, 32, 1), nn.GroupNorm(4, 32))
    (group,) = parameter_groups(net, weight_decay=0.1, decay_norms=True, is_norm=is_norm)
    assert len(group["params"]) == 4


def test_frozen_parameters_are_in_no_group():
    net = nn.Linear(2, 2)
    net.weight.requires_grad_(False)
    (group,) = parameter_groups(net, weight_decay=0.1, decay_norms=False, is_norm=is_norm)
    assert [tuple(p.shape) for p in group["params"]] == [(2,)]


def test_the_optimizer_follows_the_schedule():
    net = nn.Linear(2, 2)
    optimizer, schedule = build_optimizer(net, OptimSpec(), clips_per_step=32, total_steps=8, is_norm=is_norm)
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]["lr"])
        net(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.005] * 3 + [0.0005] * 3 + [0.00005] * 2)
    assert all(group["nesterov"] and group["momentum"] == 0.9 for group in optimizer.param_groups)
