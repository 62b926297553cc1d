"""Standardized kernels: the published equation, exact under inflation, keys that stay, and folding."""

import copy
import pickle

import pytest
import timm.layers
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from vidgn.checkpoints.description import Description
from vidgn.models.fuse.fold import fold_batch_norms
from vidgn.models.fuse.rewrite import fuse
from vidgn.models.registry import MODELS, build_model
from vidgn.models.weights.export import export_weights
from vidgn.models.weights.inflate import inflate
from vidgn.models.weights.load import load_weights
from vidgn.norms import convert_norm, make_norm
from vidgn.norms.weight_standardization import (
    STANDARDIZATIONS,
    describe_kernels,
    find_standardization,
    fold_standardization,
    is_standardized,
    normalized_convolutions,
    standardize,
    standardize_weights,
)

HOW = [pytest.param(how, id=name) for name, how in STANDARDIZATIONS.items()]


def kernel(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(shape, generator=generator, dtype=torch.float64) + 0.7).to(dtype)


def small_net(choice=True, *, norm="gn", name="i3d_r50", seed=0):
    """A net whose norms and classifier have random values, so that its logits show every kernel."""
    torch.manual_seed(seed)
    options = {"num_groups": 4} if norm == "gn" else {}
    net = build_model(
        name, num_classes=3, norm=make_norm(norm, **options), width=8, crop=32, dropout=0.0,
        weight_standardization=choice,
    )  # fmt: skip
    for parameter in net.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, 1.0, 0.3)
    nn.init.normal_(net.blocks[-1].proj.weight)
    return net.eval()


def clips(frames=8, seed=1):
    return torch.randn(2, 3, frames, 32, 32, generator=torch.Generator().manual_seed(seed))


# The equations of the module's docstring, written out in numpy for a kernel of (3, 2) x T x 3 x 3.
@pytest.mark.parametrize("frames", [1, 5])
def test_each_convention_is_its_equation(frames):
    w = kernel(4, 2, frames, 3, 3)
    filters = w.flatten(1).numpy()
    centred = filters - filters.mean(1, keepdims=True)
    biased, taps = (centred**2).mean(1, keepdims=True) * frames**2, 2 * 9
    wanted = {
        "scaled": centred / (taps * biased + 1e-4) ** 0.5,
        "timm": centred / (biased + 1e-6) ** 0.5,
        "authors": centred / ((biased * taps / (taps - 1)) ** 0.5 + 1e-5),
        "centered": centred,
    }
    for name, how in STANDARDIZATIONS.items():
        torch.testing.assert_close(standardize(w, how).flatten(1), torch.from_numpy(wanted[name]), rtol=1e-12, atol=0)


def test_timms_and_the_authors_layers_are_the_oracles():
    w, x = kernel(5, 4, 3, 3), kernel(2, 4, 9, 9, seed=1)
    layer = timm.layers.StdConv2d(4, 5, 3, padding=0, bias=False).double()
    layer.weight.data = w
    torch.testing.assert_close(F.conv2d(x, standardize(w, STANDARDIZATIONS["timm"])), layer(x))
    # github.com/joe-siyuan-qiao/WeightStandardization, README: Conv2d.forward
    centred = w - w.mean(dim=1, keepdim=True).mean(dim=2, keepdim=True).mean(dim=3, keepdim=True)
    std = centred.view(centred.size(0), -1).std(dim=1).view(-1, 1, 1, 1) + 1e-5
    torch.testing.assert_close(standardize(w, STANDARDIZATIONS["authors"]), centred / std)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("shape", [(3, 2, 3), (3, 2, 2, 2), (2, 2, 2, 1, 2), (3, 1, 1, 1, 1)])
def test_gradients_are_those_of_finite_differences(how, shape):
    assert torch.autograd.gradcheck(lambda w: standardize(w, how), kernel(*shape).requires_grad_())


@pytest.mark.parametrize("how", HOW)
def test_a_filter_of_zeros_stays_zero_and_has_a_finite_gradient(how):
    w = torch.zeros(2, 3, 3, 3, requires_grad=True)
    y = standardize(w, how)
    y.backward(torch.randn(y.shape))
    assert torch.equal(y, torch.zeros_like(y))
    assert w.grad.isfinite().all()


@pytest.mark.parametrize("how", [choice for choice in HOW if choice.id != "centered"])
def test_scale_and_shift_of_a_filter_do_not_matter(how):
    w = kernel(4, 8, 3, 3)
    torch.testing.assert_close(standardize(5 * w - 3, how), standardize(w, how), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("how", HOW)
def test_an_inflated_kernel_is_the_inflated_standardized_kernel(how):
    w = kernel(4, 3, 3, 3)
    torch.testing.assert_close(standardize(inflate(w, 5), how), inflate(standardize(w, how), 5), rtol=1e-12, atol=1e-12)


def test_layout_and_dtype_of_the_kernel_stay():
    w = kernel(4, 8, 3, 3, 3, dtype=torch.float32)
    last = standardize(w.contiguous(memory_format=torch.channels_last_3d), STANDARDIZATIONS["scaled"])
    assert last.is_contiguous(memory_format=torch.channels_last_3d)
    plain = standardize(w, STANDARDIZATIONS["scaled"])
    assert plain.is_contiguous()  # else the convolution, and with it the net, would go over to channels-last
    assert F.conv3d(torch.randn(1, 8, 4, 5, 5), plain).is_contiguous()
    torch.testing.assert_close(last, standardize(w, STANDARDIZATIONS["scaled"]))
    half = standardize(w.bfloat16(), STANDARDIZATIONS["timm"])
    assert half.dtype == torch.bfloat16
    wanted = standardize(w.bfloat16().float(), STANDARDIZATIONS["timm"]).bfloat16()  # statistics in float32
    assert torch.equal(half, wanted)


# Convolutions that stay: X3D's squeeze and excitation, its shortcut without a norm, its heads; VGG's hidden layers.
@pytest.mark.parametrize(("name", "count", "all_convs"), [
    ("i3d_r50", 53, 53), ("i3d_r101", 104, 104), ("i3d_r50_8x8", 53, 53), ("c2d_r50", 53, 53), ("c2d_r101", 104, 104),
    ("slow_r50", 53, 53), ("slowfast_r50", 110, 110), ("r2plus1d_r50", 69, 69), ("csn_r101", 104, 104),
    ("x3d_xs", 83, 116), ("x3d_s", 83, 116), ("x3d_m", 83, 116), ("x3d_l", 170, 231), ("vgg16", 13, 15),
    ("tsn_r50", 53, 53), ("tsm_r50", 53, 53), ("frames_r50", 53, 53),
    ("bit_r50", 53, 53),
])  # fmt: skip
@pytest.mark.parametrize("norm", ["gn", "bn", "none"])
def test_every_model_standardizes_the_kernels_that_a_norm_follows(name, count, all_convs, norm):
    with torch.device("meta"):
        plain, net = (
            build_model(name, num_classes=4, norm=make_norm(norm), weight_standardization=choice)
            for choice in (False, True)
        )
    convs = [module for module in net.modules() if isinstance(module, nn.Conv3d)]
    # Without a norm the last kernel of each residual block stays, as what the block adds.
    stay = sum(hasattr(block, "norm_c") for block in plain.modules()) if norm == "none" else 0
    assert (len(convs), sum(is_standardized(conv) for conv in convs)) == (all_convs, count - stay)
    assert not is_standardized(plain)
    assert {key: value.shape for key, value in net.state_dict().items()} == {
        key: value.shape for key, value in plain.state_dict().items()
    }


def test_every_model_of_the_table_was_counted():
    assert sum(row.norms is None for row in MODELS.values()) == 18


def test_a_still_clip_has_the_logits_of_the_picture():
    """c2d with standardized kernels, inflated to a net with 3x1x1 kernels, away from the padding in time."""
    torch.manual_seed(0)
    flat = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.ReLU(), nn.Conv2d(8, 5, 3), nn.GroupNorm(5, 5))
    deep = nn.Sequential(
        nn.Conv3d(3, 8, (3, 3, 3)), nn.GroupNorm(4, 8), nn.ReLU(), nn.Conv3d(8, 5, (5, 3, 3)), nn.GroupNorm(5, 5)
    )
    flat, deep = flat.double(), deep.double()
    state = {
        name: inflate(value, deep.state_dict()[name].shape[2]) if value.dim() == 4 else value
        for name, value in flat.state_dict().items()
    }
    deep.load_state_dict(state)
    for how in STANDARDIZATIONS.values():
        nets = [copy.deepcopy(net) for net in (flat, deep)]
        for net in nets:
            standardize_weights(net, how)
        picture = kernel(2, 3, 9, 9, seed=3)
        still = picture.unsqueeze(2).repeat(1, 1, 9, 1, 1)
        torch.testing.assert_close(nets[1](still).mean(2), nets[0](picture), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("choice", [True, "timm", "authors"])
def test_folding_keeps_the_logits_and_leaves_a_plain_net(choice):
    net = small_net(choice)
    wanted, keys = net(clips()), list(net.state_dict())
    raw = net.blocks[0].conv.weight.clone()
    fold_standardization(net)
    torch.testing.assert_close(net(clips()), wanted, rtol=1e-5, atol=1e-5)
    assert not is_standardized(net)
    assert {type(module) for module in net.modules() if isinstance(module, nn.Conv3d)} == {nn.Conv3d}
    assert list(net.state_dict()) == keys
    assert not torch.equal(net.blocks[0].conv.weight, raw)
    once = copy.deepcopy(net.state_dict())
    fold_standardization(net)  # again: nothing is left to fold
    assert all(torch.equal(value, once[name]) for name, value in net.state_dict().items())


def test_a_kernel_that_two_convolutions_share_is_folded_once():
    first, second = nn.Conv2d(4, 4, 3, bias=False), nn.Conv2d(4, 4, 3, bias=False)
    second.weight = first.weight
    net = nn.Sequential(first, nn.GroupNorm(2, 4), second, nn.GroupNorm(2, 4))
    standardize_weights(net, STANDARDIZATIONS["scaled"])
    x = torch.randn(1, 4, 9, 9)
    wanted = net(x)
    assert torch.allclose(fold_standardization(net)(x), wanted, atol=1e-6)


@pytest.mark.parametrize("memory", ["normal", "low"])
def test_the_fused_net_trains_with_the_gradients_of_the_plain_one(memory):
    plain = small_net().double().train()
    fused = fuse(copy.deepcopy(plain), memory=memory)
    x = clips().double()
    for net in (plain, fused):
        net(x).square().sum().backward()
    wanted = {name: parameter.grad for name, parameter in plain.named_parameters()}
    for name, parameter in fused.named_parameters():
        assert (parameter.grad - wanted[name]).norm() <= 1e-8 * wanted[name].norm(), name


def test_fused_folded_and_bfloat16_nets_agree_with_the_plain_one():
    net = small_net()
    wanted = net(clips())
    fused = fuse(copy.deepcopy(net))
    torch.testing.assert_close(fused(clips()), wanted, rtol=1e-4, atol=1e-4)
    assert is_standardized(fused)
    torch.testing.assert_close(fold_standardization(fused)(clips()), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fuse(fold_standardization(copy.deepcopy(net)))(clips()), wanted, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        rounded, folded = fuse(copy.deepcopy(net))(clips()), fused(clips())
    scale = wanted.abs().max()
    assert (rounded.float() - wanted).abs().max() < 0.05 * scale
    assert (folded.float() - wanted).abs().max() < 0.05 * scale


def test_batch_norms_fold_into_standardized_kernels():
    net = small_net(norm="bn")
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    wanted = net(clips())
    scale = float(wanted.detach().abs().max())
    torch.testing.assert_close(fold_batch_norms(fuse(net))(clips()), wanted, rtol=1e-4, atol=1e-4 * scale)


def test_a_copy_a_pickle_and_a_state_dict_are_the_same_net():
    net, other = small_net("timm"), small_net("timm", seed=5)
    wanted = net(clips())
    assert torch.equal(copy.deepcopy(net)(clips()), wanted)
    assert torch.equal(pickle.loads(pickle.dumps(net))(clips()), wanted)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(clips()), wanted)


def test_exported_kernels_are_plain(tmp_path):
    net = small_net()
    wanted = net(clips())
    export_weights(net, tmp_path / "net.pyth", names="pytorchvideo")
    assert is_standardized(net)
    plain = small_net(False, seed=3)
    plain.load_state_dict(torch.load(tmp_path / "net.pyth", weights_only=True)["model_state"])
    torch.testing.assert_close(plain(clips()), wanted, rtol=1e-5, atol=1e-5)


def checkpoint(net, path):
    model = describe_kernels({"name": "i3d_r50", "width": 8}, net)
    norm = {"name": "gn", "num_groups": 4}
    description = Description(("a", "b", "c"), model=model, norm=norm, clip_len=8, span=16, crop=32)
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"state_dict": state, "vidgn": description.to_plain()}, path)
    return path


def test_load_save_load_gives_identical_logits(tmp_path):
    """A standardized net, its folded form, and a plain net that loads either: nothing is standardized twice."""
    net = small_net()
    wanted = net(clips())
    raw = checkpoint(net, tmp_path / "raw.ckpt")
    folded = checkpoint(fold_standardization(copy.deepcopy(net)), tmp_path / "folded.ckpt")
    again = small_net(seed=4)
    assert load_weights(again, raw, classes=("a", "b", "c")).notes == ()
    assert torch.equal(again(clips()), wanted)
    for path in (raw, folded):
        plain = small_net(False, seed=4)
        report = load_weights(plain, path, classes=("a", "b", "c"))
        assert ("the source's standardized kernels were loaded as plain ones" in report.notes) == (path == raw)
        torch.testing.assert_close(plain(clips()), wanted, rtol=1e-5, atol=1e-5)
        saved = checkpoint(plain, tmp_path / "saved.ckpt")
        third = small_net(False, seed=6)
        load_weights(third, saved, classes=("a", "b", "c"))
        assert torch.equal(third(clips()), plain(clips()))


def test_plain_weights_in_a_standardizing_net_are_noted(tmp_path):
    path = checkpoint(small_net(False), tmp_path / "plain.ckpt")
    notes = load_weights(small_net(seed=2), path, classes=("a", "b", "c")).notes
    assert notes == ("the net standardizes its kernels, which the source's were not",)


def test_any_model_is_converted_with_standardized_kernels():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 1), nn.ReLU(), nn.Conv2d(64, 10, 1)
    )
    keys = {key for key in net.state_dict() if "running" not in key and "num_batches" not in key}
    report = convert_norm(net, "gn", weight_standardization="authors")
    assert report.standardized == ("0",)  # the last two are not followed by a norm
    assert "1 kernels standardized" in str(report)
    assert set(net.state_dict()) == keys
    x = torch.randn(2, 3, 8, 8)
    w = net[0].weight.detach()
    filters = w.flatten(1)
    standard = ((filters - filters.mean(1, keepdim=True)) / (filters.std(1, keepdim=True) + 1e-5)).view_as(w)
    wanted = F.group_norm(F.conv2d(x, standard, net[0].bias), 32, net[1].weight, net[1].bias, 1e-5)
    torch.testing.assert_close(net[1](net[0](x)), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("compute", [
    lambda conv: parametrizations.weight_norm(conv), lambda conv: parametrizations.spectral_norm(conv),
    lambda conv: prune.l1_unstructured(conv, "weight", 0.5),
], ids=["weight_norm", "spectral_norm", "pruned"])  # fmt: skip
def test_kernels_computed_from_others_are_refused_and_nothing_is_changed(compute):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    compute(net[2])
    kinds = [type(module) for module in net.modules()]
    with pytest.raises(ValueError, match="weight_standardization needs plain kernels, and 2 compute theirs"):
        convert_norm(net, make_norm("gn", num_groups=2), weight_standardization=True)
    assert [type(module) for module in net.modules()] == kinds


def test_what_no_convention_is_called_is_refused():
    with pytest.raises(ValueError, match="weight_standardization=yes is unknown; use true, false or one of scaled"):
        find_standardization("yes")
    with pytest.raises(ValueError, match="norm=wn normalizes them in another way"):
        build_model("slow_r50", num_classes=3, norm=make_norm("wn"), width=8, weight_standardization=True)


def test_the_order_of_registration_tells_what_a_norm_follows():
    block = nn.ModuleDict({"conv": nn.Conv2d(3, 8, 1), "act": nn.ReLU(), "norm": nn.GroupNorm(2, 8)})
    other = nn.ModuleDict({"conv": nn.Conv2d(8, 4, 1), "linear": nn.Linear(4, 4), "norm": nn.LayerNorm(4)})
    wide = nn.ModuleDict({"conv": nn.Conv2d(8, 4, 1), "norm": nn.BatchNorm2d(8)})  # as in a DenseNet
    assert normalized_convolutions(nn.ModuleList([block, other, wide])) == ("0.conv",)
