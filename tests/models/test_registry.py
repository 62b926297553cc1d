from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from pytorchvideo.models.csn import create_csn
from pytorchvideo.models.hub import c2d_r50, i3d_r50, slow_r50, slowfast_r50
from pytorchvideo.models.r2plus1d import create_r2plus1d
from pytorchvideo.models.x3d import create_x3d
from torch import nn

from vidgn.models.builders.slowfast import JoinPaths, TwoRates
from vidgn.models.registry import MODELS, build_model
from vidgn.models.weights.load import load_weights
from vidgn.norms import NORMS, make_norm

CONFIGS = Path(__file__).parents[2] / "configs" / "model"
ANY_NORM = [name for name, row in MODELS.items() if row.norms is None]  # mvit_b_16x4: builders/test_mvit.py
NARROW = {name: 16 if name == "slowfast_r50" else 8 for name in MODELS}


def narrow(name, norm="gn", *, num_classes=5, crop=64, **options):
    groups = {"num_groups": 4} if "num_groups" in NORMS[norm].options else {}
    factory = make_norm(norm, **groups)
    return build_model(name, num_classes=num_classes, norm=factory, width=NARROW[name], crop=crop, **options)


def meta(name, norm="bn", **options):
    with torch.device("meta"):
        return build_model(name, num_classes=400, norm=make_norm(norm), **options).eval()


# Millions, as printed in pytorchvideo's docs/source/model_zoo.md. The I3D-R101 is counted from its layers; with 1000
# classes C2D-R101 is torchvision's resnet101 (44,549,160) and vgg16 its vgg16_bn (138,365,992).
PUBLISHED = {
    "i3d_r50": 28.04,
    "i3d_r101": 51.75,
    "i3d_r50_8x8": 28.04,
    "c2d_r50": 24.33,
    "slow_r50": 32.45,
    "slowfast_r50": 34.57,
    "r2plus1d_r50": 28.11,
    "csn_r101": 22.21,
    "x3d_s": 3.79,
    "x3d_xs": 3.79,
    "x3d_m": 3.79,
    "x3d_l": 6.15,
    "c2d_r101": 43.32,
    "vgg16": 135.91,
    "tsn_r50": 24.33,  # torchvision's resnet50 with 400 classes
    "tsm_r50": 24.33,  # a shift learns nothing; 24.3 in arXiv 1811.08383, Table 2
    "bit_r50": 24.32,  # with 1000 classes timm's resnetv2_50x1_bit, 25,549,352
    "frames_r50": 26.79,  # 23,508,032 of resnet50 without classifier, and 4 x 2048 x 400 + 400
}


@pytest.mark.parametrize("norm", ["bn", "gn"])
@pytest.mark.parametrize("name", ANY_NORM)
def test_a_model_has_the_published_number_of_parameters(name, norm):
    count = sum(parameter.numel() for parameter in meta(name, norm).parameters())
    assert round(count / 1e6, 2) == PUBLISHED[name]


# Frames x rate as the zoo prints them; crops of the zoo's training: 224, and 160 for X3D-S (models/hub/x3d.py).
@pytest.mark.parametrize(
    ("name", "frames", "rate", "crop"),
    [
        ("i3d_r50", 32, 2, 224),
        ("i3d_r101", 32, 2, 224),
        ("i3d_r50_8x8", 8, 8, 224),
        ("c2d_r50", 8, 8, 224),
        ("slow_r50", 8, 8, 224),
        ("slowfast_r50", 32, 2, 224),  # the slow path has 8x8 of them
        ("r2plus1d_r50", 16, 4, 224),
        ("csn_r101", 32, 2, 224),
        ("x3d_s", 13, 6, 160),
        ("x3d_xs", 4, 12, 160),
        ("x3d_m", 16, 5, 224),
        ("c2d_r101", 8, 8, 224),
        ("tsn_r50", 8, 8, 224),
        ("tsm_r50", 8, 8, 224),
    ],
)
def test_a_model_takes_its_published_clip_and_no_more_positions_than_one(name, frames, rate, crop):
    assert MODELS[name].clip == (frames, frames * rate, crop)
    net = meta(name)
    clip = torch.empty(1, 3, frames, crop, crop, device="meta")
    assert net._position_logits(clip).shape == (1, 1, 400)
    assert net(clip).shape == net.scores(clip).shape == (1, 400)
    assert net.features(clip).shape[3:] == (crop // 32, crop // 32)


def slow_and_fast(clip):
    """As PySlowFast packs the paths: slowfast/datasets/utils.py, pack_pathway_output."""
    index = torch.linspace(0, clip.shape[2] - 1, clip.shape[2] // 4).long()
    return [clip[:, :, index], clip]


HEADS = {"head_activation": None, "model_num_class": 5}
# name, frames, pytorchvideo's own builder with a head for 64 pixels, what it takes
REFERENCES = [
    ("i3d_r50_8x8", 8, lambda: i3d_r50(stem_dim_out=8, head_pool_kernel_size=(4, 2, 2), **HEADS), None),
    ("c2d_r50", 8, lambda: c2d_r50(stem_dim_out=8, head_pool_kernel_size=(4, 2, 2), **HEADS), None),
    ("slow_r50", 8, lambda: slow_r50_like(), None),
    (
        "slowfast_r50",
        32,
        lambda: slowfast_r50(stem_dim_outs=(16, 2), head_pool_kernel_sizes=((8, 2, 2), (32, 2, 2)), **HEADS),
        slow_and_fast,
    ),
    ("r2plus1d_r50", 16, lambda: create_r2plus1d(stem_dim_out=8, head_pool_kernel_size=(4, 2, 2), **HEADS), None),
    (
        "csn_r101",
        8,
        lambda: create_csn(
            model_depth=101, stem_dim_out=8, stem_pool=nn.MaxPool3d, head_pool_kernel_size=(1, 2, 2), **HEADS
        ),
        None,
    ),
    (
        "x3d_s",
        13,
        lambda: create_x3d(input_clip_length=13, input_crop_size=64, width_factor=16 / 24, head_dim_out=682, **HEADS),
        None,
    ),
]


def slow_r50_like():
    with pytest.raises(TypeError, match="head_pool_kernel_size"):
        slow_r50(head_pool_kernel_size=(8, 2, 2))  # the hub's own is fixed; hence its arguments written out
    from pytorchvideo.models.resnet import create_resnet

    return create_resnet(
        stem_conv_kernel_size=(1, 7, 7), head_pool_kernel_size=(8, 2, 2), model_depth=50, stem_dim_out=8, **HEADS
    )


@pytest.mark.parametrize(("name", "frames", "reference", "pack"), REFERENCES, ids=[row[0] for row in REFERENCES])
@torch.no_grad()
def test_published_weights_give_the_logits_of_pytorchvideos_own_net(name, frames, reference, pack, tmp_path):
    torch.manual_seed(0)
    theirs = reference().eval()
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.1)
    torch.save({"model_state": theirs.state_dict()}, tmp_path / "zoo.pyth")
    ours = narrow(name, "bn").eval()
    report = load_weights(ours, tmp_path / "zoo.pyth")
    assert report.loaded == len(theirs.state_dict())
    clip = torch.randn(2, 3, frames, 64, 64)
    expected = theirs(clip if pack is None else pack(clip))
    assert expected.std().item() > 1e-3
    torch.testing.assert_close(ours(clip), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("depth", [50, 101])
def test_c2d_of_a_single_picture_is_torchvisions_resnet(depth, tmp_path):
    import torchvision

    torch.manual_seed(0)
    theirs = torchvision.models.get_model(f"resnet{depth}").eval()
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.01)
    torch.save(theirs.state_dict(), tmp_path / "resnet.pth")
    ours = build_model(f"c2d_r{depth}", num_classes=1000, norm=make_norm("bn"), crop=64).eval()
    assert sum(parameter.numel() for parameter in ours.parameters()) == {50: 25_557_032, 101: 44_549_160}[depth]
    load_weights(ours, tmp_path / "resnet.pth")
    ours.blocks[-1].proj.load_state_dict(theirs.fc.state_dict())
    picture = torch.randn(1, 3, 64, 64)
    expected = theirs.double()(picture.double())
    assert expected.std().item() > 1e-3
    torch.testing.assert_close(ours.double()(picture.double().unsqueeze(2)), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["c2d_r50", "slow_r50"])
@torch.no_grad()
def test_torchvisions_weights_give_its_logits_where_no_kernel_looks_at_time(name, tmp_path):
    """On a still clip c2d is torchvision's ResNet on the picture; slow is, but for its 3x1x1 at the borders."""
    import torchvision

    torch.manual_seed(0)
    theirs = torchvision.models.resnet50().eval()
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.01)
    torch.save(theirs.state_dict(), tmp_path / "resnet50.pth")
    ours = build_model(name, num_classes=1000, norm=make_norm("bn"), crop=64).eval()
    report = load_weights(ours, tmp_path / "resnet50.pth")
    assert report.loaded == 318
    head = ours.blocks[-1].proj
    head.weight.copy_(theirs.fc.weight)
    head.bias.copy_(theirs.fc.bias)
    theirs, ours = theirs.double(), ours.double()
    picture = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    if name == "c2d_r50":
        clip = picture.unsqueeze(2).repeat(1, 1, 2, 1, 1)
        torch.testing.assert_close(ours(clip), theirs(picture), rtol=1e-9, atol=1e-9)
    else:  # nine 3x1x1 convolutions follow each other: the middle one of 19 frames sees no border
        clip = picture.unsqueeze(2).repeat(1, 1, 19, 1, 1)
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(picture))))
        x = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
        # A third of a kernel, three times, is the kernel but for float32's last bit.
        torch.testing.assert_close(ours.features(clip)[:, :, 9], x, rtol=1e-6, atol=1e-6)


# vgg16 has no residual blocks, and those of bit_r50 end with a convolution, which BiT does not start at zero.
_ZERO_LAST = [name for name in ANY_NORM if name not in ("vgg16", "bit_r50")]


@pytest.mark.parametrize("norm", ["gn", "sub_bn"])
@pytest.mark.parametrize("name", _ZERO_LAST)
def test_every_model_trains_from_blocks_that_add_nothing(name, norm):
    torch.manual_seed(0)
    net = narrow(name, norm, crop=32)
    added = []
    for block in net.modules():
        if hasattr(block, "norm_c"):
            block.register_forward_hook(lambda module, args, output: added.append(output.abs().max().item()))
    clip = torch.randn(4, 3, 8, 32, 32)
    loss = nn.functional.cross_entropy(net(clip), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert len(added) > 15
    assert set(added) == {0.0}
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["slowfast_r50", "r2plus1d_r50", "x3d_s"])
def test_any_norm_of_the_table_builds_with_zero_last_scales(name, norm):
    net = narrow(name, norm, crop=32).eval()
    blocks = [block for block in net.modules() if hasattr(block, "norm_c")]
    assert len(blocks) == {"slowfast_r50": 32, "r2plus1d_r50": 16, "x3d_s": 26}[name]
    with torch.no_grad():
        size = blocks[0].conv_a.in_channels
        assert (blocks[0](torch.randn(1, size, 2, 4, 4)) == 0).all()
    twin = narrow(name, norm, crop=32)
    twin.load_state_dict(net.state_dict())


def test_uneven_layers_get_the_nearest_groups():
    net = meta("slowfast_r50", "gn")
    slow, fast = net.blocks[0].multipathway_blocks
    assert (slow.norm.num_groups, fast.norm.num_groups) == (32, 4)  # of 64 and 8 channels
    assert net.blocks[0].multipathway_fusion.norm.num_groups == 8  # of 16
    net = meta("x3d_s", "gn")
    assert net.blocks[0].norm.num_groups == 12  # of 24
    assert net.blocks[5].pool.pre_norm.num_groups == 36  # of 432


def test_a_slow_frame_is_the_first_the_last_and_evenly_between():
    clip = torch.arange(32.0).view(1, 1, 32, 1, 1).expand(1, 3, 32, 2, 2)
    slow, fast = TwoRates()(clip)
    assert slow[0, 0, :, 0, 0].tolist() == [0, 4, 8, 13, 17, 22, 26, 31]
    assert fast is clip
    assert torch.equal(slow, slow_and_fast(clip)[0])
    assert TwoRates()(clip[:, :, :4])[0].shape[2] == 1


def test_the_joined_paths_average_as_each_path_alone():
    slow, fast = torch.randn(2, 6, 2, 3, 3), torch.randn(2, 4, 8, 3, 3)
    joined = JoinPaths()([slow, fast])
    assert joined.shape == (2, 10, 2, 3, 3)
    torch.testing.assert_close(joined.mean(2), torch.cat([slow.mean(2), fast.mean(2)], 1))
    torch.testing.assert_close(joined[:, 6:, 1], fast[:, :, 4:].mean(2))


def test_a_larger_picture_gives_a_map_of_predictions():
    for name in ("slowfast_r50", "x3d_s"):
        net = meta(name, crop=64)
        clip = torch.empty(2, 3, 8, 96, 128, device="meta")
        assert net._position_logits(clip).shape == (2, 2 * 3, 400)


@pytest.mark.parametrize(
    ("name", "stride"),
    [("i3d_r50", 8), ("i3d_r50_8x8", 2), ("c2d_r50", 2), ("slow_r50", 1), ("slowfast_r50", 4), ("r2plus1d_r50", 4),
     ("csn_r101", 8), ("x3d_s", 1), ("c2d_r101", 2), ("vgg16", 1), ("bit_r50", 1)],
)  # fmt: skip
def test_a_clip_must_be_a_multiple_of_the_models_stride(name, stride):
    net = meta(name, crop=32)
    assert net.time_stride == stride
    net(torch.empty(1, 3, stride, 32, 32, device="meta"))
    if stride > 1:
        message = (
            f"A clip of {stride + 1} frames must have a multiple of {stride}; use clip_len={stride} or {2 * stride}"
        )
        with pytest.raises(ValueError, match=message):
            net(torch.empty(1, 3, stride + 1, 32, 32, device="meta"))


def test_options_change_the_net_and_are_written_in_its_spec():
    net = meta("c2d_r50", width=32, dropout=0.2, crop=112)
    assert (net.spec.name, net.spec.num_classes, net.spec.width, net.spec.dropout, net.spec.window) == (
        "c2d_r50", 400, 32, 0.2, 4,
    )  # fmt: skip
    assert net.blocks[-1].dropout.p == 0.2
    assert meta("i3d_r50", pool1="paper").spec.pool1 == "paper"
    assert meta("i3d_r50", width=16).spec.dropout == 0.5


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("i3d", {}, "model=i3d is unknown; use one of i3d_r50, i3d_r101, i3d_r50_8x8, c2d_r50, c2d_r101, slow_r50"),
        (
            "slow_r50",
            {"pool1": "paper"},
            r"model=slow_r50 has no choice of pool1 \(paper\); leave it out, or use an i3",
        ),
        ("i3d_r50", {"pool1": "same"}, r"pool1 \(same\) is unknown; use one of nonlocal"),
        ("slowfast_r50", {"width": 12}, r"width \(12\) must be a multiple of 8; use 64, or 16 for small machines"),
        ("x3d_s", {"width": 12}, r"width \(12\) must be a multiple of 8; use 24, or 8 for small machines"),
        ("c2d_r50", {"width": 0}, r"width \(0\) must be positive"),
        ("c2d_r50", {"dropout": 1.5}, r"dropout \(1.5\) must be in \[0, 1\)"),
        ("c2d_r50", {"crop": -8}, r"window \(0\) must be positive"),
    ],
)
def test_what_no_model_has_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_model(name, num_classes=3, norm=make_norm("bn"), **options)


def test_the_networks_of_pictures_take_one_frame_and_the_others_say_what_they_take():
    for name in ("c2d_r50", "c2d_r101", "slow_r50", "vgg16", "bit_r50"):
        assert meta(name, crop=64)(torch.empty(2, 3, 1, 64, 64, device="meta")).shape == (2, 400)
    with pytest.raises(ValueError, match=r"A clip of 1 frames must have a multiple of 8; use clip_len=8 or 16"):
        meta("i3d_r50")(torch.empty(1, 3, 1, 64, 64, device="meta"))
    with pytest.raises(ValueError, match=r"A clip of 3 frames must have a multiple of 2"):
        meta("c2d_r50")(torch.empty(1, 3, 3, 64, 64, device="meta"))


def test_groups_that_do_not_fit_an_even_model_are_still_refused():
    with pytest.raises(ValueError, match=r"num_groups \(32\) must divide num_features \(16\)"):
        build_model("slow_r50", num_classes=3, norm=make_norm("gn"), width=16)


def test_every_model_has_its_words():
    assert sorted(path.stem for path in CONFIGS.glob("*.yaml")) == sorted(MODELS)


@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("i3d")])
def test_the_words_are_the_models_own(name):
    words = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{name}.yaml"))
    own = {"name": name, "width": MODELS[name].width, "dropout": MODELS[name].dropout}
    own |= {"last": "res5", "stride_1x1": False} if name == "frames_r50" else {}
    assert words == {**own, "weight_standardization": "auto"}
    lines = (CONFIGS / f"{name}.yaml").read_text().splitlines()
    assert all("# " in line for line in lines if not line.startswith("name:"))


@pytest.mark.parametrize("name", ["x3d_xs", "x3d_s", "x3d_m", "x3d_l"])
def test_an_x3d_has_the_tensors_of_the_published_one(name):
    from pytorchvideo.models.hub import x3d

    with torch.device("meta"):
        theirs = getattr(x3d, name)(pretrained=False).state_dict()
    shapes = {key: tuple(value.shape) for key, value in meta(name).state_dict().items()}
    assert shapes == {key: tuple(value.shape) for key, value in theirs.items()}
