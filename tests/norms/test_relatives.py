"""The norms that came after the paper, each against its equation in float64 and, where it has one, timm's layer."""

import copy

import pytest
import torch
from timm.layers.evo_norm import EvoNorm2dS0
from timm.layers.filter_response_norm import FilterResponseNormTlu2d
from torch import nn
from torch.nn import functional as F

from vidgn import convert_norm, list_norms
from vidgn.models.fuse.rewrite import fuse
from vidgn.models.registry import build_net
from vidgn.norms import NORMS, make_norm
from vidgn.norms.groups import NearestGroups
from vidgn.norms.relatives.activation import ACTIVATED, is_activated
from vidgn.norms.relatives.evonorm import EvoNormS03d
from vidgn.norms.relatives.moving_average import MovingAverageBatchNorm3d
from vidgn.norms.relatives.response import FilterResponseNorm3d
from vidgn.runs.speed import SpeedSpec, check_compilable

NAMES = ("frn", "evonorm_s0", "bcn", "switchable", "mabn", "dyt", "derf")
OF_A_CLIP = ("frn", "evonorm_s0", "dyt", "derf")  # training too looks at one clip alone
GROUPS = {name: {"num_groups": 2} for name in ("bcn", "evonorm_s0")}


def layer(name, channels=6, **options):
    torch.manual_seed(0)
    made = make_norm(name, **GROUPS.get(name, {}), **options)(channels).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, 0.8, 0.3)
    return made


def clips(*, seed=1, frames=3):
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(4, 6, frames, 3, 2, generator=draws, dtype=torch.float64) * 2 + 0.5


def line(made, x):
    shape = (-1, 1, 1, 1)
    return x * made.weight.view(shape) + made.bias.view(shape)


def test_frn_is_its_equation_and_timms_layer():
    made, x = layer("frn", eps=1e-6), clips()
    y = line(made, x / (x.square().mean((2, 3, 4), keepdim=True) + 1e-6).sqrt())
    torch.testing.assert_close(made(x), torch.maximum(y, made.tau.view(-1, 1, 1, 1)))
    theirs = FilterResponseNormTlu2d(6, eps=1e-6).double()
    theirs.load_state_dict(made.state_dict())
    torch.testing.assert_close(made(x[:, :, 0]), theirs(x[:, :, 0]))
    made.drop_activation()
    torch.testing.assert_close(made(x), y)


def test_evonorm_is_its_equation_and_timms_layer():
    made, x = layer("evonorm_s0"), clips()
    deviation = (
        x.reshape(4, 2, -1).var(2, correction=0).add(1e-5).sqrt().repeat_interleave(3, 1)[:, :, None, None, None]
    )
    wanted = line(made, x * torch.sigmoid(made.v.view(-1, 1, 1, 1) * x) / deviation)
    torch.testing.assert_close(made(x), wanted)
    theirs = EvoNorm2dS0(6, groups=2).double()
    theirs.load_state_dict(made.state_dict())
    torch.testing.assert_close(made(x[:, :, 0]), theirs(x[:, :, 0]), rtol=1e-6, atol=1e-6)  # timm divides in float32
    made.drop_activation()
    torch.testing.assert_close(made(x), line(made, x))


def test_bcn_normalizes_by_moved_statistics_then_by_groups():
    made, x = layer("bcn", momentum=0.25), clips()
    mean, var = x.mean((0, 2, 3, 4)) * 0.25, 0.75 + 0.25 * x.var((0, 2, 3, 4), correction=0)
    z = F.batch_norm(x, mean, var, made.batch_weight, made.batch_bias, training=False)
    wanted = F.group_norm(z, 2, made.weight, made.bias)
    torch.testing.assert_close(made.train()(x), wanted)
    torch.testing.assert_close((made.running_mean, made.running_var), (mean, var))
    torch.testing.assert_close(made.eval()(x), wanted)  # evaluation: the same statistics, which stay
    torch.testing.assert_close(made.running_var, var)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_switchable_norm_with_one_choice_is_instance_layer_or_batch_norm(which, training):
    made, x = layer("switchable", momentum=1.0), clips()
    made.train()(x)  # the running statistics are those of x
    made.train(training)
    with torch.no_grad():
        for weights in (made.mean_weight, made.var_weight):
            weights.copy_(torch.full((3,), -100.0).index_fill(0, torch.tensor(which), 100.0))
    wanted = (
        lambda: F.instance_norm(x),
        lambda: F.group_norm(x, 1),
        lambda: F.batch_norm(x, None, None, training=True),
    )[which]()
    torch.testing.assert_close(made(x), line(made, wanted))


def test_switchable_norm_mixes_means_and_variances_apart():
    made, x = layer("switchable"), clips()
    axes = ((2, 3, 4), (1, 2, 3, 4), (0, 2, 3, 4))
    means = [x.mean(a, keepdim=True) for a in axes]
    variances = [x.var(a, correction=0, keepdim=True) for a in axes]
    mean = sum(w * m for w, m in zip(made.mean_weight.softmax(0), means, strict=True))
    var = sum(w * v for w, v in zip(made.var_weight.softmax(0), variances, strict=True))
    torch.testing.assert_close(made.train()(x), line(made, (x - mean) / (var + 1e-5).sqrt()))


def test_mabn_with_a_buffer_of_one_is_batch_norm_without_a_mean():
    """Forward and backward: the average is the batch's own, so autograd through the equation is the oracle."""
    made = layer("mabn", buffer=1, warmup_steps=0, momentum=1.0)
    x = clips().requires_grad_()
    grad = clips(seed=2)
    got = torch.autograd.grad(made.train()(x), x, grad)[0]
    wanted = line(made, x / (x.square().mean((0, 2, 3, 4), keepdim=True) + 1e-5).sqrt())
    torch.testing.assert_close(made(x), wanted)
    torch.testing.assert_close(got, torch.autograd.grad(wanted, x, grad)[0])


def test_mabn_averages_over_steps_in_both_passes():
    """Algorithm 1, written out: three steps with a buffer of two and no warm-up."""
    made = layer("mabn", buffer=2, warmup_steps=0, momentum=0.5, r_max=1.5).train()
    shape, running = (-1, 1, 1, 1), torch.ones(6, dtype=torch.float64)
    squares, products = [], []
    for step in range(3):
        x, grad = clips(seed=step).requires_grad_(), clips(seed=10 + step)
        got = torch.autograd.grad(made(x), x, grad)[0]
        with torch.no_grad():
            squares.append(x.square().mean((0, 2, 3, 4)))
            averaged = step >= 1
            chi = (squares[-1] + squares[-2]) / 2 if averaged else squares[-1]
            share = 0.5 if averaged else 1.0
            running = (1 - share) * running + share * chi
            ratio = ((chi + 1e-5) / (running + 1e-5)).sqrt().clamp(1 / 1.5, 1.5).view(shape)
            deviation = (chi + 1e-5).sqrt().view(shape)
            z, g = x / deviation, grad * made.weight.view(shape) * ratio
            products.append((g * z).mean((0, 2, 3, 4)))
            psi = (products[-1] + products[-2]) / 2 if averaged else products[-1]
            wanted = (g - z * psi.view(shape)) / deviation
        torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(made.running_var, running)
    x = clips(seed=5)
    torch.testing.assert_close(made.eval()(x), line(made, x / (running + 1e-5).sqrt().view(shape)))


@pytest.mark.parametrize(("option", "value"), [("buffer", 0), ("r_max", 0.5)])
def test_options_of_mabn_out_of_range_are_refused(option, value):
    with pytest.raises(ValueError, match=rf"{option} \({value}\) must be at least 1"):
        MovingAverageBatchNorm3d(4, **{option: value})


@pytest.mark.parametrize("name", GROUPS)
def test_groups_that_do_not_divide_the_channels_are_refused(name):
    with pytest.raises(ValueError, match=r"num_groups \(4\) must divide num_features \(6\); use one of 1, 2, 3, 6"):
        make_norm(name, num_groups=4)(6)
    assert NearestGroups(make_norm(name, num_groups=4))(6).num_groups == 3


def test_dyt_and_derf_are_their_lines():
    x = clips()
    made = layer("dyt")
    torch.testing.assert_close(made(x), line(made, torch.tanh(made.alpha * x)))
    made = layer("derf")
    torch.testing.assert_close(made(x), line(made, torch.erf(made.alpha * x + made.shift)))
    assert (make_norm("dyt", alpha=0.8)(4).alpha.item(), make_norm("derf")(4).shift.item()) == (pytest.approx(0.8), 0.0)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mabn"])  # its gradient is no derivative
def test_gradients_are_those_of_the_layer_in_evaluation(name):
    made = layer(name).eval()
    x = clips()[:2, :, :1].requires_grad_()
    assert torch.autograd.gradcheck(made, (x,))


@pytest.mark.parametrize("name", ["switchable"])
def test_gradients_through_the_batch_are_right(name):
    made = layer(name).train()
    assert torch.autograd.gradcheck(lambda x: copy.deepcopy(made)(x), (clips()[:2, :, :1].requires_grad_(),))


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_depends_on_its_batch_only_where_the_norm_says_so(name):
    made, x = layer(name).train(), clips()
    others = torch.cat([x[:1] * 5, x[1:]])
    same = torch.allclose(copy.deepcopy(made)(x)[1:], copy.deepcopy(made)(others)[1:], rtol=1e-9)
    assert same == (name in OF_A_CLIP)
    made.eval()
    torch.testing.assert_close(made(x)[1:], made(others)[1:])  # in evaluation none does


@pytest.mark.parametrize("name", NAMES)
def test_frames_are_rows_of_a_picture_in_other_shapes(name):
    """T folded into H: the 5-D layer is the 4-D one."""
    made, x = layer(name).train(), clips()
    folded = copy.deepcopy(made)(x.flatten(2, 3))
    torch.testing.assert_close(made(x).flatten(2, 3), folded)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "bcn"])  # torch's own layers have no float16 here
def test_values_of_half_precision_are_normalized_in_float32(name):
    made, x = layer(name).float().train(), clips().float() * 300  # 300^2 is out of the range of float16
    wanted = copy.deepcopy(made)(x)
    got = made(x.half())
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.float(), wanted, rtol=2e-2, atol=2e-2)


def net(norm, *, name="i3d_r50", **options):
    torch.manual_seed(0)
    model = {"name": name, "width": 8, "dropout": 0.0, **options}
    return build_net(model=model, norm={"name": norm}, crop=32, num_classes=3)


@pytest.mark.parametrize("norm", ["frn", "evonorm_s0"])
@pytest.mark.parametrize(
    ("name", "activated", "plain", "left"),
    [
        ("i3d_r50", 33, 20, 16),
        ("x3d_s", 54, 29, 41),
        ("slowfast_r50", 70, 40, 32),
        ("tsm_r50", 33, 20, 16),
    ],  # left: behind sums, in excitation
)
def test_a_norm_with_its_activation_takes_the_place_of_the_relu(norm, name, activated, plain, left):
    made = net(norm, name=name)
    layers = [module for module in made.modules() if isinstance(module, ACTIVATED)]
    assert sum(map(is_activated, layers)) == activated
    assert len(layers) == activated + plain
    assert sum(isinstance(module, nn.ReLU | nn.SiLU) for module in made.modules()) == left


@pytest.mark.slow
@pytest.mark.parametrize("norm", NAMES)
def test_fused_and_exported_nets_give_the_same(norm):
    made, clip = net(norm).eval(), torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        wanted = made(clip)
        program = torch.export.export(made, (clip,))
        torch.testing.assert_close(program.module()(clip), wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(fuse(made)(clip), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("norm", NAMES)
def test_layers_are_traced_whole_by_torchs_compiler(norm):
    """In training, but for mabn, whose training counts steps and is refused."""
    made, x = layer(norm).float().train(norm != "mabn"), clips().float()
    wanted = copy.deepcopy(made)(x)
    torch.testing.assert_close(torch.compile(made, fullgraph=True, backend="eager")(x), wanted)


def test_training_with_mabn_is_not_compiled():
    with pytest.raises(ValueError, match="compile=true cannot compile norm=mabn, which counts its training steps"):
        check_compilable("mabn", SpeedSpec(compile=True))
    check_compilable("mabn", SpeedSpec())
    check_compilable("frn", SpeedSpec(compile=True))


def test_mabn_has_centred_kernels():
    made = net("mabn")
    assert made.blocks[1].res_blocks[0].branch2.conv_b.standardization.centered
    standardized = net("mabn", weight_standardization=True)
    assert standardized.blocks[1].res_blocks[0].branch2.conv_b.standardization.scaled


def plain_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_others_is_converted(name):
    model = plain_net()
    weight = model[1].weight
    report = convert_norm(model, make_norm(name, **GROUPS.get(name, {})))
    assert [change.name for change in report.changed] == ["1"]
    assert model[1].weight is weight
    assert isinstance(model[2], nn.Identity) == (name in ("frn", "evonorm_s0"))
    assert bool(report.standardized) == (name == "mabn")
    assert model(torch.randn(2, 3, 6, 6)).shape == (2, 4, 2, 2)


def test_statistics_of_batch_norm_go_over_where_the_norm_has_them():
    model = plain_net()
    nn.init.uniform_(model[1].running_var)
    stored = model[1].running_var.clone()
    convert_norm(model, make_norm("bcn", num_groups=2))
    assert torch.equal(model[1].running_var, stored)


@pytest.mark.parametrize("name", ["frn", "evonorm_s0"])
def test_a_model_whose_activations_are_unknown_is_left_as_it_was(name):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3))
    with pytest.raises(
        ValueError, match=f"norm={name} contains the activation, and which one follows 1 cannot be told"
    ):
        convert_norm(model, make_norm(name, **GROUPS.get(name, {})))
    assert type(model[1]) is nn.BatchNorm2d


def test_every_norm_says_in_a_line_what_it_is_for():
    purposes = list_norms()
    assert list(purposes) == list(NORMS)
    assert all(10 < len(text) < 90 and "\n" not in text for text in purposes.values())
    assert len(set(purposes.values())) == len(NORMS)


def test_the_layers_print_their_options():
    assert repr(FilterResponseNorm3d(4)) == "FilterResponseNorm3d(4, eps=1e-06, act=True)"
    assert repr(EvoNormS03d(4, num_groups=2)) == "EvoNormS03d(4, num_groups=2, eps=1e-05, act=True)"
