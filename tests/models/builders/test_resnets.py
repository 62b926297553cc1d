import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vidgn.models.builders import I3DSpec, build_i3d
from vidgn.norms import NORMS, make_norm

TINY = I3DSpec(num_classes=5, width=8, dropout=0.0)
GN = make_norm("gn", num_groups=4)


def in_groups(norm):
    """The norm, in four groups where it has groups: the tiny net has 8 channels."""
    return make_norm(norm, **({"num_groups": 4} if "num_groups" in NORMS[norm].options else {}))


def meta_net(norm="gn", **spec):
    with torch.device("meta"):
        return build_i3d(I3DSpec(num_classes=400, **spec), norm=make_norm(norm)).eval()


def meta_clip(frames, side):
    return torch.empty(1, 3, frames, side, side, device="meta")


def num_parameters(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("norm", ["bn", "gn", "ln", "in"])
def test_resnet50_has_the_published_number_of_parameters(norm):
    assert num_parameters(meta_net(norm)) == 28_043_472


def test_resnet101_has_its_number_of_parameters():
    assert num_parameters(meta_net(depth=101)) == 51_754_192


def test_the_papers_pool_does_not_change_the_parameters():
    assert num_parameters(meta_net(pool1="paper")) == 28_043_472


# Multiply-adds of convolutions and classifier, by shape arithmetic: sum of O*I*kt*kh*kw * T'*H'*W'.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("frames", "side", "spec", "multiply_adds"),
    [
        (32, 224, {}, 32_829_964_288),
        (64, 224, {}, 65_659_109_376),
        (32, 256, {}, 42_930_470_912),  # a test crop: classified at 2x2 positions
        (32, 224, {"pool1": "paper"}, 33_128_218_624),
        (32, 224, {"depth": 101}, 51_378_225_152),
    ],
)
def test_a_clip_costs_its_number_of_multiply_adds(frames, side, spec, multiply_adds):
    with FlopCounterMode(display=False) as counter:
        meta_net(**spec)(meta_clip(frames, side))
    assert counter.get_total_flops() == 2 * multiply_adds


def test_the_inflated_kernels_are_those_of_the_released_code():
    kernels = {
        name: tuple(weight.shape[2:])
        for name, weight in meta_net().state_dict().items()
        if weight.dim() == 5 and weight.shape[2] > 1
    }
    assert kernels == {
        "blocks.0.conv.weight": (5, 7, 7),
        "blocks.1.res_blocks.0.branch2.conv_a.weight": (3, 1, 1),
        "blocks.1.res_blocks.1.branch2.conv_a.weight": (3, 1, 1),
        "blocks.1.res_blocks.2.branch2.conv_a.weight": (3, 1, 1),
        "blocks.3.res_blocks.0.branch2.conv_a.weight": (3, 1, 1),
        "blocks.3.res_blocks.2.branch2.conv_a.weight": (3, 1, 1),
        "blocks.4.res_blocks.0.branch2.conv_a.weight": (3, 1, 1),
        "blocks.4.res_blocks.2.branch2.conv_a.weight": (3, 1, 1),
        "blocks.4.res_blocks.4.branch2.conv_a.weight": (3, 1, 1),
        "blocks.5.res_blocks.1.branch2.conv_a.weight": (3, 1, 1),
    }


@pytest.mark.parametrize(
    ("pool1", "frames", "side", "sizes"),
    [
        # (C, T, H, W) after stem, res2, pool2, res3, res4, res5
        (
            "nonlocal",
            32,
            224,
            [(64, 8, 55), (256, 8, 55), (256, 4, 55), (512, 4, 28), (1024, 4, 14), (2048, 4, 7)],
        ),
        (
            "nonlocal",
            64,
            256,
            [(64, 16, 63), (256, 16, 63), (256, 8, 63), (512, 8, 32), (1024, 8, 16), (2048, 8, 8)],
        ),
        (
            "paper",
            32,
            224,
            [(64, 8, 56), (256, 8, 56), (256, 4, 56), (512, 4, 28), (1024, 4, 14), (2048, 4, 7)],
        ),
        (
            "nonlocal",
            8,
            32,
            [(64, 2, 7), (256, 2, 7), (256, 1, 7), (512, 1, 4), (1024, 1, 2), (2048, 1, 1)],
        ),
    ],
)
def test_every_stage_has_the_size_of_the_table(pool1, frames, side, sizes):
    x, found = meta_clip(frames, side), []
    for block in list(meta_net(pool1=pool1).blocks)[:-1]:
        x = block(x)
        assert x.shape[3] == x.shape[4]
        found.append(tuple(x.shape[1:4]))
    assert found == sizes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("height", "width", "window", "positions"),
    [
        (224, 224, 7, 1),
        (256, 256, 7, 4),  # 8x8 positions of res5, a 7x7 window: 2x2
        (256, 340, 7, 10),  # a whole frame: 8x11 -> 2x5
        (64, 64, 2, 1),
        (96, 64, 2, 2),
        (64, 64, 7, 1),  # smaller than the window
    ],
)
def test_a_larger_picture_gives_a_map_of_predictions(height, width, window, positions):
    net = meta_net(window=window)
    x = torch.empty(2, 3, 16, height, width, device="meta")
    assert net._position_logits(x).shape == (2, positions, 400)
    assert net(x).shape == net.scores(x).shape == (2, 400)


@torch.no_grad()
def test_logits_and_scores_are_means_over_the_windows():
    torch.manual_seed(0)
    net = build_i3d(I3DSpec(num_classes=5, width=8, window=2), norm=GN).eval()
    clip = torch.randn(2, 3, 8, 96, 64)
    res5 = net.features(clip)  # (2, 256, 1, 3, 2)
    assert res5.shape == (2, 256, 1, 3, 2)
    weight, bias = net.blocks[6].proj.weight, net.blocks[6].proj.bias
    windows = [res5[..., top : top + 2, 0:2].mean((2, 3, 4)) @ weight.T + bias for top in (0, 1)]
    torch.testing.assert_close(net(clip), sum(windows) / 2)
    torch.testing.assert_close(net.scores(clip), sum(w.softmax(1) for w in windows) / 2)
    assert not torch.allclose(windows[0], windows[1])


@torch.no_grad()
def test_scores_are_softmax_before_the_mean_in_float32():
    net = build_i3d(TINY, norm=GN).eval().to(torch.bfloat16)
    scores = net.scores(torch.randn(2, 3, 8, 32, 32, dtype=torch.bfloat16))
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores.sum(1), torch.ones(2))


@pytest.mark.parametrize("norm", ["bn", "gn"])
@pytest.mark.parametrize("depth", [50, 101])
@torch.no_grad()
def test_the_same_weights_in_pytorchvideos_own_net_give_the_same_logits(norm, depth):
    from pytorchvideo.models.resnet import create_resnet

    torch.manual_seed(0)
    factory = make_norm("bn") if norm == "bn" else GN
    theirs = create_resnet(
        model_depth=depth,
        model_num_class=5,
        dropout_rate=0.5,
        norm=nn.BatchNorm3d if norm == "bn" else lambda num_features, eps, momentum: nn.GroupNorm(4, num_features),
        stem_dim_out=8,
        stem_conv_kernel_size=(5, 7, 7),
        stem_conv_stride=(2, 2, 2),
        stem_pool=lambda kernel_size, stride, padding: nn.MaxPool3d(kernel_size, stride, 0),
        stem_pool_kernel_size=(2, 3, 3),
        stem_pool_stride=(2, 2, 2),
        stage1_pool=nn.MaxPool3d,
        stage_conv_a_kernel_size=(
            (3, 1, 1),
            [(3, 1, 1), (1, 1, 1)],
            [(3, 1, 1), (1, 1, 1)],
            [(1, 1, 1), (3, 1, 1)],
        ),
        head_pool_kernel_size=(2, 2, 2),
    ).eval()
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.1)
    ours = build_i3d(I3DSpec(num_classes=5, depth=depth, width=8, window=2), norm=factory).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    clip = torch.randn(2, 3, 16, 96, 64)  # two positions
    expected = theirs(clip)
    assert expected.std().item() > 1e-3
    torch.testing.assert_close(ours(clip), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", ["bn", "gn", "ln", "in"])
def test_a_fresh_block_starts_as_its_shortcut(norm):
    factory = in_groups(norm)
    state = build_i3d(TINY, norm=factory).state_dict()
    last = [name for name in state if name.endswith("branch2.norm_c.weight")]
    other = [name for name in state if "norm" in name and name.endswith(".weight") and name not in last]
    assert (len(last), len(other)) == (16, 37)
    assert all((state[name] == 0).all() for name in last)
    assert all((state[name] == 1).all() for name in other)  # the shortcuts' among them
    assert sum("branch1_norm" in name for name in other) == 4


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_of_the_table_trains_from_blocks_that_add_nothing(norm):
    torch.manual_seed(0)
    net = build_i3d(TINY, norm=in_groups(norm))
    added = []
    for block in net.modules():
        if hasattr(block, "norm_c"):
            block.register_forward_hook(lambda module, args, output: added.append(output.abs().max().item()))
    clip = torch.randn(4, 3, 16, 64, 64)
    loss = torch.nn.functional.cross_entropy(net(clip), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert added == [0.0] * 16
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter -= 0.1 * parameter.grad
    added.clear()
    net(clip)
    assert all(value > 0 for value in added)  # and learn to add something
    twin = build_i3d(TINY, norm=in_groups(norm))
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin.eval()(clip), net.eval()(clip))


def test_fresh_weights_have_the_papers_spread():
    torch.manual_seed(0)
    net = build_i3d(I3DSpec(num_classes=200, width=16), norm=make_norm("gn", num_groups=8))
    proj, conv = net.blocks[6].proj, net.blocks[3].res_blocks[1].branch2.conv_b
    assert proj.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert (proj.bias == 0).all()
    assert conv.weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.05)  # MSRA, fan out


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    net = build_i3d(I3DSpec(num_classes=5, width=8, dropout=0.5), norm=GN)
    clip = torch.randn(1, 3, 8, 32, 32)
    assert not torch.equal(net.train()(clip), net(clip))
    assert torch.equal(net.eval()(clip), net(clip))


def test_one_seed_gives_one_net():
    nets = []
    for _ in range(2):
        torch.manual_seed(3)
        nets.append(build_i3d(TINY, norm=GN).state_dict())
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 30, 32, 32), "A clip of 30 frames must have a multiple of 8; use clip_len=24 or 32"),
        ((1, 3, 4, 32, 32), "A clip of 4 frames must have a multiple of 8; use clip_len=8 or 16"),
        ((1, 3, 8, 31, 64), "Frames of 31x64 pixels must be at least 32x32; use crop=32 or more"),
        ((1, 3, 32, 32), r"The input has shape \(1, 3, 32, 32\); give clips \(N, 3, T, H, W\)"),
        ((1, 1, 8, 32, 32), r"The input has shape \(1, 1, 8, 32, 32\); give clips \(N, 3, T, H, W\)"),
    ],
)
def test_a_clip_the_net_cannot_take_is_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        meta_net()(torch.empty(shape, device="meta"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": 34}, r"depth \(34\) must be a published one; use 50 or 101"),
        ({"pool1": "same"}, r"pool1 \(same\) is unknown; use one of nonlocal, paper, mmaction2, pytorchvideo"),
        ({"num_classes": 0}, r"num_classes \(0\) must be positive; use 1 or more"),
        ({"width": -1}, r"width \(-1\) must be positive"),
        ({"window": 0}, r"window \(0\) must be positive"),
        ({"dropout": 1.0}, r"dropout \(1.0\) must be in \[0, 1\); use 0.5, or 0 for none"),
    ],
)
def test_a_spec_out_of_range_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        I3DSpec(**{"num_classes": 400} | wrong)


def test_groups_that_do_not_fit_the_width_are_refused():
    with pytest.raises(ValueError, match=r"num_groups \(32\) must divide num_features \(16\)"):
        build_i3d(I3DSpec(num_classes=5, width=16), norm=make_norm("gn"))


@pytest.mark.slow
def test_importing_the_model_warns_of_nothing():
    code = "import vidgn.models.builders"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
