"""Each published format: a file written in it, loaded, and the logits of a reference net in the source's pixels."""

import pickle

import numpy as np
import pytest
import torch
from pytorchvideo.models.hub import i3d_r50

from vidgn.models.builders import I3DSpec, build_i3d
from vidgn.models.weights.load import load_weights
from vidgn.norms import make_norm

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
KINETICS = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
MMACTION = {"pool1": ((1, 3, 3), (2, 2, 2), (0, 1, 1))}  # resnet3d.py:781-802
SLOWFAST = {"pool1": ((1, 3, 3), (1, 2, 2), (0, 1, 1)), "conv1_stride": (1, 2, 2)}  # video_model_builder.py:502-549


def net(norm="bn", *, pool1="nonlocal", num_classes=5):
    torch.manual_seed(1)
    factory = make_norm("gn", num_groups=4) if norm == "gn" else make_norm("bn")
    return build_i3d(I3DSpec(num_classes=num_classes, width=8, window=2, pool1=pool1), norm=factory).eval()


@pytest.fixture(scope="module")
def clips():
    """RGB pixels 0..255 (N, 3, T, H, W) as floats, so that no format has an advantage."""
    return torch.randint(0, 256, (2, 3, 16, 64, 64), generator=torch.Generator().manual_seed(2)).float()


def normalized(clips, mean, std):
    shape = (3, 1, 1, 1)
    return (clips / 255 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)


@torch.no_grad()
def check(target, report, clips, expected):
    assert expected.std().item() > 0.1  # the logits say something
    ours = target(normalized(clips, report.input_mean, report.input_std))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def set_head(target, blobs):
    target.blocks[6].proj.weight.data = torch.from_numpy(blobs["pred_w"])
    target.blocks[6].proj.bias.data = torch.from_numpy(blobs["pred_b"])


def test_detectrons_group_norm_pickle(sources, clips, tmp_path):
    blobs = sources.random_blobs(norm="gn", pictures=True)
    blobs["conv1_w"] /= 60  # made for pixels of 0..255
    path = sources.write_python2_pickle({"blobs": blobs}, tmp_path / "R-50-GN.pkl")
    target = net("gn")
    report = load_weights(target, path)
    set_head(target, blobs)
    bgr = clips.flip(1) - torch.tensor([102.9801, 115.9465, 122.7717]).view(3, 1, 1, 1)
    check(target, report, clips, sources.net(sources.inflated(blobs), bgr, groups=4))
    assert (report.source_format, report.loaded, report.replaced_head) == ("Detectron", 159, True)
    assert report.notes == (
        "the weights were trained with 32 groups, the net's norms have 4",
        "the first convolution was converted from BGR to RGB and from pixels of 0..255 to such of std"
        " 0.225, 0.225, 0.225",
        "2-D kernels inflated, 10 of them to more than one frame",
        "the classifier is new: the source's classes are ImageNet's",
    )


def test_tensorpacks_archive(sources, clips, tmp_path):
    blobs = sources.random_blobs(norm="gn", pictures=True, seed=1)
    to_theirs = {4: lambda w: np.moveaxis(w, (0, 1), (3, 2)), 2: np.transpose, 1: np.asarray}  # HWIO, (I, O)
    arrays = {sources.tensorpack_name(name): to_theirs[w.ndim](w) for name, w in blobs.items()}
    assert arrays["conv0/W:0"].shape == (7, 7, 3, 8)
    assert arrays["linear/W:0"].shape == (256, 5)
    np.savez(tmp_path / "R50-GN.npz", **arrays, **{"learning_rate:0": np.float32(0.1), "global_step:0": np.int64(9)})
    target = net("gn")
    report = load_weights(target, tmp_path / "R50-GN.npz")
    set_head(target, blobs)
    mean, std = (np.array(values)[::-1].copy() for values in IMAGENET)  # reversed for BGR
    bgr = (clips.flip(1) / 255 - torch.tensor(mean).view(3, 1, 1, 1)) / torch.tensor(std).view(3, 1, 1, 1)
    check(target, report, clips, sources.net(sources.inflated(blobs), bgr.float(), groups=4))
    assert (report.source_format, report.loaded) == ("tensorpack", 159)
    assert (report.input_mean, report.input_std) == IMAGENET
    assert report.notes[1] == "the first convolution was converted from BGR to RGB"


def test_group_norm_reproduces_pytorch_checkpoint(sources, clips, tmp_path):
    blobs = sources.random_blobs(norm="gn", pictures=True, seed=2)
    state = sources.torch_state(blobs, lambda name: f"module.{sources.torchvision_name(name)}")
    content = {"epoch": 100, "arch": "resnet50", "state_dict": state, "best_prec1": 75.9, "optimizer": {"state": {}}}
    torch.save(content, tmp_path / "model_best.pth.tar")
    target = net("gn")
    report = load_weights(target, tmp_path / "model_best.pth.tar")
    set_head(target, blobs)
    check(target, report, clips, sources.net(sources.inflated(blobs), normalized(clips, *IMAGENET), groups=4))
    assert (report.input_mean, report.input_std) == IMAGENET


def test_torchvisions_batch_norm_weights(sources, clips, tmp_path):
    blobs = sources.random_blobs(pictures=True, seed=3)
    torch.save(sources.torch_state(blobs, sources.torchvision_name), tmp_path / "resnet50.pth")
    target = net()
    report = load_weights(target, tmp_path / "resnet50.pth")
    set_head(target, blobs)
    check(target, report, clips, sources.net(sources.inflated(blobs), normalized(clips, *IMAGENET)))


@pytest.mark.parametrize("python", [2, 3])
def test_video_nonlocal_nets_pickle(python, sources, clips, tmp_path):
    blobs = sources.random_blobs(seed=4)
    kept = {f"{name}_momentum": np.zeros_like(value) for name, value in blobs.items()}
    content = {"blobs": {**blobs, **kept, "lr": np.float32(0.01), "model_iter": 400000, "ONE": np.ones(1)}}
    path = tmp_path / "i3d_baseline_32x2.pkl"
    if python == 2:
        sources.write_python2_pickle(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    target = net()
    report = load_weights(target, path)
    check(target, report, clips, sources.net(blobs, normalized(clips, *KINETICS)))
    assert (report.source_format, report.loaded, report.replaced_head) == ("video-nonlocal-net", 267, False)
    assert (report.input_mean, report.input_std) == KINETICS
    stem = target.state_dict()["blocks.0.norm.running_var"]
    assert torch.equal(stem, torch.from_numpy(blobs["res_conv1_bn_riv"]))  # the variance itself, not 1/std


def test_slowfasts_caffe2_pickle(sources, clips, tmp_path):
    blobs = sources.random_blobs(seed=5)
    path = sources.write_python2_pickle({"blobs": blobs}, tmp_path / "I3D_8x8_R50.pkl")
    target = net(pool1="pytorchvideo")
    report = load_weights(target, path)
    check(target, report, clips[:, :, :8], sources.net(blobs, normalized(clips[:, :, :8], *KINETICS), **SLOWFAST))


def test_slowfasts_own_checkpoint(sources, clips, tmp_path):
    blobs = sources.random_blobs(seed=6)
    state = sources.torch_state(blobs, sources.slowfast_name)
    state["s1.pathway0_stem.bn.num_batches_tracked"] = torch.tensor(3)
    content = {"epoch": 196, "model_state": state, "optimizer_state": {"state": {}}, "cfg": "TRAIN:\n  ENABLE: true"}
    torch.save(content, tmp_path / "I3D_8x8_R50.pyth")
    target = net(pool1="pytorchvideo")
    report = load_weights(target, tmp_path / "I3D_8x8_R50.pyth")
    check(target, report, clips[:, :, :8], sources.net(blobs, normalized(clips[:, :, :8], *KINETICS), **SLOWFAST))
    assert (report.source_format, report.loaded) == ("PySlowFast", 268)
    assert (report.input_mean, report.input_std) == KINETICS


@pytest.mark.parametrize("prefix", ["", "model."])  # pytorchvideo's own file, and PySlowFast's around it
@torch.no_grad()
def test_pytorchvideos_checkpoint(prefix, clips, tmp_path):
    torch.manual_seed(7)
    theirs = i3d_r50(stem_dim_out=8, model_num_class=5, head_pool_kernel_size=(4, 2, 2)).eval()
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.1)
    state = {f"{prefix}{name}": tensor for name, tensor in theirs.state_dict().items()}
    torch.save({"model_state": state}, tmp_path / "I3D_8x8_R50.pyth")
    target = net(pool1="pytorchvideo")
    report = load_weights(target, tmp_path / "I3D_8x8_R50.pyth")
    check(target, report, clips[:, :, :8], theirs(normalized(clips[:, :, :8], *KINETICS)))
    assert (report.source_format, report.loaded, report.notes) == ("pytorchvideo", 320, ())


def test_mmactions_checkpoint(sources, clips, tmp_path):
    blobs = sources.random_blobs(seed=8)
    state = sources.torch_state(blobs, sources.mmaction_name)
    state |= {"data_preprocessor.mean": torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1, 1)}
    torch.save({"meta": {"epoch": 100, "cfg": "model = dict()"}, "state_dict": state}, tmp_path / "i3d.pth")
    target = net(pool1="mmaction2")
    report = load_weights(target, tmp_path / "i3d.pth")
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]))
    check(target, report, clips, sources.net(blobs, (clips - mean) / std, **MMACTION))
    assert (report.source_format, report.loaded) == ("mmaction2", 267)
    assert (report.input_mean, report.input_std) == IMAGENET


def test_gluons_checkpoint(sources, clips, tmp_path):
    blobs = sources.random_blobs(seed=9)
    state = sources.torch_state(blobs, sources.gluon_name)
    state |= {f"head.1.{kind}": state[f"fc.{kind}"] for kind in ("weight", "bias")}
    torch.save(state, tmp_path / "i3d_resnet50.pth")
    target = net(pool1="mmaction2")
    report = load_weights(target, tmp_path / "i3d_resnet50.pth")
    check(target, report, clips, sources.net(blobs, normalized(clips, *IMAGENET), **MMACTION))
    assert (report.source_format, report.loaded) == ("gluon-cv", 267)


def test_the_reference_is_not_ours_by_accident(sources, clips):
    """Every option of the reference changes its logits, so equal logits mean equal options."""
    blobs, x = sources.random_blobs(), normalized(clips, *KINETICS)
    logits = [sources.net(blobs, x, **options) for options in ({}, MMACTION, SLOWFAST)]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert (logits[first] - logits[second]).abs().max() > 0.1


def test_detectrons_folded_batch_norm_is_refused(sources, tmp_path):
    blobs = sources.random_blobs(pictures=True)
    folded = {name: value for name, value in blobs.items() if not name.endswith(("_rm", "_riv"))}
    folded |= {"fc1000_w": folded.pop("pred_w"), "fc1000_b": folded.pop("pred_b"), "conv1_b": np.zeros(8)}
    path = sources.write_python2_pickle(folded, tmp_path / "R-50.pkl")
    with pytest.raises(
        ValueError, match=r"R-50.pkl is a ResNet whose batch-norm statistics are folded away .* R-50-GN"
    ):
        load_weights(net(), path)


def test_what_a_caffe2_file_has_too_much_is_listed(sources, tmp_path):
    blobs = sources.random_blobs() | {"nonlocal_conv4_1_theta_w": np.zeros((2, 2, 1, 1, 1)), "pred_w": "none"}
    path = sources.write_python2_pickle({"blobs": blobs}, tmp_path / "nonlocal.pkl")
    message = r"2 unexpected: pred_w \(a str\), blocks\.4\.nonlocal_blocks\.1\.conv_theta\.weight\)"
    with pytest.raises(ValueError, match=message):
        load_weights(net(), path)


def kinetics_file(sources, tmp_path):
    blobs = sources.random_blobs(num_classes=400)
    return blobs, sources.write_python2_pickle({"blobs": blobs}, tmp_path / "kinetics.pkl")


def test_published_classes_are_matched_by_name(sources, tmp_path):
    from torchvision.models.video import R3D_18_Weights

    names = R3D_18_Weights.KINETICS400_V1.meta["categories"]
    assert (names[0], names[115], names[290], names[399]) == (
        "abseiling", "eating ice cream", "sharpening knives", "zumba",
    )  # fmt: skip
    blobs, path = kinetics_file(sources, tmp_path)
    target = net(num_classes=400)
    assert load_weights(target, path, classes=names).notes == ()
    assert torch.equal(target.blocks[6].proj.weight, torch.from_numpy(blobs["pred_w"]))
    folders = [name.replace(" ", "_") for name in reversed(names)]
    report = load_weights(target, path, classes=folders)
    assert report.notes == ("the classifier's rows were put into the order of the net's classes",)
    assert torch.equal(target.blocks[6].proj.bias, torch.from_numpy(blobs["pred_b"][::-1].copy()))


def test_four_hundred_other_classes_start_anew(sources, tmp_path):
    _, path = kinetics_file(sources, tmp_path)
    report = load_weights(net(num_classes=400), path, classes=[f"class {k}" for k in range(400)])
    assert report.notes == ("the classifier is new: the source has other classes",)
