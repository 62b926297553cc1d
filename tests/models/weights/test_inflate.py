import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from vidgn.checkpoints.description import Description
from vidgn.models.builders import I3DSpec, build_i3d
from vidgn.models.registry import build_model
from vidgn.models.weights.inflate import inflate
from vidgn.models.weights.load import load_weights
from vidgn.norms import GroupNorm3d, make_norm


def test_each_plane_is_the_picture_kernel_divided_by_their_number():
    kernel = torch.tensor([[[[3.0, 6.0]]]])  # (1, 1, 1, 2)
    expected = torch.tensor([[[[[1.0, 2.0]], [[1.0, 2.0]], [[1.0, 2.0]]]]])  # (1, 1, 3, 1, 2)
    assert torch.equal(inflate(kernel, 3), expected)


def test_a_kernel_that_is_no_picture_kernel_is_refused():
    with pytest.raises(ValueError, match=r"weight2d has shape \(8, 4\); give a 2-D kernel"):
        inflate(torch.zeros(8, 4), 3)
    with pytest.raises(ValueError, match=r"kernel_t \(0\) must be at least 1 frame"):
        inflate(torch.zeros(8, 4, 1, 1), 0)


def test_an_inflated_kernel_makes_of_a_reversed_clip_the_reversed_features():
    """Why pictures do not prepare for classes that differ in their direction alone (benchmarks/image_to_video.md)."""
    torch.manual_seed(0)
    clip, kernel = torch.randn(1, 2, 8, 5, 5), inflate(torch.randn(4, 2, 3, 3), 5)
    there, back = F.conv3d(clip, kernel, padding=(2, 1, 1)), F.conv3d(clip.flip(2), kernel, padding=(2, 1, 1))
    torch.testing.assert_close(back.flip(2), there)
    learnt = kernel + torch.randn_like(kernel)
    there, back = F.conv3d(clip, learnt, padding=(2, 1, 1)), F.conv3d(clip.flip(2), learnt, padding=(2, 1, 1))
    assert (back.flip(2) - there).abs().mean() > 1


def random_picture_net(norm_layer) -> nn.Module:
    """torchvision's ResNet-50 with every weight random, and pool1 without padding, as in the video net."""
    torch.manual_seed(0)
    net = torchvision.models.resnet50(weights=None, norm_layer=norm_layer).eval()
    for name, tensor in net.state_dict().items():
        if ".bn" in name or "bn1" in name or "downsample.1" in name:
            if name.endswith(("weight", "running_var")):
                nn.init.uniform_(tensor, 0.5, 1.0)
            elif name.endswith(("bias", "running_mean")):
                nn.init.normal_(tensor, std=0.2)
    net.maxpool = nn.MaxPool2d(3, 2, padding=0)
    return net


@torch.no_grad()
def picture_features(net: nn.Module, picture: torch.Tensor) -> torch.Tensor:
    x = net.maxpool(F.relu(net.bn1(net.conv1(picture))))
    return net.layer4(net.layer3(net.layer2(net.layer1(x))))  # (1, 2048, H', W')


def video_net(picture_net: nn.Module, norm: str, path) -> nn.Module:
    torch.save(picture_net.state_dict(), path)
    net = build_i3d(I3DSpec(num_classes=3), norm=make_norm(norm)).eval()
    load_weights(net, path)
    return net


@torch.no_grad()
def test_a_still_video_gives_the_pictures_features_in_interior_frames(tmp_path):
    # Zero padding in time spoils frames at both ends, and each 3x1x1 spoils one more: of the 20 frames
    # that res5 makes of 160, 8 at each end are not compared (conv1 to pool2 spoil 2, res3 2, res4 3, res5 1).
    picture_net = random_picture_net(nn.BatchNorm2d)
    net = video_net(picture_net, "bn", tmp_path / "resnet50.pth")
    picture = torch.randn(1, 3, 32, 32)
    expected = picture_features(picture_net, picture)
    features = net.features(picture.unsqueeze(2).expand(1, 3, 160, 32, 32))
    scale = expected.abs().max().item()
    assert scale > 0.1  # the features are not dead
    for frame in range(8, 12):
        assert (features[:, :, frame] - expected).abs().max().item() <= 1e-4 * max(scale, 1)
    assert (features[:, :, 0] - expected).abs().max().item() > 1e-2 * scale  # the ends do differ


@torch.no_grad()
def test_a_still_video_gives_the_pictures_features_with_group_norm(tmp_path):
    # Group norm's statistics take in every frame, so zero padding in time at the ends of a clip changes all
    # frames, however long the clip. Repeating the first and last frame in place of the zeros makes every
    # frame interior; mean and variance over T equal frames are those of one picture, and all must agree.
    picture_net = random_picture_net(lambda channels: nn.GroupNorm(32, channels))
    net = video_net(picture_net, "gn", tmp_path / "resnet50_gn.pth")
    assert sum(isinstance(module, GroupNorm3d) for module in net.modules()) == 53
    repeat_frames_instead_of_zeros(net)
    picture = torch.randn(1, 3, 64, 64)
    expected = picture_features(picture_net, picture)
    features = net.features(picture.unsqueeze(2).expand(1, 3, 16, 64, 64))
    scale = expected.abs().max().item()
    assert scale > 0.1
    assert features.shape == (1, 2048, 2, 2, 2)
    for frame in range(2):
        assert (features[:, :, frame] - expected).abs().max().item() <= 1e-4 * max(scale, 1)


def repeat_frames_instead_of_zeros(net: nn.Module) -> None:
    changed = 0
    for conv in net.modules():
        if isinstance(conv, nn.Conv3d) and conv.padding[0]:
            pad = (0, 0, 0, 0, conv.padding[0], conv.padding[0])
            conv.padding = (0, *conv.padding[1:])
            conv.register_forward_pre_hook(lambda _, args, pad=pad: F.pad(args[0], pad, mode="replicate"))
            changed += 1
    assert changed == 10


def pictures_of(name, tmp_path, *, num_classes=3, classes=("a", "b", "c"), norm="gn"):
    """A vidgn checkpoint that was trained on pictures, with random weights."""
    torch.manual_seed(0)
    options = {"num_groups": 4} if norm == "gn" else {}
    net = build_model(name, num_classes=num_classes, norm=make_norm(norm, **options), width=8, crop=32).eval()
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.05)
    state = {f"net.{key}": value for key, value in net.state_dict().items()}
    model = {"name": "c2d_r50", "width": 8}
    meta = Description(tuple(classes), model=model, norm={"name": "gn"}, clip_len=1, span=1, crop=32)
    torch.save({"vidgn": meta.to_plain(), "state_dict": state}, tmp_path / "pictures.ckpt")
    return net, tmp_path / "pictures.ckpt"


@pytest.mark.slow
def test_our_own_picture_net_is_inflated_by_the_i3d(tmp_path):
    pictures, path = pictures_of("c2d_r50", tmp_path)
    net = build_model("i3d_r50", num_classes=2, norm=make_norm("gn", num_groups=4), width=8, crop=32)
    report = load_weights(net, path, classes=("up", "down"))
    assert report.loaded == 159  # all of 161 but the classifier
    assert report.notes == (
        "2-D kernels inflated, 10 of them to more than one frame",
        "the classifier is new: the source has 3 classes and the net 2",
    )
    assert (report.source_format, report.input_mean) == ("vidgn", (0.45, 0.45, 0.45))
    own, ours = net.state_dict(), pictures.state_dict()
    for name in ("blocks.0.conv.weight", "blocks.5.res_blocks.1.branch2.conv_a.weight"):
        planes = own[name].unbind(2)
        assert len(planes) == own[name].shape[2] > 1
        for plane in planes:
            torch.testing.assert_close(plane * len(planes), ours[name][:, :, 0])
    assert torch.equal(
        own["blocks.5.res_blocks.1.branch2.norm_c.bias"], ours["blocks.5.res_blocks.1.branch2.norm_c.bias"]
    )


@pytest.mark.slow
@torch.no_grad()
def test_the_inflated_slow_net_sees_the_picture(tmp_path):
    """With batch norm, whose stored statistics look at no border: the middle of 19 still frames is the picture."""
    pictures, path = pictures_of("c2d_r50", tmp_path, norm="bn")
    net = build_model("slow_r50", num_classes=2, norm=make_norm("bn"), width=8, crop=32).eval()
    load_weights(net, path, classes=("up", "down"))
    picture = torch.randn(1, 3, 1, 64, 64, dtype=torch.float64)
    expected = pictures.double().features(picture)
    assert expected.std().item() > 1e-3
    found = net.double().features(picture.repeat(1, 1, 19, 1, 1))
    torch.testing.assert_close(found[:, :, 9], expected[:, :, 0], rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_a_picture_nets_classes_stay_where_they_are_the_same(tmp_path):
    pictures, path = pictures_of("c2d_r50", tmp_path)
    net = build_model("c2d_r50", num_classes=3, norm=make_norm("gn", num_groups=4), width=8, crop=32)
    report = load_weights(net, path, classes=("c", "a", "b"))
    assert not report.replaced_head
    assert torch.equal(net.blocks[-1].proj.weight, pictures.blocks[-1].proj.weight[[2, 0, 1]])


@pytest.mark.slow
def test_a_clip_kernel_is_never_inflated(tmp_path):
    """A checkpoint of videos whose kernels look at one frame is C2D on videos, and no picture net."""
    _, path = pictures_of("c2d_r50", tmp_path)
    content = torch.load(path)
    content["vidgn"]["clip"] = {"clip_len": 8, "span": 64}
    torch.save(content, path)
    net = build_model("i3d_r50", num_classes=3, norm=make_norm("gn", num_groups=4), width=8, crop=32)
    with pytest.raises(ValueError, match=r"10 of another shape: blocks.0.conv.weight \(8, 3, 1, 7, 7\) for \(8, 3, 5"):
        load_weights(net, path)
