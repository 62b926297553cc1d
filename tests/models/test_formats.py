import timm
import torch
import torchvision

from vidgn.models.formats import TORCHVISION, recognise, rename
from vidgn.models.resnet3d import I3DSpec, build_i3d
from vidgn.norms import make_norm


def meta_keys(build):
    with torch.device("meta"):
        return list(build().state_dict())


def our_keys(norm, depth=50):
    return meta_keys(lambda: build_i3d(I3DSpec(num_classes=400, depth=depth), norm=make_norm(norm)))


def test_torchvisions_names_become_ours_one_to_one():
    for depth, build in ((50, torchvision.models.resnet50), (101, torchvision.models.resnet101)):
        theirs = meta_keys(build)
        renamed = [rename(key, [TORCHVISION]) for key in theirs]
        assert sorted(renamed) == sorted(our_keys("bn", depth))
    assert len(theirs) == 626


def test_timms_names_become_ours_one_to_one():
    theirs = meta_keys(lambda: timm.create_model("resnet50_gn"))
    assert len(theirs) == 161
    assert sorted(rename(key, [TORCHVISION]) for key in theirs) == sorted(our_keys("gn"))


def test_names_are_translated_as_the_table_says():
    literal = {
        "conv1.weight": "blocks.0.conv.weight",
        "bn1.running_var": "blocks.0.norm.running_var",
        "layer1.0.conv1.weight": "blocks.1.res_blocks.0.branch2.conv_a.weight",
        "layer2.3.bn2.bias": "blocks.3.res_blocks.3.branch2.norm_b.bias",
        "layer3.0.downsample.0.weight": "blocks.4.res_blocks.0.branch1_conv.weight",
        "layer4.0.downsample.1.weight": "blocks.5.res_blocks.0.branch1_norm.weight",
        "layer4.2.conv3.weight": "blocks.5.res_blocks.2.branch2.conv_c.weight",
        "fc.weight": "blocks.6.proj.weight",
    }
    assert {key: rename(key, [TORCHVISION]) for key in literal} == literal


def test_a_format_is_recognised_by_its_names():
    assert recognise(our_keys("gn")).name == "pytorchvideo"
    assert recognise([f"net.{key}" for key in our_keys("gn")]).name == "vidgn"
    assert recognise(meta_keys(torchvision.models.resnet50)).name == "torchvision"
    assert recognise(meta_keys(torchvision.models.resnet18)).name == "torchvision"  # refused by its shapes
    assert recognise(["features.0.weight"]) is None
