import pytest
import torch
from torchvision.models import resnet50

from vidgn.models.builders.frames import DescriptorHead
from vidgn.models.registry import build_model
from vidgn.models.stages import freeze_stages, frozen_names, stages
from vidgn.models.weights.load import load_weights
from vidgn.norms import make_norm


def frames_net(**options):
    return build_model("frames_r50", num_classes=3, norm=make_norm("bn"), **options).eval()


@pytest.mark.slow
@pytest.mark.parametrize("stride_1x1", [False, True])
def test_every_frame_gives_what_torchvisions_resnet_gives(tmp_path, stride_1x1):
    torch.manual_seed(0)
    theirs = resnet50(weights=None).eval()
    state = {key: value for key, value in theirs.state_dict().items() if not key.startswith(("layer4.", "fc."))}
    torch.save(state, tmp_path / "resnet50.pth")
    if stride_1x1:
        for block in (theirs.layer2[0], theirs.layer3[0]):
            block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
    net = frames_net(last="res4", stride_1x1=stride_1x1)
    load_weights(net, tmp_path / "resnet50.pth")
    clip = torch.randn(1, 3, 2, 64, 96)
    with torch.no_grad():
        images = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(clip[0].transpose(0, 1)))))
        wanted = theirs.layer3(theirs.layer2(theirs.layer1(images)))
        given = net.features(clip)[0].transpose(0, 1)
        assert net(clip).shape == (1, 3)
    torch.testing.assert_close(given, wanted, rtol=1e-3, atol=1e-4)


def test_descriptors_are_means_and_maxima_and_their_deviations_over_time():
    head = DescriptorHead(1, 4, dropout=0.0)
    with torch.no_grad():
        head.proj.weight.copy_(torch.eye(4))
        head.proj.bias.zero_()
    clip = torch.tensor([[0.0, 2.0], [4.0, 6.0]]).view(1, 1, 2, 1, 2)
    # means of the frames 1 and 5, maxima 2 and 6
    torch.testing.assert_close(head(clip)[0, 0], torch.tensor([3.0, 4.0, 2.0, 2.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(head(clip[:, :, :1])[0, 0], torch.tensor([1.0, 2.0, 0.0, 0.0]), atol=1e-3, rtol=0)


@pytest.mark.slow
def test_a_net_that_ends_with_res4_has_five_stages():
    net = frames_net(last="res4", width=8)
    assert list(stages(net)) == ["stem", "res2", "res3", "res4", "head"]
    freeze_stages(net, frozen_names([], "head"))
    assert [name for name, value in net.named_parameters() if value.requires_grad] == [
        "blocks.4.proj.weight", "blocks.4.proj.bias",
    ]  # fmt: skip


@pytest.mark.slow
def test_options_of_the_frames_net_are_checked():
    with pytest.raises(ValueError, match=r"model\.last \(res3\) must be one of res4, res5"):
        frames_net(last="res3", width=8)
    with pytest.raises(ValueError, match=r"model=slow_r50 has no option last; leave it out, or use model=frames_r50"):
        build_model("slow_r50", num_classes=3, norm=make_norm("bn"), last="res4")
