import pytest
import torch
import torchvision

from vidgn.models.registry import build_model
from vidgn.norms import NORMS, GroupNorm3d, make_norm


def narrow(norm="gn", *, crop=32, **options):
    factory = make_norm(norm, **({"num_groups": 4} if "num_groups" in NORMS[norm].options else {}))
    return build_model("vgg16", num_classes=5, norm=factory, width=8, crop=crop, **options)


@pytest.mark.parametrize(
    ("norm", "name", "parameters"), [("bn", "vgg16_bn", 138_365_992), ("none", "vgg16", 138_357_544)]
)
@torch.no_grad()
def test_a_picture_has_the_logits_of_torchvisions_net(norm, name, parameters):
    """The same weights in both, whose layers follow each other in the same order; an eighth of the channels."""
    with torch.device("meta"):
        full = build_model("vgg16", num_classes=1000, norm=make_norm(norm), crop=224)
        assert sum(parameter.numel() for parameter in full.parameters()) == parameters
        theirs = torchvision.models.get_model(name)
    torch.manual_seed(0)
    ours = build_model("vgg16", num_classes=1000, norm=make_norm(norm), width=8, crop=224).eval()
    for tensor in ours.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.05)
    theirs = narrowed(theirs, ours).eval()
    picture = torch.randn(1, 3, 224, 224)
    expected = theirs(picture)
    assert expected.std().item() > 1e-3
    torch.testing.assert_close(ours(picture.unsqueeze(2)), expected, rtol=1e-4, atol=1e-4)


def narrowed(theirs, ours):
    """torchvision's net of meta tensors with the numbers of ours, layer by layer; Linear takes the flattened kernel."""
    names = [name for name in theirs.state_dict() if not name.endswith("num_batches_tracked")]
    values = [value for name, value in ours.state_dict().items() if not name.endswith("num_batches_tracked")]
    assert len(names) == len(values)
    for name, value in zip(names, values, strict=True):
        owner, _, leaf = name.rpartition(".")
        layer = theirs.get_submodule(owner)
        flat = value
        if value.dim() == 5:
            flat = value.flatten(1) if isinstance(layer, torch.nn.Linear) else value.squeeze(2)
        if leaf in layer._parameters:
            layer._parameters[leaf] = torch.nn.Parameter(flat, requires_grad=False)
        else:
            layer._buffers[leaf] = flat
    return theirs


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_of_the_table_trains_one_step(norm):
    torch.manual_seed(0)
    net = narrow(norm)
    loss = torch.nn.functional.cross_entropy(net(torch.randn(4, 3, 1, 32, 32)), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    learned = [parameter for parameter in net.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in learned)


def test_a_norm_stands_behind_each_of_thirteen_convolutions():
    assert sum(isinstance(module, GroupNorm3d) for module in narrow().modules()) == 13


def test_a_larger_frame_gives_a_map_and_a_clip_the_mean_of_its_frames():
    net = narrow(crop=64).eval()
    with torch.no_grad():
        assert net._position_logits(torch.randn(2, 3, 3, 96, 64)).shape == (2, 3 * 2, 5)
        still = torch.randn(1, 3, 1, 64, 64)
        torch.testing.assert_close(net(still.repeat(1, 1, 4, 1, 1)), net(still), rtol=1e-4, atol=1e-5)
    with pytest.raises(
        ValueError, match=r"A map of 1x1 positions is smaller than the window \(2\).* use crop=64 or more"
    ):
        net(torch.randn(1, 3, 1, 32, 32))
