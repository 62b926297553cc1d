import pytest
import torch
import torchvision
from torch import nn

from vidgn.inference.explain import grad_cam
from vidgn.inference.features import features_of
from vidgn.models.builders.mvit import MViTNet, build_mvit, resampling
from vidgn.models.builders.spec import NetSpec
from vidgn.models.drop_path import add_drop_path
from vidgn.models.registry import build_model
from vidgn.models.stages import freeze_stages
from vidgn.models.weights.identify import identify
from vidgn.models.weights.load import load_weights
from vidgn.norms import make_norm


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file as torchvision publishes it, with drawn weights, and torchvision's net."""
    torch.manual_seed(0)
    net = torchvision.models.video.mvit_v1_b().eval()
    file = tmp_path_factory.mktemp("mvit") / "mvit_v1_b.pth"
    torch.save(net.state_dict(), file)
    return file, net


def small(num_classes=3, **options):
    """Four attention blocks more than none: two stages of one, two of two."""
    torch.manual_seed(0)
    spec = NetSpec(name="mvit_b_16x4", num_classes=num_classes, width=8, dropout=0.0, window=2)
    return build_mvit(spec, norm=make_norm("ln", **options), depths=(1, 1, 2, 2))


def clip(count=2, frames=4, height=64, width=64):
    return torch.randn(count, 3, frames, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
@torch.no_grad()
def test_published_weights_give_torchvisions_logits(published):
    file, theirs = published
    ours = build_model("mvit_b_16x4", num_classes=400, norm=make_norm("ln")).eval()
    report = load_weights(ours, file)
    assert (report.source_format, report.loaded, report.replaced_head) == ("torchvision MViT", 313, False)
    assert report.input_mean == (0.45, 0.45, 0.45)
    pixels = clip(1, 16, 224, 224)
    expected = theirs(pixels)
    assert expected.std() > 0.1
    torch.testing.assert_close(ours(pixels), expected, rtol=1e-5, atol=1e-5)


def test_a_published_file_says_its_network(published):
    said = identify(published[0])
    assert (said.model, said.norm, said.num_classes, said.clip) == ("mvit_b_16x4", "ln", 400, (16, 64, 224))


def test_the_whole_net_has_the_published_size_and_output():
    with torch.device("meta"):
        net = build_model("mvit_b_16x4", num_classes=400, norm=make_norm("ln")).eval()
        pixels = torch.empty(2, 3, 16, 224, 224)
    assert sum(parameter.numel() for parameter in net.parameters()) == 36_610_672  # torchvision, MViT_V1_B_Weights
    assert net(pixels).shape == net.scores(pixels).shape == (2, 400)
    assert net.features(pixels).shape == (2, 768, 8, 7, 7)


@torch.no_grad()
def test_another_clip_interpolates_the_positions():
    net = small().eval()
    assert net(clip(2, 6, 96, 64)).shape == (2, 3)
    assert net.features(clip(2, 6, 96, 64)).shape == (2, 64, 3, 3, 2)
    learned = torch.arange(8.0).view(1, 1, 8)  # values that are linear stay so inside
    expected = nn.functional.interpolate(learned, size=5, mode="linear")
    torch.testing.assert_close(learned @ resampling(8, 5, like=learned), expected)
    assert torch.equal(resampling(4, 4, like=learned), torch.eye(4))


def test_it_learns_and_every_parameter_has_a_gradient():
    net = small()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    pixels, labels = clip(3), torch.tensor([0, 1, 2])
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(net(pixels), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_heat_and_features_are_those_before_the_last_attention_block():
    net = small().eval()
    pixels = clip(1)
    heat = grad_cam(net, pixels, label=1)
    assert heat.shape == (4, 64, 64)
    assert heat.max() == pytest.approx(1)
    stages = net.stages
    assert list(stages) == ["res2", "res3", "res4", "res5"]
    shapes = [tuple(features_of(net, block, pixels)[0].shape) for block in stages.values()]
    assert shapes == [(16, 2, 16, 16), (32, 2, 8, 8), (64, 2, 4, 4), (64, 2, 2, 2)]
    with torch.no_grad():
        torch.testing.assert_close(features_of(net, stages["res5"], pixels)[0], net.features(pixels)[0])


def test_both_sums_of_a_block_are_dropped_together_with_rates_that_grow():
    net = small()
    keys = list(net.state_dict())
    sums = add_drop_path(net, 0.5)
    assert [round(path.rate, 2) for path in sums] == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5]
    assert list(net.state_dict()) == keys
    for path in sums:
        path.draws = torch.tensor([0.0, 0.9])  # the first clip loses every branch but those of the first block
    pixels = clip()
    trained, tested = net.train()(pixels), net.eval()(pixels)
    assert not torch.allclose(trained, tested, atol=1e-3)
    assert trained.isfinite().all()


def test_stages_can_be_frozen_and_eps_can_be_set():
    net = small(eps=0.1)
    assert {layer.eps for layer in net.modules() if isinstance(layer, nn.LayerNorm)} == {0.1}
    assert {layer.eps for layer in small().modules() if isinstance(layer, nn.LayerNorm)} == {1e-6}
    freeze_stages(net, ["stem", "res2", "res3", "res4"])
    net(clip()).sum().backward()
    assert isinstance(net, MViTNet)
    learned = {name.split(".")[1] for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert learned == {"4", "5"}


@pytest.mark.slow
@torch.no_grad()
def test_it_exports_for_any_number_of_clips():
    net = small().eval()
    clips = {"x": {0: torch.export.Dim("clips", min=1, max=64)}}
    exported = torch.export.export(net, (clip(2),), dynamic_shapes=clips)
    torch.testing.assert_close(exported.module()(clip(3)), net(clip(3)))


@pytest.mark.parametrize("norm", ["gn", "bn", "none"])
def test_other_norms_are_refused(norm):
    with pytest.raises(ValueError, match=rf"model=mvit_b_16x4 cannot have norm={norm}; set norm=ln"):
        build_model("mvit_b_16x4", num_classes=3, norm=make_norm(norm))


def test_standardized_kernels_are_refused():
    with pytest.raises(ValueError, match=r"model=mvit_b_16x4 cannot have weight_standardization=True"):
        build_model("mvit_b_16x4", num_classes=3, norm=make_norm("ln"), weight_standardization=True)
