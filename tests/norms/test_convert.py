import doctest

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.detection import maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2

import vidgn.models.builders  # noqa: F401 (imports pytorchvideo without its warning)
from vidgn import GroupNorm3d, convert_norm, make_norm
from vidgn.norms import convert, is_norm


def kinds(model):
    return {type(layer).__name__ for layer in model.modules() if is_norm(layer)}


def randomize(model, seed=0):
    torch.manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(layer.weight, 0.5, 1)
            nn.init.normal_(layer.bias, std=0.2)
            nn.init.normal_(layer.running_mean, std=0.2)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return model


def train_one_step(model, *inputs):
    output = model.train()(*inputs)
    (output.square().mean()).backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert missing == []


def vgg16_bn(num_classes):
    with torch.device("meta"):
        model = torchvision.models.vgg16_bn(init_weights=False)
        model.classifier = nn.Linear(512 * 49, num_classes)  # its own has 120 million weights
    model.to_empty(device="cpu")
    for layer in model.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "shape", "count"),
    [
        (torchvision.models.resnet50, (2, 3, 64, 64), 53),
        (vgg16_bn, (2, 3, 32, 32), 13),
    ],
)
def test_picture_nets_train_with_group_norm(build, shape, count):
    torch.manual_seed(0)
    model = build(num_classes=5)
    parameters = list(model.parameters())
    report = convert_norm(model, "gn")
    assert kinds(model) == {"GroupNorm3d"}
    assert (len(report.changed), report.left) == (count, ())
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))  # an optimizer stays right
    train_one_step(model, torch.randn(shape))


def test_resnet50_with_group_norm_is_the_net_built_with_group_norm():
    torch.manual_seed(0)
    converted = torchvision.models.resnet50()
    convert_norm(converted, "gn")
    built = torchvision.models.resnet50(norm_layer=lambda channels: nn.GroupNorm(32, channels))
    built.load_state_dict(converted.state_dict())
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(converted.eval()(x), built.eval()(x))


def targets():
    mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
    mask[:, 10:50, 10:50] = 1
    boxes = torch.tensor([[10.0, 10.0, 50.0, 50.0]])
    return [{"boxes": boxes, "labels": torch.tensor([1]), "masks": mask}]


# Version 1 has norms in the backbone only; version 2 in the pyramid and the heads too, as in tables 4 to 7.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "parts"),
    [
        (maskrcnn_resnet50_fpn, {"backbone.body": 53}),
        (
            maskrcnn_resnet50_fpn_v2,
            {"backbone.body": 53, "backbone.fpn": 8, "roi_heads.box_head": 4, "roi_heads.mask_head": 4},
        ),
    ],
)
def test_mask_rcnn_trains_and_detects_with_group_norm(build, parts):
    torch.manual_seed(0)
    model = build(weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=64)
    report = convert_norm(model, "gn")
    changed = {}
    for change in report.changed:
        part = ".".join(change.name.split(".")[:2])
        changed[part] = changed.get(part, 0) + 1
    assert changed == parts
    assert report.left == ()
    assert kinds(model) == {"GroupNorm3d"}
    losses = model.train()([torch.rand(3, 64, 64)], targets())
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg"}
    sum(losses.values()).backward()
    assert model.backbone.body.layer3[0].bn1.weight.grad.isfinite().all()
    with torch.no_grad():
        assert set(model.eval()([torch.rand(3, 64, 64)])[0]) == {"boxes", "labels", "scores", "masks"}


@pytest.mark.slow
def test_r2plus1d_trains_with_the_nearest_groups():
    torch.manual_seed(0)
    model = torchvision.models.video.r2plus1d_18(num_classes=5)
    message = r"num_groups \(32\) does not divide the channels of 11 layers: stem.1 \(45\), .* use uneven=nearest"
    with pytest.raises(ValueError, match=message):
        convert_norm(model, "gn")
    assert kinds(model) == {"BatchNorm3d"}  # all or nothing
    report = convert_norm(model, "gn", uneven="nearest")
    assert kinds(model) == {"GroupNorm3d"}
    assert report.changed[0][:3] == ("stem.1", "BatchNorm3d", "GroupNorm3d")
    assert report.changed[0].note == "15 groups of 3, running statistics dropped"
    train_one_step(model, torch.randn(1, 3, 4, 32, 32))


@pytest.mark.slow
def test_slowfast_trains_with_group_norm():
    from pytorchvideo.models.slowfast import create_slowfast

    torch.manual_seed(0)
    model = create_slowfast(
        model_num_class=5,
        stem_dim_outs=(16, 2),
        slowfast_channel_reduction_ratio=(8,),
        head_pool_kernel_sizes=((2, 1, 1), (8, 1, 1)),
    )
    report = convert_norm(model, make_norm("gn", channels_per_group=2))
    assert len(report.changed) == 110
    assert kinds(model) == {"GroupNorm3d"}
    clip = torch.randn(2, 3, 8, 32, 32)
    nn.init.ones_(model.blocks[1].multipathway_blocks[0].res_blocks[0].branch2.norm_c.weight)
    train_one_step(model, [clip[:, :, ::4], clip])


@pytest.mark.slow
@pytest.mark.parametrize("keep_statistics", ["copy", "fold"])
@torch.no_grad()
def test_frozen_batch_norm_is_the_net_in_evaluation(keep_statistics):
    model = randomize(torchvision.models.resnet50(num_classes=5)).eval()
    x = torch.randn(2, 3, 64, 64)
    expected = model(x)
    report = convert_norm(model, "frozen_bn", keep_statistics=keep_statistics)
    assert len(report.changed) == 53
    torch.testing.assert_close(model.train()(x), expected, rtol=1e-4, atol=1e-4)
    assert sum(p.requires_grad for p in model.parameters()) == 53 + 1 + 1  # convolutions, classifier


@torch.no_grad()
def test_frozen_norms_of_torchvision_can_learn_again():
    frozen = torchvision.ops.FrozenBatchNorm2d
    model = torchvision.models.resnet18(norm_layer=frozen).eval()
    for tensor in model.buffers():
        nn.init.uniform_(tensor, 0.5, 1)
    x = torch.randn(2, 3, 32, 32)
    expected = model(x)
    report = convert_norm(model, "bn")
    assert kinds(model) == {"BatchNorm2d"}
    assert report.changed[0].before == "FrozenBatchNorm2d"
    torch.testing.assert_close(model.eval()(x), expected)


def test_a_group_norm_net_becomes_a_batch_norm_net():
    model = torchvision.models.resnet18(norm_layer=lambda channels: nn.GroupNorm(32, channels))
    convert_norm(model, "bn")
    assert kinds(model) == {"BatchNorm2d"}  # two axes, as the convolutions have
    assert list(model.state_dict()) == list(torchvision.models.resnet18().state_dict())


@pytest.mark.slow
def test_weight_normalization_normalizes_every_kernel():
    model = torchvision.models.resnet18(num_classes=5)
    convert_norm(model, "wn")
    assert kinds(model) == set()
    assert sum(name.endswith("original0") for name in model.state_dict()) == 21  # 20 convolutions, one linear
    train_one_step(model, torch.randn(2, 3, 32, 32))


def test_a_layer_under_two_names_stays_one_layer():
    shared = nn.BatchNorm1d(64)
    model = nn.Sequential(nn.Linear(4, 64), shared, nn.Linear(64, 64), shared)
    report = convert_norm(model, "gn")
    assert [change.name for change in report.changed] == ["1", "3"]
    assert model[1] is model[3]
    assert isinstance(model[1], GroupNorm3d)


def test_the_report_counts_changes_and_lists_what_was_left():
    model = nn.ModuleDict(
        {"a": nn.BatchNorm2d(64), "b": nn.BatchNorm2d(64), "c": nn.LayerNorm(8), "d": nn.Conv2d(3, 3, 1)}
    )
    assert str(convert_norm(model, "gn")) == (
        "2 norms changed, 1 left as is\n"
        "  2 BatchNorm2d -> GroupNorm3d (running statistics dropped)\n"
        "  left: c (LayerNorm): it normalizes in a way of its own"
    )


def test_a_model_without_norms_is_left_alone():
    assert str(convert_norm(nn.Sequential(nn.Linear(2, 2)), "gn")) == "0 norms changed, 0 left as is"


def test_a_model_that_is_a_norm_is_refused():
    with pytest.raises(ValueError, match=r"model is a norm itself \(BatchNorm2d\); give the model around it"):
        convert_norm(nn.BatchNorm2d(64), "gn")


def test_only_frozen_batch_norm_can_be_folded():
    with pytest.raises(ValueError, match=r"keep_statistics=fold makes a fixed line .* norm=gn is not; use"):
        convert_norm(nn.Sequential(nn.BatchNorm2d(64)), "gn", keep_statistics="fold")


def test_unknown_choices_list_the_choices():
    model = nn.Sequential(nn.BatchNorm2d(64))
    with pytest.raises(ValueError, match="keep_statistics=drop is unknown; use copy or fold"):
        convert_norm(model, "gn", keep_statistics="drop")
    with pytest.raises(ValueError, match="uneven=skip is unknown; use refuse or nearest"):
        convert_norm(model, "gn", uneven="skip")
    with pytest.raises(ValueError, match="norm=group is unknown; use one of gn, ln"):
        convert_norm(model, "group")


def test_the_example_in_the_docstring_runs():
    assert doctest.testmod(convert) == (0, 2)
