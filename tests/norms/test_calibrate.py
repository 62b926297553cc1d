import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vidgn import GroupNorm3d, convert_norm
from vidgn.norms.calibrate import calibrate_net
from vidgn.norms.convert import ConversionReport


class Block(nn.Module):
    """A residual block whose shortcut is declared last and runs first."""

    def __init__(self, channels=8):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
            nn.BatchNorm2d(channels),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, x):
        x = self.shortcut(x) + self.body(x)
        return x.relu()


def make_net(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), Block(), nn.Flatten(2), nn.Dropout(0.5)
    )
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.3, 2)
    return net.eval()


def clips(number=3, batch=4, seed=1):
    torch.manual_seed(seed)
    return [torch.randn(batch, 3, 8, 8) * (torch.rand(batch, 1, 1, 1) + 0.3) for _ in range(number)]


ORDER = ["1", "3.shortcut.1", "3.body.1", "3.body.4"]


@torch.no_grad()
def test_instance_norm_gives_one_clip_exactly_what_batch_norm_gave():
    # On a single clip an instance norm is a line in each channel's input, as a batch norm in evaluation is.
    net, (clip,) = make_net(), clips(1, batch=1)
    expected = net(clip)
    report = convert_norm(net, "in", calibrate=[clip])
    torch.testing.assert_close(net(clip), expected, rtol=1e-4, atol=1e-4)
    assert [fit.r2 for fit in report.fits] == pytest.approx([1] * 4, abs=1e-6)


def test_layers_are_fitted_in_the_order_in_which_they_run():
    report = convert_norm(make_net(), "gn", uneven="nearest", calibrate=clips())
    assert [fit.name for fit in report.fits] == ORDER
    assert all(fit.num_groups == 4 and not fit.scaled and 0 < fit.r2 < 1 for fit in report.fits)
    assert "R^2 0." in str(report)


@torch.no_grad()
def test_each_layer_is_fitted_to_what_the_fitted_layers_before_it_give():
    teacher, net, loader = make_net(), make_net(), clips()
    convert_norm(net, "ln", calibrate=loader)
    x = torch.cat(loader)
    normalized = F.group_norm(net[:1](x), 1)
    expected = teacher[:2](x)
    fitted = normalized * net[1].weight.view(8, 1, 1) + net[1].bias.view(8, 1, 1)
    slack = [(fitted - expected).mean((0, 2, 3)), ((fitted - expected) * normalized).mean((0, 2, 3))]
    torch.testing.assert_close(torch.stack(slack), torch.zeros(2, 8), atol=1e-5, rtol=0)  # the normal equations
    before = net[:3](x)  # of the fitted first layer, not of the teacher's
    shortcut = F.group_norm(net[3].shortcut[0](before), 1)
    norm = net[3].shortcut[1]
    residual = shortcut * norm.weight.view(8, 1, 1) + norm.bias.view(8, 1, 1) - teacher[3].shortcut(teacher[:3](x))
    torch.testing.assert_close((residual * shortcut).mean((0, 2, 3)), torch.zeros(8), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_second_pass_finds_the_lines_of_the_first():
    teacher, student = make_net(), make_net()
    first = convert_norm(student, "gn", uneven="nearest", calibrate=clips()).fits
    copied = make_net()
    convert_norm(copied, "gn", uneven="nearest")
    before = {name: value.clone() for name, value in student.state_dict().items()}
    assert not torch.allclose(before["1.weight"], copied.state_dict()["1.weight"])  # the first pass changes it
    second = calibrate_net(teacher, student, ORDER, clips()).layers
    assert [fit.r2 for fit in second] == pytest.approx([fit.r2 for fit in first], abs=1e-6)
    for name, value in student.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_calibration_imitates_better_than_copying():
    teacher, copied, fitted = (make_net() for _ in range(3))
    convert_norm(copied, "gn", uneven="nearest")
    convert_norm(fitted, "gn", uneven="nearest", calibrate=clips())
    (x,) = clips(1, batch=16, seed=5)
    errors = [float(F.mse_loss(net(x), teacher(x))) for net in (copied, fitted)]
    assert errors[0] > 2 * errors[1]


@torch.no_grad()
def test_scaled_kernels_explain_more_and_keep_the_batch_norms_scale():
    fitted, scaled = make_net(), make_net()
    kept = convert_norm(fitted, "gn", uneven="nearest", calibrate=clips())
    fits = convert_norm(scaled, "gn", uneven="nearest", calibrate=clips(), scales="fit").fits
    assert fits[0].r2 > kept.fits[0].r2
    assert all(fit.scaled for fit in fits)
    ratio = (scaled[0].weight / make_net()[0].weight).flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))  # one factor per output channel
    assert (ratio > 0).all()


def test_parameters_stay_the_same_objects_and_the_training_mode_stays():
    net = make_net().train()
    before = list(net.parameters())
    convert_norm(net, "ln", calibrate=clips())
    assert all(one is other for one, other in zip(net.parameters(), before, strict=True))
    assert all(module.training for module in net.modules())
    assert isinstance(net[1], GroupNorm3d)


def test_batches_may_begin_with_the_input_and_their_size_does_not_matter():
    one, other, loader = make_net(), make_net(), clips()
    convert_norm(one, "ln", calibrate=loader)
    convert_norm(other, "ln", calibrate=[(x, torch.zeros(1)) for x in torch.cat(loader).split(1)])
    torch.testing.assert_close(one[1].weight, other[1].weight)


def test_the_number_of_groups_is_chosen_by_what_it_explains():
    net = make_net()
    choices = {
        n: convert_norm(make_net(), "gn", uneven="nearest", calibrate=clips(), groups=[n]).fits[0].r2 for n in (1, 2, 8)
    }
    report = convert_norm(net, "gn", uneven="nearest", calibrate=clips(), groups=[1, 2, 8, 3])
    assert report.fits[0].num_groups == max(choices, key=choices.get)
    assert net[1].num_groups == report.fits[0].num_groups


class Preactivation(nn.Module):
    """The stem's output goes to a norm and past it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 1)
        self.last = nn.BatchNorm2d(8)

    def forward(self, x):
        x = self.stem(x)
        return x + self.last(self.conv(self.norm(x).relu()))


def test_kernels_whose_output_goes_elsewhere_too_are_not_scaled():
    torch.manual_seed(0)
    net = Preactivation().eval()
    stem = net.stem.weight.clone()
    report = convert_norm(net, "gn", uneven="nearest", calibrate=clips(), scales="fit")
    assert {fit.name: fit.scaled for fit in report.fits} == {"norm": False, "last": True}
    assert torch.equal(net.stem.weight, stem)


def test_layers_that_no_clip_reaches_keep_what_they_had():
    net = nn.ModuleDict({"used": nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)), "spare": nn.BatchNorm2d(8)})
    net.forward = net["used"].forward
    report = convert_norm(net, "ln", calibrate=clips())
    assert report.unreached == ("spare",)
    assert torch.equal(net["spare"].weight, torch.ones(8))
    assert "not reached by the calibration: spare" in str(report)


@pytest.mark.parametrize("batches", [[torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), float("nan"))], ["text"]])
def test_a_failure_leaves_the_model_as_it_was(batches):
    net = make_net().train()
    state, kinds = copy.deepcopy(net.state_dict()), [type(m) for m in net.modules()]
    with pytest.raises((ValueError, TypeError), match=r"not a number|invalid combination of arguments"):
        convert_norm(net, "ln", calibrate=batches, scales="fit")
    assert [type(m) for m in net.modules()] == kinds
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(m.training for m in net.modules())


@pytest.mark.parametrize(
    ("norm", "options", "message"),
    [
        ("gn", {"calibrate": itertools.repeat(torch.zeros(1))}, "calibrate is a repeat, which can be read only once"),
        ("gn", {"calibrate": []}, "calibrate gave no batch"),
        ("bn", {"calibrate": [torch.zeros(1)]}, "norm=bn is not; use gn, ln, in"),
        ("gn", {"calibrate": [torch.zeros(1)], "scales": "all"}, "scales=all is unknown; use keep or fit"),
        ("gn", {"calibrate": [torch.zeros(1)], "kernels": "all"}, "kernels=all is unknown; use keep, scale or fit"),
        ("gn", {"scales": "fit"}, "scales=fit, kernels=keep and groups=.* need clips to fit to; give calibrate=LOADER"),
        ("ln", {"calibrate": [torch.zeros(1)], "groups": [4]}, "must be positive numbers of groups, for norm=gn"),
    ],
)
def test_options_that_do_not_fit_are_refused(norm, options, message):
    with pytest.raises(ValueError, match=message):
        convert_norm(make_net(), norm, uneven="nearest", **options)


def test_without_calibration_the_report_has_no_fits():
    report = convert_norm(make_net(), "ln")
    assert isinstance(report, ConversionReport)
    assert (report.fits, report.unreached) == ((), ())


@torch.no_grad()
def test_kernels_are_fitted_to_what_the_layers_before_give(monkeypatch):
    teacher, net, x = make_net(), make_net(), torch.cat(clips())
    seen = []

    def record(kernel, pairs, *, whole):
        seen.append([torch.cat(parts) for parts in zip(*pairs, strict=True)])
        return 3 * kernel.weight if whole else None

    monkeypatch.setattr("vidgn.norms.calibrate.fit_kernel", record)
    report = convert_norm(net, "ln", calibrate=clips(), kernels="fit")
    assert [fit.kernel for fit in report.fits] == [False, True, True, True]  # the first has the teacher's own input
    kernels = [teacher[3].shortcut[0], teacher[3].body[0], teacher[3].body[3]]
    inputs = [net[:3], net[:3], nn.Sequential(net[:3], net[3].body[:3])]
    for given, kernel, before in zip(seen, kernels, inputs, strict=True):
        torch.testing.assert_close(given[0], before(x))
        end = kernel(teacher[3].body[:3](teacher[:3](x)) if kernel is kernels[2] else teacher[:3](x))
        torch.testing.assert_close(given[1], end)
    for fitted, kernel in zip((net[3].shortcut[0], net[3].body[0], net[3].body[3]), kernels, strict=True):
        assert torch.equal(fitted.weight, 3 * kernel.weight)
    assert torch.equal(net[0].weight, teacher[0].weight)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"scales": "fit"}, {"kernels": "fit"}], ids=["lines", "scales", "kernels"])
def test_part_by_part_gives_what_the_whole_net_gives(options, monkeypatch):
    one, other = make_net(), make_net()
    convert_norm(one, "ln", calibrate=clips(), **options)
    monkeypatch.setattr("vidgn.norms.calibrate.find_chain", lambda *args: ())
    convert_norm(other, "ln", calibrate=clips(), **options)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], msg=name)
