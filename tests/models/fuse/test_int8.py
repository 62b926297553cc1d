"""Convolutions in eight-bit integers: what they compute, which ones do, and what stays as it was."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vidgn.models.builders import I3DSpec, build_i3d
from vidgn.models.fuse.compile import compile_net
from vidgn.models.fuse.conv import ViewConv3d
from vidgn.models.fuse.int8 import Int8Conv3d, quantize
from vidgn.models.fuse.rewrite import fuse
from vidgn.norms import make_norm

pytestmark = pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="this processor has no AVX-512 VNNI")


@pytest.fixture
def net():
    torch.manual_seed(0)
    return build_i3d(I3DSpec(num_classes=5, width=8, window=2, dropout=0.0), norm=make_norm("gn", num_groups=4)).eval()


def clips(count=2):
    return torch.randn(count, 3, 8, 64, 64, generator=torch.Generator().manual_seed(1))


def rounded(x, w, bias, **moves):
    """The convolution of the rounded numbers, in float64, clip by clip."""
    r = w.double().abs().flatten(1).max(1).values[:, None, None, None, None] / 127
    steps = 127 if (x < 0).any() else 255
    done = []
    for clip in x.double():
        s = clip.abs().max() / steps
        done.append(F.conv3d((clip / s).round()[None], (w.double() / r).round(), **moves) * s * r[:, 0][None])
    return torch.cat(done) + (0 if bias is None else bias.double()[:, None, None, None])


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((1, 1, 1), (1, 1, 1), (0, 0, 0)),
        ((3, 1, 1), 1, (1, 0, 0)),
        ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        (3, 2, 1),
        (1, (1, 2, 2), 0),
    ],
)
def test_it_is_the_convolution_of_the_rounded_numbers(signed, bias, kernel, stride, padding):
    torch.manual_seed(0)
    conv = fuse(nn.Sequential(nn.Conv3d(5, 7, kernel, stride, padding, bias=bias))).eval()
    x = torch.randn(3, 5, 4, 6, 7) * torch.tensor([1.0, 30.0, 0.01])[:, None, None, None, None]
    x = x if signed else x.relu()
    wanted = rounded(x, conv[0].weight.detach(), conv[0].bias, stride=stride, padding=padding)
    with torch.no_grad():
        y = quantize(conv, x)(x)
    assert type(conv[0]) is Int8Conv3d
    assert y.dtype == torch.float32
    assert (y - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_a_net_in_eight_bits_gives_nearly_the_same_logits(net):
    with torch.no_grad():
        wanted = net(clips())
        got = quantize(fuse(copy.deepcopy(net)), clips(1))(clips())
    assert 0 < (got - wanted).norm() < 0.03 * wanted.norm()


def test_all_inputs_but_the_first_are_taken_as_never_negative(net):
    quantize(fuse(net), clips(1))
    signs = {name: layer.signed for name, layer in net.named_modules() if isinstance(layer, Int8Conv3d)}
    assert len(signs) == 53
    assert [name for name, signed in signs.items() if signed] == ["blocks.0.conv"]


def test_a_clip_is_scaled_by_itself_and_not_by_its_batch():
    torch.manual_seed(0)
    conv = fuse(nn.Sequential(nn.Conv3d(3, 8, 3))).eval()
    x = clips(3) * torch.tensor([1.0, 5.0, 0.1])[:, None, None, None, None]
    with torch.no_grad():
        quantize(conv, x)
        assert torch.equal(conv(x), torch.cat([conv(clip[None]) for clip in x]))


def test_parameters_keep_their_names_and_values(net):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    after = quantize(fuse(net), clips(1)).state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.slow
def test_it_compiles_whole_and_stays_in_bfloat16_under_autocast():
    torch.manual_seed(0)
    net = fuse(nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 4, 1))).eval()
    quantize(net, clips(1))
    with torch.inference_mode():
        wanted = net(clips())
        compile_net(net, frozen=True)
        with torch.autocast("cpu", torch.bfloat16):
            half = net(clips())
    assert half.dtype == torch.bfloat16
    assert (half - wanted).abs().max() < 0.03 * wanted.abs().max()


def test_what_is_not_a_number_stays_so():
    conv = fuse(nn.Sequential(nn.Conv3d(3, 2, 1))).eval()
    quantize(conv, clips())
    x = clips()
    x[0, 0, 0, 0, 0] = torch.nan
    with torch.no_grad():
        y = conv(x)
    assert y[0].isnan().all()
    assert y[1].isfinite().all()


def test_an_empty_picture_is_no_division_by_zero():
    conv = fuse(nn.Sequential(nn.Conv3d(3, 2, 1, bias=False))).eval()
    quantize(conv, clips())
    with torch.no_grad():
        assert torch.equal(conv(torch.zeros(1, 3, 2, 2, 2)), torch.zeros(1, 2, 2, 2, 2))


def test_convolutions_in_groups_stay_as_they_are():
    net = fuse(nn.Sequential(nn.Conv3d(3, 4, 1), nn.Conv3d(4, 4, 3, groups=4))).eval()
    quantize(net, clips(1))
    assert [type(layer) for layer in net] == [Int8Conv3d, ViewConv3d]


def test_a_convolution_of_one_pixel_stays_as_it_is():
    net = fuse(nn.Sequential(nn.Conv3d(3, 4, 1), nn.AdaptiveAvgPool3d(1), nn.Conv3d(4, 4, 1))).eval()
    quantize(net, clips(1))
    assert [type(layer) for layer in net] == [Int8Conv3d, nn.AdaptiveAvgPool3d, ViewConv3d]


@pytest.mark.slow
def test_a_net_that_trains_is_refused(net):
    with pytest.raises(ValueError, match=r"training, and eight-bit weights are never updated; call net.eval\(\) first"):
        quantize(fuse(net).train(), clips(1))


def test_a_net_that_is_not_fused_is_refused(net):
    with pytest.raises(ValueError, match=r"no fused convolutions; call vidgn.models.fuse.rewrite.fuse\(net\) first"):
        quantize(net, clips(1))


def test_a_processor_without_such_products_is_named(net, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    with pytest.raises(RuntimeError, match="quantize=int8 needs a processor with AVX-512 VNNI, and this one has none"):
        quantize(fuse(net), clips(1))
