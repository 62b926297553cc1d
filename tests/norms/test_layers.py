import doctest
import pickle

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from vidgn.norms import layers
from vidgn.norms.layers import NORMS, GroupNorm3d, is_norm, make_norm
from vidgn.norms.sync import SyncBatchNorm3d


def reference(x: Tensor, weight: Tensor, bias: Tensor, *, num_groups: int, eps: float = 1e-5) -> Tensor:
    x, shape = x.double(), (1, -1) + (1,) * (x.dim() - 2)
    groups = x.reshape(x.shape[0], num_groups, -1)
    mean = groups.mean(-1, keepdim=True)
    std = ((groups - mean).square().mean(-1, keepdim=True) + eps).sqrt()
    return weight.double().view(shape) * ((groups - mean) / std).reshape(x.shape) + bias.double().view(shape)


LAYOUTS = {
    "contiguous": lambda: torch.randn(2, 8, 4, 6, 5),
    "channels_last": lambda: torch.randn(2, 8, 4, 6, 5).to(memory_format=torch.channels_last_3d),
    "transposed": lambda: torch.randn(5, 6, 4, 8, 2).permute(4, 3, 2, 1, 0),
    "strided": lambda: torch.randn(4, 16, 4, 6, 10)[::2, ::2, :, :, ::2],
    "expanded": lambda: torch.randn(2, 8, 1, 6, 5).expand(2, 8, 4, 6, 5),
    "one_sample": lambda: torch.randn(1, 8, 1, 3, 3),
    "picture": lambda: torch.randn(2, 8, 6, 5),
    "picture_channels_last": lambda: torch.randn(2, 8, 6, 5).to(memory_format=torch.channels_last),
    "sequence": lambda: torch.randn(3, 8, 7),
    "vector": lambda: torch.randn(3, 64),
}
# (dtype of the input, dtype of the parameters, tolerance relative to the largest value)
DTYPES = [
    (torch.float64, torch.float64, 1e-13),
    (torch.float32, torch.float32, 1e-5),
    (torch.bfloat16, torch.bfloat16, 2e-2),
    (torch.bfloat16, torch.float32, 2e-2),
    (torch.float16, torch.float16, 4e-3),
    (torch.float16, torch.float32, 4e-3),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("dtype", "param_dtype", "tolerance"), DTYPES)
def test_group_norm_equals_the_float64_reference(layout, dtype, param_dtype, tolerance):
    torch.manual_seed(0)
    x = (LAYOUTS[layout]() + 2).to(dtype)
    layer = GroupNorm3d(x.shape[1], num_groups=4).to(param_dtype)
    with torch.no_grad():
        layer.weight.uniform_(0.5, 2)
        layer.bias.normal_()
    x.requires_grad_()
    y = layer(x)
    expected = reference(x, layer.weight, layer.bias, num_groups=4)
    assert y.dtype == dtype
    assert y.shape == x.shape
    upstream = torch.randn(y.shape).to(dtype)
    inputs = (x, layer.weight, layer.bias)
    for got, want in zip(
        (y, *torch.autograd.grad(y, inputs, upstream)),
        (expected, *torch.autograd.grad(expected, inputs, upstream.double())),
        strict=True,
    ):
        scale = max(want.abs().max().item(), 1.0)
        assert (got.double() - want.double()).abs().max().item() <= tolerance * scale


@pytest.mark.parametrize("layout", ["channels_last", "picture_channels_last"])
def test_channels_last_input_gives_channels_last_output(layout):
    x = LAYOUTS[layout]()
    assert GroupNorm3d(8, num_groups=4)(x).stride() == x.stride()


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "picture_channels_last"])
def test_a_mean_far_from_zero_costs_no_accuracy(layout):
    torch.manual_seed(0)
    x = LAYOUTS[layout]() + 300.0  # torch's own channels-last kernel is off by 0.1 here
    expected = reference(x, torch.ones(8), torch.zeros(8), num_groups=4)
    torch.testing.assert_close(GroupNorm3d(8, num_groups=4)(x).double(), expected, rtol=0, atol=1e-3)


def test_one_group_is_layer_norm():
    torch.manual_seed(0)
    x = torch.randn(3, 6, 2, 4, 5, dtype=torch.float64)
    got = make_norm("ln")(6).double()(x)
    torch.testing.assert_close(got, F.layer_norm(x, x.shape[1:]))


def test_a_group_per_channel_is_instance_norm():
    torch.manual_seed(0)
    x = torch.randn(3, 6, 2, 4, 5, dtype=torch.float64)
    got = make_norm("in")(6).double()(x)
    torch.testing.assert_close(got, F.instance_norm(x))


@pytest.mark.parametrize("name", ["gn", "ln", "in"])
def test_a_sample_does_not_depend_on_the_rest_of_the_batch(name):
    torch.manual_seed(0)
    norm = make_norm(name)(64)
    x = torch.randn(4, 64, 2, 3, 3)
    alone, others = norm(x[1:2]), norm(torch.cat([x[:1] * 100, x[1:]]))
    assert torch.equal(norm(x)[1:2], alone)
    assert torch.equal(others[1:2], alone)


def test_batch_norm_depends_on_the_rest_of_the_batch():
    torch.manual_seed(0)
    norm, x = make_norm("bn")(64), torch.randn(4, 64, 2, 3, 3)
    assert not torch.allclose(norm(x)[1:2], norm(torch.cat([x[:1] * 100, x[1:]]))[1:2])


@pytest.mark.parametrize("name", ["gn", "ln", "in"])
def test_training_and_evaluation_are_the_same(name):
    norm, x = make_norm(name)(64), torch.randn(2, 64, 2, 3, 3)
    assert torch.equal(norm.train()(x), norm.eval()(x))


def test_group_norm_takes_the_place_of_batch_norm():
    layer = GroupNorm3d(num_features=64, eps=1e-3, momentum=0.1)
    assert (layer.num_features, layer.num_groups, layer.eps) == (64, 32, 1e-3)
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert list(GroupNorm3d(64, affine=False).state_dict()) == []


def test_torchs_argument_order_is_a_type_error():
    with pytest.raises(TypeError, match="positional argument"):
        GroupNorm3d(32, 64)


def test_groups_that_do_not_divide_the_channels_are_refused_with_those_that_do():
    allowed = r"must divide num_features \(48\); use one of 1, 2, 3, 4, 6, 8, 12, 16, 24, 48\."
    with pytest.raises(ValueError, match=r"num_groups \(32\) " + allowed):
        GroupNorm3d(48)
    with pytest.raises(ValueError, match=r"num_groups \(0\) " + allowed):
        make_norm("gn", num_groups=0)(48)
    with pytest.raises(ValueError, match=r"channels_per_group \(32\) " + allowed):
        make_norm("gn", channels_per_group=32)(48)


@pytest.mark.parametrize(
    ("options", "groups"),
    [
        ({}, (32, 32)),
        ({"num_groups": 16}, (16, 16)),
        ({"channels_per_group": 16}, (4, 16)),
        ({"num_groups": 8, "channels_per_group": None}, (8, 8)),  # null in a config: not given
    ],
)
def test_the_options_of_gn_set_the_groups(options, groups):
    norm = make_norm("gn", **options)
    assert (norm(64).num_groups, norm(256).num_groups) == groups


def test_the_table_builds_the_layer_it_names():
    names = ["gn", "ln", "in", "bn", "sync_bn", "sub_bn", "frozen_bn", "batch_renorm", "wn", "none"]
    names += ["frn", "evonorm_s0", "bcn", "switchable", "mabn", "dyt", "derf"]
    assert list(NORMS) == names
    assert (make_norm("ln")(64).num_groups, make_norm("in")(64).num_groups) == (1, 64)
    assert type(make_norm("bn")(64)) is nn.BatchNorm3d
    assert type(make_norm("sync_bn")(64)) is SyncBatchNorm3d
    assert type(make_norm("none")(64)) is nn.Identity


def test_an_option_set_by_the_user_wins_over_the_builders():
    passed_by_builder = {"eps": 1e-5, "momentum": 0.1}
    norm = make_norm("bn", eps=1e-3, momentum=0.01)(num_features=8, **passed_by_builder)
    assert (norm.eps, norm.momentum) == (1e-3, 0.01)
    norm = make_norm("bn")(8, eps=1e-4, momentum=0.2)
    assert (norm.eps, norm.momentum) == (1e-4, 0.2)
    assert make_norm("gn")(64, **passed_by_builder).eps == 1e-5


def test_a_chosen_norm_prints_compares_and_pickles():
    norm = make_norm("gn", num_groups=16)
    assert repr(norm) == "ConfiguredNorm(name='gn', options=(('num_groups', 16),))"
    assert pickle.loads(pickle.dumps(norm)) == norm != make_norm("gn")


def test_an_unknown_norm_lists_the_choices():
    with pytest.raises(ValueError, match="norm=group is unknown; use one of gn, ln, in, bn"):
        make_norm("group")


def test_an_option_a_norm_does_not_have_lists_those_it_has():
    message = "norm=gn has no option momentum; it has num_groups, channels_per_group, eps"
    with pytest.raises(ValueError, match=message):
        make_norm("gn", momentum=0.1)
    with pytest.raises(ValueError, match="norm=bn has no option num_groups; it has eps, momentum"):
        make_norm("bn", num_groups=32)
    with pytest.raises(ValueError, match="norm=none has no option eps; it has none"):
        make_norm("none", eps=1e-5)


def test_both_options_of_gn_are_refused():
    with pytest.raises(ValueError, match=r"num_groups \(8\) and channels_per_group \(16\) both set the size"):
        make_norm("gn", num_groups=8, channels_per_group=16)


NORM_LAYERS = [
    *(make_norm(name)(32) for name in NORMS if name not in ("none", "wn")),
    *(cls(4) for cls in (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm1d)),
    *(cls(4, affine=True) for cls in (nn.InstanceNorm2d, nn.InstanceNorm3d)),
    *(nn.LazyBatchNorm3d(), nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.RMSNorm(4), nn.LocalResponseNorm(2)),
    *(
        nn.CrossMapLRN2d(2),
        torchvision.ops.FrozenBatchNorm2d(4),
        torchvision.ops.misc.Conv2dNormActivation(3, 4)[1],
    ),
]


@pytest.mark.parametrize("layer", NORM_LAYERS, ids=lambda layer: type(layer).__name__)
def test_every_norm_is_recognised(layer):
    assert is_norm(layer)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv3d(4, 4, 1), nn.Linear(4, 4), nn.PReLU(4), nn.Sequential(nn.BatchNorm3d(4))]
    + [make_norm(name)(4) for name in ("none", "wn")],
)
def test_other_layers_are_no_norms(layer):
    assert not is_norm(layer)


def test_the_examples_in_the_docstrings_run():
    assert doctest.testmod(layers) == (0, 2)
