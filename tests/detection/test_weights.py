"""Weights to start from: of a ResNet, of a whole detector, and Detectron's file of one."""

import pickle

import numpy as np
import pytest
import torch

from vidgn.detection.network import DetectorSpec, build_detector
from vidgn.detection.weights import load_detector_weights

GN = {"backbone_norm": "gn", "fpn_norm": "gn", "box_norm": "gn", "mask_norm": "gn"}
CLASSES = ("car", "dog")
STAGES = {"layer1": "res2", "layer2": "res3", "layer3": "res4", "layer4": "res5"}
VECTOR = {"weight": "s", "bias": "b"}


def detector(**options):
    torch.manual_seed(0)
    spec = DetectorSpec(**{"name": "mask_rcnn_r50_fpn", "width": 8, "anchor": 8, "rois": 8, "proposals": 10, **options})
    return build_detector(spec, num_classes=len(CLASSES))


def random_values(net):
    """Return a value for every tensor of a net, none of them that of a fresh net."""
    generator = torch.Generator().manual_seed(1)
    return {name: torch.rand(value.shape, generator=generator) for name, value in net.state_dict().items()}


def blob_name(name):
    """Name a tensor as Detectron does: the oracle, written the other way round than the reader."""
    parts = name.split(".")
    if name.startswith("backbone.body."):
        if parts[2] in ("conv1", "bn1"):
            return "conv1_w" if parts[2] == "conv1" else f"conv1_gn_{VECTOR[parts[3]]}"
        block = f"{STAGES[parts[2]]}_{parts[3]}"
        if parts[4] == "downsample":
            return f"{block}_branch1_w" if parts[5] == "0" else f"{block}_branch1_gn_{VECTOR[parts[6]]}"
        branch = f"{block}_branch2{'abc'[int(parts[4][-1]) - 1]}"
        return f"{branch}_w" if parts[4].startswith("conv") else f"{branch}_gn_{VECTOR[parts[5]]}"
    if name.startswith("backbone.fpn."):
        last = ("res2_2", "res3_3", "res4_5", "res5_2")[int(parts[3])]
        lateral = "_lateral" if parts[2] == "inner_blocks" and parts[3] != "3" else ""
        stem = f"fpn_{'inner_' if parts[2] == 'inner_blocks' else ''}{last}_sum{lateral}"
        return f"{stem}_w" if parts[4] == "0" else f"{stem}_gn_{VECTOR[parts[5]]}"
    heads = {
        "rpn.head.conv.0.0": "conv_rpn_fpn2", "rpn.head.cls_logits": "rpn_cls_logits_fpn2",
        "rpn.head.bbox_pred": "rpn_bbox_pred_fpn2", "roi_heads.box_head.5": "fc6",
        "roi_heads.box_predictor.cls_score": "cls_score", "roi_heads.box_predictor.bbox_pred": "bbox_pred",
        "roi_heads.mask_predictor.conv5_mask": "conv5_mask",
        "roi_heads.mask_predictor.mask_fcn_logits": "mask_fcn_logits",
    }  # fmt: skip
    if name.rpartition(".")[0] in heads:
        return f"{heads[name.rpartition('.')[0]]}_{ {'weight': 'w', 'bias': 'b'}[parts[-1]] }"
    stem = {"box_head": "head_conv", "mask_head": "_[mask]_fcn"}[parts[1]] + str(int(parts[2]) + 1)
    return f"{stem}_w" if parts[3] == "0" else f"{stem}_gn_{VECTOR[parts[4]]}"


def write_detectron(path, values, **more):
    """Write a file in the form of Detectron's model_final.pkl: a dictionary with `blobs`, momentum beside them."""
    blobs = {blob_name(name): value.numpy() for name, value in values.items()}
    blobs |= {f"{name}_momentum": np.zeros(1, np.float32) for name in list(blobs)[:3]}
    path.write_bytes(pickle.dumps({"blobs": {**blobs, **more}, "cfg": "MODEL: {}"}, protocol=2))


@pytest.mark.slow
def test_a_whole_detector_of_detectron_is_read(tmp_path):
    net = detector(**GN)
    values = random_values(net)
    write_detectron(tmp_path / "model_final.pkl", values)
    loaded = load_detector_weights(net, str(tmp_path / "model_final.pkl"), classes=CLASSES)
    assert (loaded.source, loaded.tensors) == ("Detectron", len(values))
    for name, value in net.state_dict().items():
        if name != "backbone.body.conv1.weight":
            assert torch.equal(value, values[name]), name
    # BGR of 0..255 without a division, as RGB of std 0.225.
    wanted = values["backbone.body.conv1.weight"].flip(1) * 255 * 0.225
    torch.testing.assert_close(net.backbone.body.conv1.weight.data, wanted)
    assert [round(255 * value, 4) for value in loaded.normalize.mean.flatten().tolist()] == [
        122.7717,
        115.9465,
        102.9801,
    ]


@pytest.mark.slow
def test_a_detectron_file_of_other_classes_or_norms(tmp_path):
    net = detector(**GN)
    values = random_values(net)
    for name in [name for name in values if "box_predictor." in name]:
        values[name] = torch.zeros(81 if "cls" in name else 324, *values[name].shape[1:])
    write_detectron(tmp_path / "coco.pkl", values)
    notes = load_detector_weights(net, str(tmp_path / "coco.pkl"), classes=CLASSES).notes
    assert any("roi_heads.box_predictor.cls_score.weight is new: it has other classes" in note for note in notes)
    assert net.roi_heads.box_predictor.cls_score.out_features == 3
    with pytest.raises(ValueError, match=r"coco\.pkl does not fit the net in \d+ tensors.*is no tensor of the net"):
        load_detector_weights(detector(**{**GN, "mask_norm": "none"}), str(tmp_path / "coco.pkl"), classes=CLASSES)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    (tmp_path / "model_final.pkl").write_bytes(b"\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.")
    with pytest.raises(
        ValueError, match=r"model_final\.pkl cannot be read as a dictionary of numeric arrays .*os\.system"
    ):
        load_detector_weights(detector(**GN), str(tmp_path / "model_final.pkl"), classes=CLASSES)


def body_file(tmp_path, net, *, statistics):
    """Write a ResNet in torchvision's names."""
    values = {
        name.removeprefix("backbone.body."): value
        for name, value in random_values(net).items()
        if name.startswith("backbone.body.")
    }
    if not statistics:
        values = {name: value for name, value in values.items() if "running" not in name}
    torch.save(values, tmp_path / "resnet.pth")
    return values


# The norm of the body, and whether the file has the statistics of batch norm.
@pytest.mark.parametrize(("norm", "statistics"), [("frozen_bn", True), ("gn", False), ("bn", True)])
def test_a_resnet_starts_the_body_and_leaves_the_rest_new(tmp_path, norm, statistics):
    net = detector(backbone_norm=norm)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    values = body_file(tmp_path, detector(backbone_norm="frozen_bn"), statistics=statistics)
    loaded = load_detector_weights(net, str(tmp_path / "resnet.pth"), classes=CLASSES)
    after = net.state_dict()
    for name, value in after.items():
        if name.startswith("backbone.body.") and not name.endswith("num_batches_tracked"):
            assert torch.equal(value, values[name.removeprefix("backbone.body.")]), name
        elif not name.startswith("backbone.body."):
            assert torch.equal(value, before[name]), name
    assert loaded.normalize.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_batch_norm_weights_lose_their_statistics_to_group_norm_and_the_note_says_so(tmp_path):
    body_file(tmp_path, detector(backbone_norm="frozen_bn"), statistics=True)
    loaded = load_detector_weights(detector(backbone_norm="gn"), str(tmp_path / "resnet.pth"), classes=CLASSES)
    assert any("statistics of batch norm are left out" in note for note in loaded.notes)


def test_a_frozen_norm_needs_the_statistics(tmp_path):
    body_file(tmp_path, detector(backbone_norm="frozen_bn"), statistics=False)
    net = detector(backbone_norm="frozen_bn")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=r"resnet\.pth does not fit .*model\.backbone_norm=frozen_bn needs batch-norm"):
        load_detector_weights(net, str(tmp_path / "resnet.pth"), classes=CLASSES)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_res5_of_a_c4_net_starts_from_the_resnets_last_stage(tmp_path):
    values = body_file(tmp_path, detector(backbone_norm="frozen_bn"), statistics=True)
    net = detector(name="mask_rcnn_r50_c4")
    load_detector_weights(net, str(tmp_path / "resnet.pth"), classes=CLASSES)
    ours = net.state_dict()["roi_heads.box_head.res5.2.conv3.weight"]
    assert torch.equal(ours, values["layer4.2.conv3.weight"])


@pytest.mark.slow
def test_a_checkpoint_of_task_detect_starts_another(detected):
    spec = DetectorSpec(name="mask_rcnn_r18_fpn", width=8, anchor=8, rois=8, proposals=10, **GN)
    net = build_detector(spec, num_classes=3)
    source = str(detected / "checkpoints" / "last.ckpt")
    assert load_detector_weights(net, source, classes=("disc", "square", "triangle")).source == "vidgn"
    kept = torch.load(source, weights_only=True)["state_dict"]
    assert all(torch.equal(value, kept[f"net.{name}"]) for name, value in net.state_dict().items())
    other = build_detector(spec, num_classes=2)
    before = other.roi_heads.box_predictor.cls_score.weight.clone()
    load_detector_weights(other, source, classes=CLASSES)
    assert torch.equal(other.roi_heads.box_predictor.cls_score.weight, before)
    assert torch.equal(other.backbone.body.conv1.weight, net.backbone.body.conv1.weight)
