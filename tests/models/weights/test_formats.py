import pytest
import timm
import torch
import torchvision

from vidgn.models.builders import I3DSpec, build_i3d
from vidgn.models.weights.formats import TORCHVISION, recognise, rename, renames
from vidgn.norms import make_norm


def meta_keys(build):
    with torch.device("meta"):
        return list(build().state_dict())


def our_keys(norm, depth=50):
    return meta_keys(lambda: build_i3d(I3DSpec(num_classes=400, depth=depth), norm=make_norm(norm)))


def test_torchvisions_names_become_ours_one_to_one():
    for depth, build in ((50, torchvision.models.resnet50), (101, torchvision.models.resnet101)):
        theirs = meta_keys(build)
        renamed = [rename(key, TORCHVISION) for key in theirs]
        assert sorted(renamed) == sorted(our_keys("bn", depth))
    assert len(theirs) == 626


def test_timms_names_become_ours_one_to_one():
    theirs = meta_keys(lambda: timm.create_model("resnet50_gn"))
    assert len(theirs) == 161
    assert sorted(rename(key, TORCHVISION) for key in theirs) == sorted(our_keys("gn"))


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
    assert {key: rename(key, TORCHVISION) for key in literal} == literal


def test_a_format_is_recognised_by_its_names():
    assert recognise(our_keys("gn")).name == "pytorchvideo"
    assert recognise([f"net.{key}" for key in our_keys("gn")]).name == "vidgn"
    assert recognise(meta_keys(torchvision.models.resnet50)).name == "torchvision"
    assert recognise(meta_keys(torchvision.models.resnet18)).name == "torchvision"  # refused by its shapes
    assert recognise(["features.0.weight"]) is None


@pytest.mark.parametrize(
    ("marker", "name"),
    [
        (["net.blocks.0.conv.parametrizations.weight.original0"], "vidgn"),  # weight norm
        (["blocks.0.multipathway_blocks.0.conv.weight"], "pytorchvideo"),  # SlowFast
        (["blocks.0.conv.conv_t.weight"], "pytorchvideo"),  # X3D
        (["conv0/W"], "tensorpack"),
        (["conv1_w", "conv1_gn_s"], "Detectron"),
        (["conv1_w", "res_conv1_bn_s", "res_conv1_bn_rm", "res_conv1_bn_riv"], "video-nonlocal-net"),
        (["conv1_w", "res_conv1_bn_s", "res_conv1_bn_b"], "Detectron with folded batch norm"),
        (["s1.pathway0_stem.conv.weight"], "PySlowFast"),
        (["backbone.conv1.conv.weight"], "mmaction2"),
        (["first_stage.0.weight", "fc.weight"], "gluon-cv"),
        (["conv1.weight", "layer1.0.conv1.weight"], "torchvision"),
    ],
)
def test_every_format_is_recognised_by_its_names(marker, name):
    assert recognise(marker).name == name


@pytest.mark.parametrize(
    ("source", "theirs", "norm", "count"),
    [
        ("CAFFE2", lambda s, name: name, "bn", 267),
        ("CAFFE2", lambda s, name: name, "gn", 161),
        ("TENSORPACK", lambda s, name: s.tensorpack_name(name).removesuffix(":0"), "gn", 161),
        ("SLOWFAST", lambda s, name: s.slowfast_name(name), "bn", 267),
        ("MMACTION", lambda s, name: s.mmaction_name(name), "bn", 267),
        ("GLUON", lambda s, name: s.gluon_name(name), "bn", 267),
        ("TORCHVISION", lambda s, name: s.torchvision_name(name), "bn", 267),
    ],
)
def test_the_names_of_every_source_become_ours_one_to_one(source, theirs, norm, count, sources):
    blobs = sources.random_blobs(norm=norm, width=8)
    renamed = sorted(rename(theirs(sources, name), getattr(renames, source)) for name in blobs)
    ours = sorted(name for name in our_keys(norm) if not name.endswith("num_batches_tracked"))
    assert renamed == ours
    assert len(ours) == count


def test_a_name_no_rule_knows_is_an_error():
    with pytest.raises(KeyError, match=r"layer5\.0\.conv1\.weight"):
        rename("layer5.0.conv1.weight", TORCHVISION)


def test_what_is_no_part_of_the_net_is_dropped():
    for name in ("conv1_w_momentum", "lr", "model_iter", "weight_decay_bn"):
        assert rename(name, renames.CAFFE2) is None
    assert rename("conv0/W/Momentum", renames.TENSORPACK) is None
    assert rename("data_preprocessor.std", renames.MMACTION) is None
    assert rename("head.1.weight", renames.GLUON) is None
