import sys

import numpy as np
import pytest
import torch

from vidgn.checkpoints.description import Description
from vidgn.models.builders import I3DSpec, build_i3d
from vidgn.models.weights.load import load_weights
from vidgn.norms import make_norm

from ..conftest import random_state

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
KINETICS = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))


def net(norm="gn", *, num_classes=3, width=8, depth=50):
    options = {"num_groups": 4} if norm == "gn" and width < 32 else {}
    return build_i3d(I3DSpec(num_classes=num_classes, width=width, depth=depth), norm=make_norm(norm, **options))


def saved(content, tmp_path, name="weights.pth"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


def checkpoint(model, tmp_path, **meta):
    state = {f"net.{name}": tensor for name, tensor in random_state(model).items()}
    options = {"model": {"name": "i3d_r50", "width": 8}, "norm": {"name": "gn"}, "clip_len": 8, "span": 16, "crop": 32}
    described = Description(**options, **meta).to_plain() if meta.get("classes") else {}
    return saved({"vidgn": described, "state_dict": state}, tmp_path)


def test_torchvision_weights_land_where_they_belong(torchvision_state, tmp_path):
    target = net("bn", width=64)
    own_head = target.blocks[6].proj.weight.clone()
    report = load_weights(target, saved(torchvision_state, tmp_path))
    got = target.state_dict()
    source = torchvision_state
    torch.testing.assert_close(got["blocks.0.conv.weight"].sum(2), source["conv1.weight"])
    assert got["blocks.0.conv.weight"].shape == (64, 3, 5, 7, 7)
    assert torch.equal(got["blocks.0.norm.running_var"], source["bn1.running_var"])
    block = "blocks.4.res_blocks.3.branch2"
    assert torch.equal(got[f"{block}.conv_b.weight"][:, :, 0], source["layer3.3.conv2.weight"])
    assert torch.equal(got[f"{block}.norm_c.weight"], source["layer3.3.bn3.weight"])  # no longer zero
    assert torch.equal(got["blocks.5.res_blocks.0.branch1_norm.bias"], source["layer4.0.downsample.1.bias"])
    assert got["blocks.0.norm.num_batches_tracked"] == 7
    assert torch.equal(got["blocks.6.proj.weight"], own_head)
    assert report.loaded == 318  # all of 320 but fc
    assert (report.replaced_head, report.source_format) == (True, "torchvision")
    assert (report.input_mean, report.input_std) == IMAGENET
    assert report.notes == (
        "2-D kernels inflated, 10 of them to more than one frame",
        "the classifier is new: the source's classes are ImageNet's",
    )


@pytest.mark.slow
@pytest.mark.parametrize("container", ["flat", "state_dict", "model_state", "module"])
def test_containers_are_opened(container, timm_state, tmp_path):
    content = {
        "flat": timm_state,
        "state_dict": {"state_dict": timm_state, "epoch": 3},
        "model_state": {"model_state": timm_state},
        "module": {"state_dict": {f"module.{name}": tensor for name, tensor in timm_state.items()}},
    }[container]
    target = net("gn", width=64)
    report = load_weights(target, saved(content, tmp_path))
    assert torch.equal(target.state_dict()["blocks.0.norm.bias"], timm_state["bn1.bias"])
    assert (report.loaded, report.replaced_head) == (159, True)
    assert (report.input_mean, report.input_std) == IMAGENET


def test_files_without_batch_counters_load(torchvision_state, tmp_path):
    old = {name: t for name, t in torchvision_state.items() if not name.endswith("num_batches_tracked")}
    assert load_weights(net("bn", width=64), saved(old, tmp_path)).loaded == 265


def test_imagenets_classifier_is_never_kept(timm_state, tmp_path):
    report = load_weights(net("gn", width=64, num_classes=1000), saved(timm_state, tmp_path))
    assert report.replaced_head


def test_group_counts_that_differ_are_noted(timm_state, tmp_path):
    report = load_weights(net("ln", width=64), saved(timm_state, tmp_path))
    assert report.notes[0] == "the weights were trained with 32 groups, the net's norms have 1"


def test_pytorchvideos_names_are_ours(tmp_path):
    source = net("bn", num_classes=4)
    state = random_state(source)
    target = net("bn", num_classes=4)
    report = load_weights(target, saved({"model_state": state}, tmp_path))
    assert all(torch.equal(tensor, state[name]) for name, tensor in target.state_dict().items())
    assert (report.loaded, report.replaced_head, report.source_format) == (320, False, "pytorchvideo")
    assert (report.input_mean, report.input_std) == KINETICS


def test_a_group_norm_net_takes_the_kernels_and_the_lines_of_batch_norm_weights(torchvision_state, tmp_path):
    target = net("gn", width=64)
    report = load_weights(target, saved(torchvision_state, tmp_path))
    got = target.state_dict()
    assert torch.equal(got["blocks.0.norm.weight"], torchvision_state["bn1.weight"])
    assert torch.equal(got["blocks.0.norm.bias"], torchvision_state["bn1.bias"])
    torch.testing.assert_close(got["blocks.0.conv.weight"].sum(2), torchvision_state["conv1.weight"])
    assert report.loaded == 159  # 53 convolutions, and weight and bias of as many norms
    (lost,) = [note for note in report.notes if "statistics" in note]
    assert lost.startswith("the batch-norm statistics are lost: kernels, weight and bias are copied")
    assert "vidgn convert-weights" in lost


def test_stages_that_the_file_lacks_or_has_stay_fresh_where_that_is_asked_for(torchvision_state, tmp_path):
    target = net("bn", width=64)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    lacking = {name: t for name, t in torchvision_state.items() if not name.startswith(("layer4.", "fc."))}
    report = load_weights(target, saved(lacking, tmp_path), fresh=("stem", "res5"))
    after = target.state_dict()
    for name, tensor in after.items():
        is_fresh = name.startswith(("blocks.0.", "blocks.5.", "blocks.6."))
        assert not is_fresh or torch.equal(tensor, before[name]), name
    assert torch.equal(after["blocks.4.res_blocks.5.branch2.norm_c.bias"], torchvision_state["layer3.5.bn3.bias"])
    assert "stem, res5: fresh weights, as init_fresh asks" in report.notes


def test_a_stage_that_is_not_named_must_be_in_the_file(torchvision_state, tmp_path):
    lacking = {name: t for name, t in torchvision_state.items() if not name.startswith("layer4.")}
    with pytest.raises(ValueError, match=r"missing: blocks\.5\.res_blocks\.0\.branch1_conv\.weight"):
        load_weights(net("bn", width=64), saved(lacking, tmp_path))
    with pytest.raises(ValueError, match=r"init_fresh \(res6\) must be some of stem, res2, res3, res4, res5, head"):
        load_weights(net("bn", width=64), saved(lacking, tmp_path), fresh=["res6"])


def test_group_norm_weights_in_a_batch_norm_net_are_refused(timm_state, tmp_path):
    message = "has no batch-norm statistics .* use norm=gn, or BN weights such as init=torchvision"
    with pytest.raises(ValueError, match=message):
        load_weights(net("bn", width=64), saved(timm_state, tmp_path))


def test_everything_that_does_not_fit_is_listed_at_once(timm_state, tmp_path):
    state = dict(timm_state)
    del state["layer1.0.conv2.weight"], state["bn1.bias"]
    state["layer9.conv.weight"] = torch.zeros(1)
    state["layer1.3.bn1.weight"] = torch.zeros(64)
    state["layer4.0.bn1.weight"] = torch.zeros(7)
    state["conv1.weight"] = torch.zeros(64, 4, 7, 7)
    target = net("gn", width=64)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    message = (
        r"2 missing: blocks.0.norm.bias, blocks.1.res_blocks.0.branch2.conv_b.weight; "
        r"2 unexpected: layer9.conv.weight, blocks.1.res_blocks.3.branch2.norm_a.weight; "
        r"2 of another shape: blocks.0.conv.weight \(64, 4, 5, 7, 7\) for \(64, 3, 5, 7, 7\), "
        r"blocks.5.res_blocks.0.branch2.norm_a.weight \(7,\) for \(512,\)\); use weights of this net's norm"
    )
    with pytest.raises(ValueError, match=message):
        load_weights(target, saved(state, tmp_path))
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_weights_of_another_depth_or_width_are_refused(timm_state, tmp_path):
    path = saved(timm_state, tmp_path)
    with pytest.raises(ValueError, match=r"153 missing: blocks.4.res_blocks.6"):
        load_weights(net("gn", width=64, depth=101), path)
    with pytest.raises(ValueError, match=r"159 of another shape: blocks.0.conv.weight \(64, 3, 5, 7, 7\) for"):
        load_weights(net("gn", width=8), path)


def test_a_checkpoint_of_ours_with_the_same_classes_loads_whole(tmp_path):
    names = ("run", "sit", "walk")
    path = checkpoint(net(), tmp_path, classes=names, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
    target = net()
    report = load_weights(target, path, classes=names)
    assert (report.loaded, report.replaced_head, report.notes) == (161, False, ())
    assert (report.input_mean, report.input_std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    expected = random_state(net())
    assert all(torch.equal(tensor, expected[name]) for name, tensor in target.state_dict().items())


def test_what_a_checkpoint_keeps_beside_the_net_is_left_out(tmp_path):
    state = {f"net.{name}": tensor for name, tensor in random_state(net()).items()}
    path = saved({"vidgn": {}, "state_dict": {**state, "normalize.mean": torch.zeros(3)}}, tmp_path)
    report = load_weights(net(), path)
    assert (report.loaded, report.input_mean, report.input_std) == (161, None, None)


def test_classes_in_another_order_move_the_classifiers_rows(tmp_path):
    path = checkpoint(net(), tmp_path, classes=["walk", "run", "sit"])
    target = net()
    report = load_weights(target, path, classes=("run", "sit", "walk"))
    expected = random_state(net())
    assert torch.equal(target.blocks[6].proj.weight, expected["blocks.6.proj.weight"][[1, 2, 0]])
    assert torch.equal(target.blocks[6].proj.bias, expected["blocks.6.proj.bias"][[1, 2, 0]])
    assert report.notes == ("the classifier's rows were put into the order of the net's classes",)
    assert not report.replaced_head


@pytest.mark.parametrize(
    ("theirs", "ours", "num_classes", "reason"),
    [
        (["run", "sit", "walk"], ("run", "sit", "swim"), 3, "the source has other classes"),
        (["run", "sit", "walk"], ("run", "sit"), 2, "the source has 3 classes and the net 2"),
        (["run", "sit", "walk"], None, 2, "the source has 3 classes and the net 2"),
        (None, ("run", "sit", "walk"), 3, "the source does not name its classes"),
    ],
)
def test_a_classifier_of_other_classes_starts_anew(theirs, ours, num_classes, reason, tmp_path):
    path = checkpoint(net(), tmp_path, classes=theirs)
    target = net(num_classes=num_classes)
    own = target.blocks[6].proj.weight.clone()
    report = load_weights(target, path, classes=ours)
    assert report.replaced_head
    assert report.notes == (f"the classifier is new: {reason}",)
    assert torch.equal(target.blocks[6].proj.weight, own)
    assert report.loaded == 159


def test_without_class_names_a_classifier_of_equal_size_is_kept(tmp_path):
    path = checkpoint(net(), tmp_path, classes=["run", "sit", "walk"])
    assert not load_weights(net(), path).replaced_head


def test_weights_without_a_classifier_leave_the_nets(tmp_path):
    state = {name: tensor for name, tensor in random_state(net()).items() if "proj" not in name}
    report = load_weights(net(), saved(state, tmp_path))
    assert report.notes == ("the classifier is new: the source has none",)


def test_class_names_must_match_the_nets_outputs(tmp_path):
    path = checkpoint(net(), tmp_path)
    with pytest.raises(ValueError, match="classes has 2 names and the net has 3 outputs; give one name per"):
        load_weights(net(), path, classes=("run", "sit"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("norm", "loaded"), [("frozen_bn", 267), ("sub_bn", 267), ("sync_bn", 320), ("batch_renorm", 320)]
)
@torch.no_grad()
def test_batch_norms_weights_fit_its_relatives(norm, loaded, tmp_path):
    source = net("bn").eval()
    source.load_state_dict(random_state(source))
    target = net(norm).eval()
    report = load_weights(target, saved(source.state_dict(), tmp_path))
    assert report.loaded == loaded
    clip = torch.randn(1, 3, 8, 32, 32)
    torch.testing.assert_close(target(clip), source(clip))


def test_a_source_that_is_no_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"Weights nothing\.pth are no file; give torchvision, timm or the"):
        load_weights(net(), "nothing.pth")


class Runs:
    def __reduce__(self):
        return (sys.modules["builtins"].exec, ("raise SystemExit('executed')",))


def test_code_in_a_file_is_refused_and_does_not_run(tmp_path):
    path = saved({"conv1.weight": Runs()}, tmp_path)
    with pytest.raises(ValueError, match=r"weights.pth cannot be read as plain tensors \(it needs code to be read\)"):
        load_weights(net(), path)


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04cut off"])
def test_a_damaged_file_is_refused(content, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.pth cannot be read as plain tensors"):
        load_weights(net(), path)


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        ({"features.0.weight": torch.zeros(1)}, "features.0.weight"),
        ([torch.zeros(1)], "nothing"),  # a list
        ({}, "nothing"),
    ],
)
def test_a_file_of_no_known_format_lists_the_formats(content, seen, tmp_path):
    message = f"it holds {seen}; give a state dict in the names of vidgn, torchvision MViT, pytorchvideo"
    with pytest.raises(ValueError, match=message):
        load_weights(net(), saved(content, tmp_path))


def test_what_is_no_tensor_under_a_tensors_name_is_listed(timm_state, tmp_path):
    path = saved({**timm_state, "layer1.0.conv1.weight": 3}, tmp_path)
    with pytest.raises(ValueError, match=r"1 missing: .*conv_a.weight; 1 unexpected: layer1.0.conv1.weight \(a int\)"):
        load_weights(net("gn", width=64), path)


NPY = (
    b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (), }".ljust(117) + b"\n" + bytes(4)
)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04cut off", NPY])  # the last: one array
def test_a_damaged_archive_is_refused(content, tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.npz cannot be read as an archive of numeric arrays"):
        load_weights(net(), path)


def test_code_in_an_archive_is_refused_and_does_not_run(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, **{"conv0/W": np.array([Runs()], object)})
    with pytest.raises(ValueError, match=r"weights\.npz cannot be read as an archive of numeric arrays \(Object arr"):
        load_weights(net(), path)
