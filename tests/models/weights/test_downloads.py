"""Weights that torchvision and timm download, with the network replaced."""

import sys
from urllib.error import URLError

import pytest
import timm
import torchvision

from vidgn.models.builders import I3DSpec, build_i3d
from vidgn.models.registry import build_model
from vidgn.models.weights.load import load_weights
from vidgn.norms import make_norm


def net(norm="gn", *, width=8, depth=50):
    options = {"num_groups": 4} if norm == "gn" and width < 32 else {}
    return build_i3d(I3DSpec(num_classes=3, width=width, depth=depth), norm=make_norm(norm, **options))


def test_torchvision_downloads_the_weights_of_the_nets_depth(torchvision_state, monkeypatch):
    asked = []

    def download(url, **options):
        asked.append((url.rpartition("/")[2], options))
        return torchvision_state

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", download)
    report = load_weights(net("bn", width=64), "torchvision")
    assert (report.source_format, report.loaded) == ("torchvision", 318)
    assert asked == [("resnet50-0676ba61.pth", {"check_hash": True, "weights_only": True})]
    with pytest.raises(ValueError, match=r"missing: blocks\.4\.res_blocks\.6"):
        load_weights(net("bn", width=64, depth=101), "torchvision")
    assert asked[1][0] == "resnet101-63fe2227.pth"


@pytest.mark.slow
def test_timm_downloads_its_group_norm_net(timm_state, monkeypatch):
    class Downloaded:
        def state_dict(self):
            return timm_state

    def create_model(name, *, pretrained):
        assert (name, pretrained) == ("resnet50_gn", True)
        return Downloaded()

    monkeypatch.setattr(timm, "create_model", create_model)
    report = load_weights(net("gn", width=64), "timm")
    assert (report.source_format, report.loaded) == ("timm", 159)


@pytest.mark.slow
def test_an_unreachable_network_is_said(monkeypatch):
    def unreachable(*args, **options):
        raise URLError("no route")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr(timm, "create_model", unreachable)
    for source, norm in (("torchvision", "bn"), ("timm", "gn")):
        message = rf"init={source} could not download its weights \(.*no route.*\); check the network, or fetch"
        with pytest.raises(ConnectionError, match=message):
            load_weights(net(norm), source)


def test_timm_has_no_deeper_group_norm_net():
    with pytest.raises(ValueError, match="group-norm weights for depth 50 only, and the net has depth 101"):
        load_weights(net(depth=101), "timm")


def test_timm_not_installed_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match="init=timm needs the package timm; run pip install timm"):
        load_weights(net(), "timm")


@pytest.mark.slow
def test_another_net_than_a_resnet_has_no_downloads():
    target = build_model("x3d_s", num_classes=3, norm=make_norm("bn"), width=8)
    with pytest.raises(ValueError, match="init=torchvision has ResNets of 50 or 101 layers, which this net is not"):
        load_weights(target, "torchvision")
