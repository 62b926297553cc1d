"""The norms in other people's code: torch.fx, TorchScript, export, vmap, jacfwd, as the table in docs/norms.md says."""

import copy
import re
import warnings
from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torch.func import functional_call, jacfwd, vmap
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

from vidgn import GroupNorm3d, convert_norm
from vidgn.norms import NORMS, make_norm

PAGE = (Path(__file__).parents[2] / "docs" / "norms.md").read_text()
OPTIONS = {name: {"num_groups": 4} for name in ("gn", "bcn", "evonorm_s0")}


def layer(name, *, training=False):
    torch.manual_seed(0)
    made = make_norm(name, **OPTIONS.get(name, {}))(8)
    for parameter in made.parameters():
        nn.init.normal_(parameter, 1.0, 0.3)
    return made.train(training)


def clips(*, channels_last=False, seed=1):
    x = torch.randn(2, 8, 2, 3, 4, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=torch.channels_last_3d) if channels_last else x


def traced(name):
    made = layer(name)
    graph = torch.fx.symbolic_trace(nn.Sequential(made))
    for last in (False, True):
        torch.testing.assert_close(graph(clips(channels_last=last)), made(clips(channels_last=last)))


def scripted(name):
    made = layer(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.15 calls TorchScript outdated
        script = torch.jit.script(made)
    for last in (False, True):
        torch.testing.assert_close(script(clips(channels_last=last)), made(clips(channels_last=last)))


def exported(name):
    made = layer(name)
    program = torch.export.export(made, (clips(),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.testing.assert_close(program.module()(clips()), made(clips()))


def mapped(name):
    made = layer(name)
    many = torch.stack([clips(seed=seed) for seed in range(3)], -1)
    wanted = torch.stack([made(part) for part in many.unbind(-1)], -1)
    torch.testing.assert_close(vmap(made, in_dims=-1, out_dims=-1)(many), wanted)


def differentiated(name):
    made = layer(name).double()
    x = clips(channels_last=True).double()[:1, :, :1, :2, :2]
    wanted = torch.autograd.functional.jacobian(made, x)
    torch.testing.assert_close(jacfwd(made)(x), wanted)


def called(name):
    made = layer(name)
    state = {key: value.clone() + (0.5 if value.is_floating_point() else 0) for key, value in made.state_dict().items()}
    other = copy.deepcopy(made)
    other.load_state_dict(state)
    torch.testing.assert_close(functional_call(made, state, clips()), other(clips()))


def copied(name):
    made = layer(name, training=True)
    assert torch.equal(copy.deepcopy(made)(clips()), made(clips()))


def on_meta(name):
    with torch.device("meta"):
        made = make_norm(name, **OPTIONS.get(name, {}))(8).eval()
        assert made(torch.empty(2, 8, 2, 3, 4)).shape == (2, 8, 2, 3, 4)


COLUMNS = {
    "fx": traced, "script": scripted, "export": exported, "vmap": mapped, "jacfwd": differentiated,
    "functional_call": called, "deepcopy": copied, "meta": on_meta,
}  # fmt: skip


def table():
    """The rows of the page: name, then yes or no in the order of the heading."""
    heading = re.search(r"^\| norm \| fx \|.*$", PAGE, re.MULTILINE)
    names = [name.strip() for name in heading[0].strip("|").split("|")][1:]
    rows = re.findall(r"^\| `(\w+)` ((?:\| (?:yes|no) )+)\|$", PAGE, re.MULTILINE)
    return {name: dict(zip(names, re.findall(r"yes|no", cells), strict=True)) for name, cells in rows}


def test_the_page_has_a_row_for_every_norm_and_a_column_for_every_use():
    rows = table()
    assert list(rows) == list(NORMS)
    assert all(list(row) == list(COLUMNS) for row in rows.values())


@pytest.mark.slow
@pytest.mark.parametrize("use", COLUMNS)
@pytest.mark.parametrize("name", NORMS)
def test_a_norm_supports_what_the_page_says(name, use):
    if table()[name][use] == "yes":
        COLUMNS[use](name)
    else:
        with pytest.raises(Exception):  # noqa: B017, PT011 - each of torch's tools has its own kinds and words
            COLUMNS[use](name)


def test_features_of_a_model_with_group_norm_are_extracted():
    model = resnet18(num_classes=3, norm_layer=GroupNorm3d).eval()
    features = create_feature_extractor(model, ["layer1", "fc"])(torch.randn(1, 3, 32, 32))
    assert features["layer1"].shape == (1, 64, 8, 8)
    assert features["fc"].shape == (1, 3)


def test_timm_builds_its_models_with_group_norm():
    model = timm.create_model("resnet18", norm_layer=GroupNorm3d, num_classes=3)
    assert sum(isinstance(module, GroupNorm3d) for module in model.modules()) == 20
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 3)


def test_group_norm_takes_a_device_and_a_dtype():
    made = GroupNorm3d(64, device="meta", dtype=torch.float64)
    assert (made.weight.device.type, made.bias.dtype) == ("meta", torch.float64)


def test_gradients_of_each_sample_are_those_of_each_alone():
    made, x = layer("gn"), clips(channels_last=True)

    def loss(weight, sample):
        return functional_call(made, {"weight": weight, "bias": made.bias}, sample[None]).square().sum()

    got = vmap(torch.func.grad(loss), in_dims=(None, 0))(made.weight.detach(), x)
    for row, sample in zip(got, x, strict=True):
        made.zero_grad()
        made(sample[None]).square().sum().backward()
        torch.testing.assert_close(row, made.weight.grad)


def test_filters_of_zeros_stay_zeros_with_weight_norm_and_learn():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with torch.no_grad():
        net[0].weight[1] = 0
    wanted = net[0].weight.detach().clone()
    convert_norm(net, "wn")
    torch.testing.assert_close(net[0].weight, wanted)
    net(torch.randn(2, 3, 5, 5)).square().sum().backward()
    lengths = net[0].parametrizations.weight.original0.grad
    assert lengths.isfinite().all()
    assert lengths[1].abs() > 0


@pytest.mark.parametrize(("change", "message"), [
    (lambda net: prune.l1_unstructured(net[2], "weight", 0.5), "norm=wn needs plain weights, and those of 2 are"),
    (lambda net: parametrizations.spectral_norm(net[2]), "norm=wn needs plain weights, and those of 2 are"),
    (lambda net: setattr(net[2], "weight", net[4].weight), r"share one weight \(2, 4\)"),
], ids=["pruned", "spectral", "tied"])  # fmt: skip
def test_weights_that_cannot_be_normalized_leave_the_model_as_it_was(change, message):
    norm = nn.BatchNorm2d(8)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3))
    change(net)
    before = [type(module) for module in net.modules()]
    with pytest.raises(ValueError, match=message):
        convert_norm(net, "wn")
    assert [type(module) for module in net.modules()] == before


def test_convolutions_with_weight_norm_already_stay():
    net = nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 8, 3)), nn.BatchNorm2d(8))
    wanted = net[0].weight.detach().clone()
    convert_norm(net, "wn")
    assert torch.equal(net[0].weight, wanted)


def test_an_instance_norm_with_running_statistics_stays_and_is_reported():
    net = nn.Sequential(nn.Conv3d(3, 8, 1), nn.InstanceNorm3d(8, affine=True, track_running_stats=True))
    nn.init.normal_(net[1].running_mean)
    x = torch.randn(2, 3, 2, 4, 4)
    wanted = net.eval()(x)
    report = convert_norm(net, "in")
    assert [(left.name, left.kind) for left in report.left] == [("1", "InstanceNorm3d")]
    assert "running statistics" in str(report)
    assert torch.equal(net(x), wanted)


def test_channels_last_clips_keep_their_layout_and_have_the_numbers_of_contiguous_ones():
    made, x = layer("gn"), clips(channels_last=True)
    y = made(x)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(y, F.group_norm(x.contiguous(), 4, made.weight, made.bias, 1e-5))
