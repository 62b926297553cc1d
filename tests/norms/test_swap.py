import pytest
import torch
import torchvision
from torch import nn

from vidgn.norms import GroupNorm3d, make_norm
from vidgn.norms.batch import FrozenBatchNorm3d, SubBatchNorm3d
from vidgn.norms.swap import Misfit, Stay, replace_layer
from vidgn.norms.sync import SyncBatchNorm3d


def swap(old, norm, *, dims=None, fold=False, nearest=False):
    norm = make_norm(norm) if isinstance(norm, str) else norm
    return replace_layer(old, norm, dims=dims, fold=fold, nearest=nearest)


def trained(layer, *shape):
    torch.manual_seed(0)
    for tensor in layer.parameters():
        nn.init.uniform_(tensor, 0.5, 2)
    layer.train()
    for _ in range(3):
        layer(torch.randn(shape) * 2 + 1)
    return layer


@pytest.mark.parametrize(
    ("old", "shape"),
    [
        (nn.BatchNorm1d(8), (4, 8)),
        (nn.BatchNorm1d(8), (4, 8, 5)),
        (nn.BatchNorm2d(8), (4, 8, 5, 5)),
        (nn.BatchNorm3d(8), (4, 8, 2, 5, 5)),
        (nn.SyncBatchNorm(8), (4, 8, 5, 5)),
        (SyncBatchNorm3d(8), (4, 8, 5, 5)),
        (nn.InstanceNorm2d(8, affine=True), (4, 8, 5, 5)),
        (nn.GroupNorm(2, 8), (4, 8, 5, 5)),
        (SubBatchNorm3d(8), (4, 8, 5, 5)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_every_kind_becomes_group_norm_with_its_weight_and_bias(old, shape):
    new, _ = swap(trained(old, *shape), make_norm("gn", num_groups=4))
    assert type(new) is GroupNorm3d
    assert new.weight is old.weight  # the same parameters: an optimizer's list stays right
    assert new.bias is old.bias
    x = torch.randn(shape)
    torch.testing.assert_close(new(x), nn.functional.group_norm(x, 4, old.weight, old.bias))


@pytest.mark.parametrize(
    ("old", "shape", "kind"),
    [
        (nn.InstanceNorm1d(8), (4, 8, 5), nn.BatchNorm1d),
        (nn.InstanceNorm2d(8), (4, 8, 5, 5), nn.BatchNorm2d),
        (nn.InstanceNorm3d(8), (4, 8, 2, 5, 5), nn.BatchNorm3d),
        (torchvision.ops.FrozenBatchNorm2d(8), (4, 8, 5, 5), nn.BatchNorm2d),
    ],
)
def test_batch_norm_has_the_axes_of_the_layer_it_replaces(old, shape, kind):
    new, _ = swap(old, "bn", dims=None)
    assert type(new) is kind
    assert new(torch.randn(shape)).shape == shape


def test_batch_norm_for_a_group_norm_takes_the_axes_of_the_convolutions():
    assert type(swap(nn.GroupNorm(2, 8), "bn", dims=2)[0]) is nn.BatchNorm2d
    message = "batch norm needs the number of axes, and the model's convolutions do not agree on one"
    assert swap(nn.GroupNorm(2, 8), "bn") == Stay(message)


@pytest.mark.parametrize("name", ["bn", "sync_bn", "sub_bn", "frozen_bn", "batch_renorm"])
def test_running_statistics_go_to_norms_that_have_them(name):
    old = trained(nn.BatchNorm2d(6, eps=1e-3), 4, 6, 5, 5)
    new, note = swap(old, name)
    x = torch.randn(2, 6, 5, 5)
    torch.testing.assert_close(new.eval()(x), old.eval()(x))
    assert note == ""


def test_the_parts_of_a_sub_batch_norm_go_on_together():
    old = trained(SubBatchNorm3d(6, num_splits=2), 4, 6, 5, 5)
    new, _ = swap(old, "bn", dims=2)
    x = torch.randn(2, 6, 5, 5)
    torch.testing.assert_close(new.eval()(x), old.eval()(x))
    assert new.num_batches_tracked == 0


def test_folding_leaves_a_line_per_channel():
    old = trained(nn.BatchNorm2d(6), 4, 6, 5, 5)
    expected = old.eval()(x := torch.randn(2, 6, 5, 5))
    new, _ = swap(old, "frozen_bn", fold=True)
    torch.testing.assert_close(new(x), expected)
    torch.testing.assert_close(new.weight.view(1, 6, 1, 1) * x + new.bias.view(1, 6, 1, 1), expected)
    assert (new.running_mean == 0).all()


@pytest.mark.parametrize(
    ("old", "norm", "note"),
    [
        (nn.BatchNorm2d(64), "gn", "running statistics dropped"),
        (nn.BatchNorm2d(64), "none", "weight dropped, bias dropped, running statistics dropped"),
        (nn.BatchNorm2d(64), "wn", "weight dropped, running statistics dropped"),
        (nn.InstanceNorm2d(64), "ln", "weight new, bias new"),
        (nn.GroupNorm(32, 64), "sub_bn", "running statistics start from their initial values"),
        (nn.BatchNorm2d(64, momentum=None), "sub_bn", "the cumulative average became one of momentum 0.1"),
        (nn.BatchNorm2d(64, momentum=None), "sync_bn", ""),
        (nn.GroupNorm(32, 64), "in", ""),
    ],
)
def test_what_is_not_the_same_is_noted(old, norm, note):
    assert swap(old, norm)[1] == note


# channels, options -> the nearest number of groups with two channels or more in each
@pytest.mark.parametrize(
    ("channels", "options", "groups"),
    [
        (230, {}, 23),
        (45, {}, 15),
        (8, {}, 4),
        (7, {}, 1),  # a prime: one group
        (230, {"channels_per_group": 16}, 10),  # 14.4 groups wanted
        (48, {"channels_per_group": 32}, 2),  # 1.5 wanted
        (48, {"num_groups": 16}, 16),  # fits
    ],
)
def test_uneven_channels_get_the_nearest_groups(channels, options, groups):
    new, note = swap(nn.BatchNorm2d(channels), make_norm("gn", **options), nearest=True)
    assert new.num_groups == groups
    fits = options == {"num_groups": 16}
    assert (f"{groups} groups of {channels // groups}" in note) is not fits


def test_uneven_channels_are_a_misfit_otherwise():
    assert swap(nn.BatchNorm2d(45), "gn") == Misfit(45, "num_groups (32)")
    norm = make_norm("gn", channels_per_group=32)
    assert swap(nn.BatchNorm2d(48), norm) == Misfit(48, "channels_per_group (32)")


def test_settings_device_dtype_and_mode_carry_over():
    old = nn.BatchNorm2d(64, eps=1e-3, momentum=0.01).to(torch.bfloat16).eval()
    old.weight.requires_grad_(False)
    new, _ = swap(old, "sub_bn")
    assert (new.eps, new.momentum, new.training) == (1e-3, 0.01, False)
    assert {t.dtype for t in new.state_dict().values()} == {torch.bfloat16}
    assert not new.weight.requires_grad
    assert swap(nn.BatchNorm2d(64).to("meta"), "frozen_bn")[0].weight.device.type == "meta"
    assert swap(old, make_norm("gn", eps=1e-6))[0].eps == 1e-6  # asked for: wins


def test_frozen_weights_can_learn_again():
    new, _ = swap(FrozenBatchNorm3d(64), "gn")
    assert new.weight.requires_grad
    assert isinstance(new.weight, nn.Parameter)


class WithActivation(nn.BatchNorm2d):
    def forward(self, input):
        return super().forward(input).relu()


class Renamed(nn.BatchNorm2d):
    """Adds nothing."""


def hooked(layer):
    layer.register_forward_hook(lambda module, args, output: output)
    return layer


@pytest.mark.parametrize(
    ("old", "norm", "reason"),
    [
        (nn.LayerNorm(64), "gn", "it normalizes in a way of its own"),
        (nn.LocalResponseNorm(2), "gn", "it normalizes in a way of its own"),
        (WithActivation(64), "gn", "it normalizes in a way of its own"),
        (nn.LazyBatchNorm2d(), "gn", "it has not seen a batch yet"),
        (hooked(nn.BatchNorm2d(64)), "gn", "it has hooks, which would be lost"),
        (nn.GroupNorm(32, 64), "frozen_bn", "it has no stored statistics to freeze"),
        (nn.BatchNorm2d(64, track_running_stats=False), "frozen_bn", "it has no stored statistics to freeze"),
    ],
)
def test_a_layer_that_cannot_be_replaced_says_why(old, norm, reason):
    assert swap(old, norm) == Stay(reason)


def test_a_subclass_that_changes_nothing_is_replaced():
    assert type(swap(Renamed(64), "gn")[0]) is GroupNorm3d
