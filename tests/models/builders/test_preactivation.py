"""ResNet-50 v2 on frames: timm's BiT net, in numbers, names and logits."""

import copy

import pytest
import timm
import torch
from torch import nn

from vidgn.models.registry import build_model
from vidgn.models.weights.load import load_weights
from vidgn.norms import make_norm
from vidgn.norms.weight_standardization import is_standardized


def bit(choice="timm", *, num_classes=7, width=64, groups=32, crop=64, norm="gn"):
    options = {"num_groups": groups} if norm == "gn" else {}
    return build_model(
        "bit_r50", num_classes=num_classes, norm=make_norm(norm, **options), width=width, crop=crop,
        weight_standardization=choice,
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def theirs():
    """timm's net at a quarter of the width, with weights that show every layer."""
    torch.manual_seed(0)
    norm = {"norm_layer": lambda size, **kw: timm.layers.GroupNormAct(size, num_groups=8, **kw)}
    net = timm.create_model(
        "resnetv2_50x1_bit", num_classes=7, channels=(64, 128, 256, 512), stem_chs=16, **norm
    ).eval()  # fmt: skip
    for module in net.modules():
        if isinstance(module, timm.layers.StdConv2d):
            module.eps = 1e-6  # StdConv2d's own, which weight_standardization=timm has; BiT's models set 1e-8
        if isinstance(module, nn.GroupNorm):
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias, 0.0, 0.3)
    return net


def test_it_has_the_parameters_of_bit():
    with torch.device("meta"):
        net, reference = bit(num_classes=1000, crop=224), timm.create_model("resnetv2_50x1_bit", num_classes=1000)
    assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in reference.parameters()) == 25_549_352
    convs = [module for module in net.modules() if isinstance(module, nn.Conv3d)]
    assert len(convs) == 53
    assert all(is_standardized(conv) for conv in convs)


@pytest.mark.parametrize("choice", ["timm", False])
@torch.no_grad()
def test_timms_weights_give_timms_logits(theirs, tmp_path, choice):
    """In a net that standardizes its kernels, and in one that takes them as plain ones."""
    torch.save(theirs.state_dict(), tmp_path / "bit.pth")
    net = bit(choice, width=16, groups=8)
    report = load_weights(net, tmp_path / "bit.pth")
    assert (report.source_format, report.loaded, report.input_mean) == ("BiT", len(theirs.state_dict()) - 2, (0.5,) * 3)
    assert ("the source's standardized kernels were loaded as plain ones" in report.notes) == (choice is False)
    net.blocks[-1].proj.weight.copy_(theirs.head.fc.weight.flatten(1))
    net.blocks[-1].proj.bias.copy_(theirs.head.fc.bias)
    pictures = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()
    wanted = copy.deepcopy(theirs).double()(pictures)
    assert wanted.std() > 1e-3
    got = net.double()(pictures.unsqueeze(2))
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9) if choice else torch.testing.assert_close(
        got,
        wanted,
        rtol=1e-4,
        atol=1e-4,  # the plain kernels are rounded to float32
    )
    still = pictures.unsqueeze(2).repeat(1, 1, 3, 1, 1)
    torch.testing.assert_close(net(still), got, rtol=1e-9, atol=1e-9)  # each frame by itself


@pytest.mark.parametrize("norm", ["bn", "frn"])
def test_other_norms_take_the_place_of_group_norm(norm):
    net = bit(False, norm=norm, width=8, crop=32, num_classes=3)
    blocks = [block for block in net.modules() if hasattr(block, "branch_fusion")]
    assert len(blocks) == 16
    values = []
    blocks[1].conv1.register_forward_pre_hook(lambda conv, inputs: values.append(inputs[0].min().item()))
    net(torch.randn(2, 3, 1, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert values[0] == 0 or norm == "frn"  # a ReLU; frn's own activation is max(y, tau)
