import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from vidgn.models.inflate import inflate
from vidgn.models.resnet3d import I3DSpec, build_i3d
from vidgn.models.weights import load_weights
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
