"""Standardized kernels in a test: plain ones from its first step on, with the logits of the net, in every fast path."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vidgn.models.fuse import conv
from vidgn.models.fuse.int8 import Int8Conv3d
from vidgn.models.registry import build_model
from vidgn.norms import make_norm, weight_standardization
from vidgn.norms.weight_standardization import is_standardized
from vidgn.runs.speed import Speed, SpeedSpec, speed_up

FRAMES, SIDE = 8, 32
NO_VNNI = pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="this processor has no AVX-512 VNNI")


@pytest.fixture(scope="module")
def net():
    """A narrow net of one block per stage: each is seconds to a compiler."""
    torch.manual_seed(0)
    net = build_model(
        "i3d_r50", num_classes=3, norm=make_norm("gn", num_groups=4), width=8, crop=SIDE, dropout=0.0,
        weight_standardization=True,
    )  # fmt: skip
    for stage in net.modules():
        if isinstance(getattr(stage, "res_blocks", None), nn.ModuleList):
            stage.res_blocks = stage.res_blocks[:1]
    for parameter in net.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, 1.0, 0.3)  # the last norm of a block starts at zero, which hides kernels
    nn.init.normal_(net.blocks[-1].proj.weight)
    return net.eval()


@pytest.fixture
def standardized(monkeypatch):
    """Count the kernels that are standardized."""
    seen = []
    standardize = weight_standardization.standardize
    for module in (weight_standardization, conv):
        monkeypatch.setattr(module, "standardize", lambda *given: seen.append(1) or standardize(*given))
    return seen


@pytest.mark.parametrize(
    ("spec", "tolerance"),
    [
        pytest.param(SpeedSpec(fuse=False), 1e-5, id="plain"),
        pytest.param(SpeedSpec(fuse="auto", memory="low"), 1e-4, id="fused"),
        pytest.param(SpeedSpec(compile=True), 1e-4, id="compiled"),
        pytest.param(SpeedSpec(half=True), 0.03, id="bfloat16"),
        pytest.param(SpeedSpec(quantize="int8"), 0.05, id="int8", marks=NO_VNNI),
    ],
)
def test_a_test_folds_the_kernels_once_and_has_the_logits_of_the_net(net, standardized, spec, tolerance, monkeypatch):
    monkeypatch.setattr(torch, "compile", traced)
    torch._dynamo.reset()
    clips = torch.randn(2, 3, FRAMES, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    half = torch.autocast("cpu", torch.bfloat16, enabled=spec.half)
    with torch.no_grad():
        wanted = net(clips)
        count = len(standardized)  # one forward pass of the net as it is trained
        fast = copy.deepcopy(net)
        speed_up(fast, spec, accelerator="cpu")
        callback = Speed(spec, clip=(FRAMES, SIDE, 2), frozen=True)
        callback.on_test_start(trainer(spec), SimpleNamespace(net=fast, device=torch.device("cpu")))
        assert len(standardized) == 2 * count > 0
        assert not is_standardized(fast)
        with half:
            logits = fast(clips)
    assert len(standardized) == 2 * count  # no kernel is standardized in the test itself
    assert (logits.float() - wanted).norm() < tolerance * wanted.norm()
    assert any(type(module) is Int8Conv3d for module in fast.modules()) == (spec.quantize is not None)


@pytest.mark.slow
def test_training_compiled_has_the_gradients_of_the_plain_net(net, monkeypatch):
    clips = torch.randn(2, 3, FRAMES, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    wanted = copy.deepcopy(nn.Sequential(*net.blocks[:2])).double()
    compiled = copy.deepcopy(wanted)
    speed_up(compiled, SpeedSpec(compile=True), accelerator="cpu")
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", traced)
    callback = Speed(SpeedSpec(compile=True), clip=(FRAMES, SIDE, 2))
    callback.on_train_start(trainer(callback.spec), SimpleNamespace(net=compiled, device=torch.device("cpu")))
    assert is_standardized(compiled)
    for one in (compiled, wanted):
        one(clips.double()).square().sum().backward()
    grads = {name: parameter.grad for name, parameter in wanted.named_parameters()}
    for name, parameter in compiled.named_parameters():
        assert (parameter.grad - grads[name]).norm() <= 1e-8 * grads[name].norm() + 1e-12, name


_compile = torch.compile


def traced(function, *, mode, **options):
    """Compile as torch does, and run the graph without the compiler's kernels, which take minutes to build."""
    return _compile(function, backend="aot_eager", **options)


def trainer(spec):
    context = torch.autocast("cpu", torch.bfloat16, enabled=spec.half)
    return SimpleNamespace(precision_plugin=SimpleNamespace(forward_context=lambda: context))
