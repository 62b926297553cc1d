"""Mask R-CNN of torchvision's parts: where the norms are, what is frozen, Detectron's losses."""

from collections import Counter

import pytest
import torch
from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.resnet import resnet50

from vidgn.detection.network import DetectorSpec, build_detector
from vidgn.detection.network.body import Body
from vidgn.detection.network.detector import pad_images
from vidgn.detection.network.heads import box_losses
from vidgn.detection.network.spec import detector_spec
from vidgn.norms import is_norm

SMALL = {"name": "mask_rcnn_r18_fpn", "width": 8, "anchor": 8, "rois": 16, "proposals": 20}
GN = {"backbone_norm": "gn", "fpn_norm": "gn", "box_norm": "gn", "mask_norm": "gn"}


def target(side=64):
    masks = torch.zeros(2, side, side, dtype=torch.uint8)
    masks[0, 8:32, 8:40] = 1
    masks[1, 40:60, 30:60] = 1
    boxes = torch.tensor([[8.0, 8.0, 40.0, 32.0], [30.0, 40.0, 60.0, 60.0]])
    return {"boxes": boxes, "labels": torch.tensor([1, 3]), "masks": masks}


def norms_by_part(net):
    counted = Counter()
    for name, module in net.named_modules():
        if is_norm(module):
            counted[name.split(".")[0] if name.startswith("rpn") else ".".join(name.split(".")[:2])] += 1
    return counted


def test_the_norms_are_where_detectron_has_them():
    with torch.device("meta"):
        net = build_detector(DetectorSpec(**GN), num_classes=80)
    parts = {"backbone.body": 53, "backbone.fpn": 8, "roi_heads.box_head": 4, "roi_heads.mask_head": 4}
    assert norms_by_part(net) == parts  # none in the proposal head
    groups = {module.num_groups for module in net.modules() if isinstance(module, nn.GroupNorm)}
    assert groups == {32}
    convs = [module for module in net.backbone.fpn.modules() if isinstance(module, nn.Conv2d)]
    assert all(conv.bias is None for conv in convs)
    assert net.roi_heads.box_predictor.cls_score.weight.shape == (81, 1024)
    assert net.roi_heads.mask_predictor.mask_fcn_logits.weight.shape == (81, 256, 1, 1)


def test_the_body_is_torchvisions():
    with torch.device("meta"):
        ours = Body(50, width=64, norm=nn.BatchNorm2d).state_dict()
        theirs = resnet50().state_dict()
    shapes = {name: tuple(value.shape) for name, value in theirs.items() if not name.startswith("fc.")}
    assert {name: tuple(value.shape) for name, value in ours.items()} == shapes


# The rows of Table 5: the norm of the body, of the box head.
@pytest.mark.parametrize(
    ("backbone", "box", "parts"),
    [
        ("frozen_bn", "none", {"backbone.body": 20}),
        ("frozen_bn", "gn", {"backbone.body": 20, "roi_heads.box_head": 4}),
        ("gn", "gn", {"backbone.body": 20, "roi_heads.box_head": 4}),
    ],
)
def test_each_part_has_its_own_norm(backbone, box, parts):
    net = build_detector(DetectorSpec(**SMALL, backbone_norm=backbone, box_norm=box), num_classes=3)
    assert norms_by_part(net) == parts
    kinds = {type(module).__name__ for module in net.backbone.modules() if is_norm(module)}
    assert kinds == {"FrozenBatchNorm3d" if backbone == "frozen_bn" else "GroupNorm3d"}


@pytest.mark.parametrize("norms", [{}, GN, {"backbone_norm": "bn", "box_norm": "bn"}], ids=["bn*", "gn", "bn"])
def test_it_trains_and_detects(norms):
    torch.manual_seed(0)
    net = build_detector(DetectorSpec(**SMALL, **norms, frozen_stages=0), num_classes=3)
    images = [torch.rand(3, 64, 64), torch.rand(3, 48, 64)]
    small = {**target(), "masks": target()["masks"][:, :48], "boxes": target()["boxes"].clamp(max=47)}
    losses = net(images, [target(), small])
    assert set(losses) == {"objectness", "proposal", "classifier", "box", "mask"}
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters() if p.requires_grad)
    with torch.no_grad():
        found = net.eval()(images)
    assert [set(row) for row in found] == [{"boxes", "labels", "scores", "masks"}] * 2
    assert all(row["masks"].shape[1:] == (1, 28, 28) for row in found)


def test_the_c4_net_shares_res5_between_boxes_and_masks():
    torch.manual_seed(0)
    spec = DetectorSpec(name="mask_rcnn_r50_c4", width=8, anchor=8, rois=8, proposals=10, backbone_norm="gn")
    net = build_detector(spec, num_classes=3)
    names = list(net.state_dict())
    assert any(name.startswith("roi_heads.box_head.res5.0.conv1") for name in names)
    assert not any(name.startswith(("roi_heads.mask_head", "backbone.body.layer4")) for name in names)
    losses = net([torch.rand(3, 64, 64)], [target()])
    losses["mask"].backward()
    assert net.roi_heads.box_head.res5[0].conv1.weight.grad.abs().sum() > 0
    with torch.no_grad():
        assert net.eval()([torch.rand(3, 64, 64)])[0]["masks"].shape[1:] == (1, 14, 14)


# FREEZE_AT 2: the stem and res2; 0 from random weights.
@pytest.mark.parametrize(
    ("stages", "frozen"), [(0, set()), (2, {"conv1", "bn1", "layer1"}), (3, {"conv1", "bn1", "layer1", "layer2"})]
)
def test_stages_are_frozen_from_the_stem_on(stages, frozen):
    net = build_detector(DetectorSpec(**SMALL, **GN, frozen_stages=stages), num_classes=3)
    body = net.backbone.body
    assert {name.split(".")[0] for name, p in body.named_parameters() if not p.requires_grad} == frozen


def test_the_box_loss_is_smooth_l1_with_beta_1_over_all_rois():
    logits = torch.zeros(4, 3)
    regression = torch.zeros(4, 12)
    labels = [torch.tensor([2, 0]), torch.tensor([1, 0])]
    wanted = [torch.tensor([[2.0, 0, 0, 0], [9, 9, 9, 9]]), torch.tensor([[0.5, 0, 0, 0], [9, 9, 9, 9]])]
    classifier, box = box_losses(logits, regression, labels, wanted)
    assert float(box) == pytest.approx((1.5 + 0.125) / 4)  # |2| - 1/2 and 0.5²/2; background does not count
    assert float(classifier) == pytest.approx(1.0986, abs=1e-4)  # ln 3


def test_images_of_one_batch_are_padded_to_multiples_of_32():
    batch = pad_images([torch.ones(3, 30, 40), torch.ones(3, 33, 20)])
    assert batch.shape == (2, 3, 64, 64)
    assert batch.sum((1, 2, 3)).tolist() == [3 * 30 * 40, 3 * 33 * 20]


def test_the_head_without_convolutions_has_two_hidden_layers():
    net = build_detector(DetectorSpec(**SMALL, box_convs=0, masks=False), num_classes=3)
    assert not isinstance(net.roi_heads.box_head, FastRCNNConvFCHead)
    assert set(net([torch.rand(3, 64, 64)], [target()])) == {"objectness", "proposal", "classifier", "box"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mask_rcnn_r34_fpn"}, r"model \(mask_rcnn_r34_fpn\) must be one of mask_rcnn_r50_fpn"),
        ({"box_norm": "wn"}, r"model\.box_norm \(wn\) must be one of gn, ln"),
        ({"name": "mask_rcnn_r50_c4", "box_norm": "gn"}, r"model\.box_norm \(gn\).*leave them at none"),
        ({"frozen_stages": 6}, r"model\.frozen_stages \(6\) must be in 0\.\.5"),
        ({"rois": 0}, r"model\.rois \(0\) must be at least 1"),
        ({"score_threshold": 1.0}, r"model\.score_threshold \(1\.0\) must be in \[0, 1\)"),
        ({"nrom": "gn"}, r"unknown option model\.nrom; use one of name, width"),
    ],
)
def test_a_value_out_of_range_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        detector_spec(options)
