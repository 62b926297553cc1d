import pytest
import torch
from timm.utils.agc import adaptive_clip_grad
from torch import nn

from vidgn.classifier import VideoClassifier
from vidgn.data.transforms import Normalize
from vidgn.models.registry import build_net
from vidgn.norms import is_norm, make_norm
from vidgn.optim import OptimSpec, build_optimizer, clip_adaptively, parameter_groups


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
        ({"schedule": "stairs"}, r"must be one of steps, cosine, linear, constant"),
        ({"name": "lion"}, r"optim.name \(lion\) must be one of sgd, adamw, adam, nadam, radam, rmsprop"),
        ({"name": "adamw", "lr": 0.24}, r"optim.lr \(0.24\) is a rate for sgd .* optim.name=adamw; use .* optim=adamw"),
        ({"betas": (0.9, 1.0)}, r"optim.betas \(\[0.9, 1.0\]\) must be two numbers in \[0, 1\)"),
        ({"layer_decay": 0.0}, r"optim.layer_decay \(0.0\) must be in \(0, 1\]"),
        ({"rates": {"haed": 2.0}}, r"optim.rates.haed is unknown; the stages are stem, res2"),
        ({"rates": {"head": -1.0}}, r"optim.rates.head \(-1.0\) must be 0 or more"),
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


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("nadam", torch.optim.NAdam),
        ("radam", torch.optim.RAdam), ("rmsprop", torch.optim.RMSprop),
    ],
)  # fmt: skip
def test_an_optimizer_is_chosen_by_name(name, kind):
    net = nn.Linear(2, 2)
    spec = OptimSpec(name=name, lr=0.01, lr_clips=4, weight_decay=0.5, betas=(0.8, 0.95))
    optimizer, _ = build_optimizer(net, spec, clips_per_step=8, total_steps=8, is_norm=is_norm)
    assert type(optimizer) is kind
    decay, no_decay = optimizer.param_groups
    assert (decay["lr"], decay["weight_decay"], no_decay["weight_decay"]) == (0.02, 0.5, 0.0)
    assert decay.get("betas", (0.8, 0.95)) == (0.8, 0.95)


def test_linear_falls_to_zero_and_constant_stays_after_the_warm_up():
    linear = OptimSpec(schedule="linear", warmup=0.5)
    assert [linear.factor(step, 8) for step in range(8)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25])
    constant = OptimSpec(schedule="constant", warmup=0.25)
    assert [constant.factor(step, 8) for step in range(8)] == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 1])


def staged():
    return nn.ModuleDict({name: nn.Linear(2, 2) for name in ("stem", "res2", "res3", "res4", "res5", "head")})


def test_layer_decay_lowers_the_rate_of_each_stage_before_the_head():
    net = staged()
    spec = OptimSpec(lr=0.64, lr_clips=1, layer_decay=0.5, rates={"head": 2.0}, schedule="linear")
    optimizer, schedule = build_optimizer(
        net, spec, clips_per_step=1, total_steps=4, is_norm=is_norm, stages=dict(net.items())
    )
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    rates = [rate_of[id(part.weight)] for part in net.values()]
    assert rates == pytest.approx([0.02, 0.04, 0.08, 0.16, 0.32, 1.28])
    assert [rate_of[id(part.bias)] for part in net.values()] == rates
    assert sorted(rate_of) == sorted(id(p) for p in net.parameters())
    sum(part(torch.ones(1, 2)).sum() for part in net.values()).backward()
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02 * 0.75)  # the schedule multiplies each


def test_rates_of_stages_need_stages():
    with pytest.raises(ValueError, match=r"optim.layer_decay and optim.rates need a net of stages"):
        build_optimizer(nn.Linear(2, 2), OptimSpec(layer_decay=0.5), clips_per_step=1, total_steps=1, is_norm=is_norm)


def test_the_default_groups_are_those_of_the_net_as_a_whole():
    net = staged()
    optimizer, _ = build_optimizer(
        net, OptimSpec(rates={"head": 1.0}), clips_per_step=64, total_steps=1, is_norm=is_norm, stages=dict(net.items())
    )
    assert [len(group["params"]) for group in optimizer.param_groups] == [6, 6]


def test_adaptive_clipping_is_its_equation_for_each_unit():
    """Eq. 3 in float64, unit by unit; filters of zeros count as 1e-3, vectors are one unit."""
    torch.manual_seed(0)
    shapes = [(5, 3, 1, 2, 2), (4, 6), (7,)]
    parameters = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in shapes]
    parameters[0].data[1] = 0
    wanted = []
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter) * torch.logspace(-3, 1, len(parameter)).double().view(
            -1, *[1] * (parameter.dim() - 1)
        )
        units = (
            zip(parameter.data, parameter.grad, strict=True)
            if parameter.dim() > 1
            else [(parameter.data, parameter.grad)]
        )
        clipped = []
        for weight, grad in units:
            largest = 0.1 * max(weight.norm().item(), 1e-3)
            clipped.append(grad * min(1.0, largest / grad.norm().item()))
        wanted.append(torch.stack(clipped) if parameter.dim() > 1 else clipped[0])
        assert not torch.equal(wanted[-1], parameter.grad)
    frozen = nn.Parameter(torch.ones(2))
    clip_adaptively([*parameters, frozen], 0.1)
    for parameter, grad in zip(parameters, wanted, strict=True):
        torch.testing.assert_close(parameter.grad, grad)
    assert frozen.grad is None


def test_adaptive_clipping_is_timms():
    torch.manual_seed(0)
    mine = [nn.Parameter(torch.randn(6, 3, 2, 2, 2)), nn.Parameter(torch.randn(6))]
    for parameter in mine:
        parameter.grad = torch.randn_like(parameter) * 3
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in mine]
    for parameter, other in zip(mine, theirs, strict=True):
        other.grad = parameter.grad.clone()
    clip_adaptively(mine, 0.05)
    adaptive_clip_grad(theirs, 0.05)
    for parameter, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(parameter.grad, other.grad)


@pytest.mark.parametrize("value", [0.0, 1.5, -0.1])
def test_a_share_of_adaptive_clipping_out_of_range_is_refused(value):
    with pytest.raises(
        ValueError, match=rf"optim\.agc \({value}\) must be a share in \(0, 1\], such as 0\.01, or null"
    ):
        OptimSpec(agc=value)


def test_a_step_with_adaptive_clipping_is_short_everywhere_but_in_the_classifier():
    torch.manual_seed(0)
    model = {"name": "i3d_r50", "width": 8, "dropout": 0.0, "weight_standardization": True}
    net = build_net(model=model, norm={"name": "none"}, crop=32, num_classes=4)
    spec = OptimSpec(lr=1.0, lr_clips=1, momentum=0.0, nesterov=False, weight_decay=0.0, agc=0.01)
    classifier = VideoClassifier(net, normalize=Normalize(), optim=spec, classes=tuple("abcd"), batch=1)
    nn.functional.cross_entropy(net(torch.randn(2, 3, 8, 32, 32)), torch.tensor([0, 1])).backward()
    head = net.blocks[-1].proj.weight.grad.clone()
    classifier.on_before_optimizer_step(None)
    assert torch.equal(net.blocks[-1].proj.weight.grad, head)
    ratios = [
        (value.grad.flatten(1).norm(dim=1) / value.detach().flatten(1).norm(dim=1).clamp_min(1e-3)).max()
        for name, value in net.named_parameters()
        if value.dim() > 1 and "proj" not in name
    ]
    assert max(ratios) <= 0.01 * (1 + 1e-5)
    assert len(ratios) > 50


def test_without_a_norm_the_last_kernel_of_a_block_is_plain_and_zero():
    net = build_net(
        model={"name": "i3d_r50", "width": 8, "dropout": 0.0, "weight_standardization": True}, norm={"name": "none"},
        crop=32, num_classes=4,
    )  # fmt: skip
    branch = net.blocks[1].res_blocks[0].branch2
    assert [hasattr(branch.get_submodule(f"conv_{key}"), "standardization") for key in "abc"] == [True, True, False]
    assert not branch.conv_c.weight.any()
