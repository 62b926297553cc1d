"""The words fuse, compile, cuda_graphs and memory: what they accept, what they do to a net, what they leave alone."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vidgn.models.builders import I3DSpec, build_i3d
from vidgn.models.fuse import choose
from vidgn.models.fuse.conv import ViewConv3d
from vidgn.models.fuse.int8 import Int8Conv3d
from vidgn.models.fuse.rewrite import ExactMaxPool3d, FusedResBlock
from vidgn.norms import make_norm
from vidgn.norms.fused import GroupNormAct3d
from vidgn.norms.kernels.record import KernelCheck, machine_key, write_check
from vidgn.runs import speed
from vidgn.runs.config import EvalConfig, RunConfig
from vidgn.runs.session import compose_options
from vidgn.runs.speed import (
    Speed,
    SpeedSpec,
    check_speed,
    default_precision,
    device_type,
    kernels_line,
    speed_up,
)

WORDS = {"fuse": "auto", "compile": False, "cuda_graphs": False, "memory": "normal"}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return build_i3d(I3DSpec(num_classes=3, width=8, window=2, dropout=0.0), norm=make_norm("gn", num_groups=4)).eval()


def test_the_words_of_a_run_become_a_record():
    assert RunConfig.read(compose_options("train", [])).speed == SpeedSpec("auto", False, False, "normal")
    assert RunConfig.read(compose_options("train", ["trainer.precision=bf16-mixed"])).speed.half
    test = EvalConfig.read(compose_options("eval", ["ckpt=a.ckpt", "compile=true", "quantize=int8"]))
    assert test.speed == SpeedSpec(compile=True, quantize="int8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"fuse": "yes"}, r"fuse \(yes\) must be true, false or auto"),
        ({"compile": "auto"}, r"compile \(auto\) must be true or false"),
        ({"cuda_graphs": 1}, r"cuda_graphs \(1\) must be true or false"),
        ({"memory": "tiny"}, r"memory \(tiny\) must be normal or low"),
        ({"memory": "low", "fuse": False}, r"memory=low is a property of the fused net, but fuse=false; use fuse=auto"),
        ({"keep_memory": "no"}, r"keep_memory \(no\) must be true, false or auto"),
        ({"quantize": "int4"}, r"quantize \(int4\) must be int8 or null"),
        ({"quantize": "int8", "fuse": False}, r"quantize=int8 is a property of the fused net, but fuse=false"),
        ({"cuda_graphs": True}, r"cuda_graphs=true replays compiled graphs, but compile=false; add compile=true"),
    ],
)
def test_a_word_that_cannot_be_followed_is_refused(words, message):
    with pytest.raises(ValueError, match=message):
        check_speed(SpeedSpec(**WORDS | words))


def test_cuda_graphs_need_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"cuda_graphs=true needs a CUDA GPU, and there is none here; leave it out"):
        check_speed(SpeedSpec(compile=True, cuda_graphs=True))


@pytest.mark.parametrize(
    ("spec", "accelerator", "fused"),
    [
        (SpeedSpec(), "cpu", False),  # no faster in float32 unless it is compiled
        (SpeedSpec(half=True), "cpu", True),
        (SpeedSpec(compile=True), "cpu", True),
        (SpeedSpec(memory="low"), "cpu", True),  # nothing else has low memory
        pytest.param(
            SpeedSpec(quantize="int8"),
            "cpu",
            True,
            marks=pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="no VNNI"),
        ),
        (SpeedSpec(), "cuda", False),  # torch's own path until `vidgn doctor` has checked the kernels
        (SpeedSpec(compile=True, half=True), "cuda", False),
        (SpeedSpec(memory="low"), "cuda", True),
        (SpeedSpec(fuse=True), "cuda", True),
        (SpeedSpec(compile=True), "mps", False),
        (SpeedSpec(fuse=True), "mps", True),
        (SpeedSpec(fuse=False, compile=True), "cuda", False),
    ],
)
def test_auto_fuses_where_that_is_faster(net, spec, accelerator, fused, monkeypatch, tmp_path):
    monkeypatch.setenv("VIDGN_CACHE", str(tmp_path))
    speed_up(net, spec, accelerator=accelerator)
    assert any(isinstance(module, FusedResBlock) for module in net.modules()) == fused


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A GPU with Triton and no record of a check."""
    monkeypatch.setenv("VIDGN_CACHE", str(tmp_path))
    monkeypatch.setattr(choose, "gpu_name", lambda: "Test GPU")
    monkeypatch.setattr(choose.operation, "HAS_TRITON", True)
    monkeypatch.setattr(choose.operation, "MODE", "auto")


@pytest.mark.parametrize(
    ("check", "triton", "reason"),
    [
        (None, False, "kernels: torch's own operations (vidgn's Triton kernels are not checked on this Test GPU"),
        (KernelCheck(True, 0.93, "ok"), False, "kernels: torch's own operations (`vidgn doctor` measured vidgn's"),
        (KernelCheck(False, 0.0, "dx is off"), False, "failed the check of `vidgn doctor` on this Test GPU: dx is off"),
        (KernelCheck(False, 2.0, "dx is off"), False, "failed the check"),
        (KernelCheck(True, 1.8, "ok"), True, "kernels: vidgn's Triton kernels (checked by `vidgn doctor`, 1.80x"),
    ],
)
@pytest.mark.usefixtures("gpu")
def test_only_a_passed_and_faster_check_lets_auto_take_the_kernels(net, check, triton, reason):
    if check is not None:
        write_check(machine_key("Test GPU"), check)
        write_check(machine_key("Other GPU"), KernelCheck(not check.passed, 3.0, "another machine"))
    assert reason in kernels_line(SpeedSpec(), accelerator="cuda")
    speed_up(net, SpeedSpec(), accelerator="cuda")
    assert any(isinstance(module, FusedResBlock) for module in net.modules()) == triton


@pytest.mark.parametrize(("fuse", "triton"), [("auto", False), (True, True)])
@pytest.mark.usefixtures("gpu")
def test_low_memory_without_a_check_keeps_torchs_operations(net, fuse, triton):
    speed_up(net, SpeedSpec(fuse=fuse, memory="low"), accelerator="cuda")
    assert {module.triton for module in net.modules() if isinstance(module, GroupNormAct3d)} == {triton}


@pytest.mark.usefixtures("gpu")
def test_what_the_user_says_counts_more_than_the_record(monkeypatch):
    write_check(machine_key("Test GPU"), KernelCheck(True, 1.8, "ok"))
    assert kernels_line(SpeedSpec(fuse=False), accelerator="cuda") == "kernels: torch's own operations (fuse=false)"
    assert kernels_line(SpeedSpec(fuse=True), accelerator="cuda") == "kernels: vidgn's Triton kernels (fuse=true)"
    assert kernels_line(SpeedSpec(), accelerator="cpu") is None
    monkeypatch.setattr(choose.operation, "MODE", "off")
    assert kernels_line(SpeedSpec(fuse=True), accelerator="cuda").endswith("(VIDGN_KERNELS=off)")
    monkeypatch.setattr(choose.operation, "MODE", "on")
    assert kernels_line(SpeedSpec(), accelerator="cuda").endswith("(VIDGN_KERNELS=on)")
    monkeypatch.setattr(choose.operation, "HAS_TRITON", False)
    assert kernels_line(SpeedSpec(), accelerator="cuda").endswith("(triton is not installed)")


def test_eight_bit_convolutions_are_for_a_cpu(net):
    with pytest.raises(ValueError, match="quantize=int8 is for a CPU, but the device is cuda; add"):
        speed_up(net, SpeedSpec(quantize="int8"), accelerator="cuda")


@pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="this processor has no AVX-512 VNNI")
def test_quantize_makes_every_convolution_one_of_integers_before_it_compiles(net, monkeypatch):
    seen = []
    monkeypatch.setattr(speed, "compile_net", lambda net, **options: seen.append(_kinds(net)))
    spec = SpeedSpec(quantize="int8", compile=True)
    speed_up(net, spec, accelerator="cpu")
    Speed(spec, clip=(8, 64, 2), frozen=True).on_test_start(*trainer_and_module(net))
    assert seen == [{Int8Conv3d}]


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_norms_fold_into_a_fused_net_that_only_tests(frozen):
    torch.manual_seed(0)
    net = build_i3d(I3DSpec(num_classes=3, width=8, window=2, dropout=0.0), norm=make_norm("bn")).eval()
    for norm in [module for module in net.modules() if isinstance(module, nn.BatchNorm3d)]:
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
        nn.init.normal_(norm.running_mean)
    clip = torch.randn(1, 3, 8, 64, 64)
    with torch.no_grad():
        wanted = net(clip)
        spec = SpeedSpec(fuse=True)
        speed_up(net, spec, accelerator="cpu")
        spec = spec._replace(fuse="auto")  # measures nothing
        Speed(spec, clip=(8, 64, 1), frozen=frozen).on_test_start(*trainer_and_module(net))
        assert (net(clip) - wanted).abs().max() < 1e-5 * wanted.abs().max() + 1e-6
    assert any(isinstance(module, nn.BatchNorm3d) for module in net.modules()) != frozen


def _kinds(net):
    return {type(module) for module in net.modules() if isinstance(module, nn.Conv3d)}


def test_low_memory_reaches_every_block(net):
    speed_up(net, SpeedSpec(memory="low"), accelerator="cpu")
    assert {module.low_memory for module in net.modules() if isinstance(module, FusedResBlock)} == {True}


def test_a_fused_net_can_be_copied_and_saves_what_the_plain_one_does(net):
    before = net.state_dict()
    speed_up(net, SpeedSpec(fuse=True), accelerator="cpu")
    after = copy.deepcopy(net).state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_pools_stay_in_bfloat16_under_autocast():
    pool = nn.Sequential(nn.MaxPool3d(2))
    x = torch.randn(1, 2, 4, 4, 4).bfloat16()
    wanted = pool(x.float())
    speed.fuse(pool)
    assert type(pool[0]) is ExactMaxPool3d
    with torch.autocast("cpu", torch.bfloat16):
        y = pool(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y.float(), wanted)


def test_the_accelerator_of_auto_is_the_one_that_is_there(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    assert device_type("auto") == "cpu"
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    assert [device_type(word) for word in ("auto", "gpu", "cpu")] == ["cuda", "cuda", "cpu"]


@pytest.mark.parametrize(
    ("kind", "capability", "precision"),
    [("cpu", (9, 0), None), ("cuda", (9, 0), "bf16-mixed"), ("cuda", (8, 0), "bf16-mixed"), ("cuda", (7, 5), None)],
)
def test_bfloat16_is_the_default_where_a_gpu_has_it(monkeypatch, kind, capability, precision):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert default_precision(kind) == precision


def trainer_and_module(net):
    plugin = SimpleNamespace(forward_context=lambda: torch.autocast("cpu", torch.bfloat16))
    return SimpleNamespace(precision_plugin=plugin), SimpleNamespace(net=net, device=torch.device("cpu"))


def test_fuse_true_measures_once_in_the_precision_of_the_run(net, monkeypatch, tmp_path):
    monkeypatch.setenv("VIDGN_CACHE", str(tmp_path))
    monkeypatch.setattr(
        "vidgn.models.fuse.tune._time_forms",
        lambda site, backward: {"conv3d": 1.0, "conv2d over H, W": 9.0, "conv2d over T": 9.0},
    )
    spec = SpeedSpec(fuse=True)
    speed_up(net, spec, accelerator="cpu")
    callback = Speed(spec, clip=(8, 32, 2))
    callback.on_train_start(*trainer_and_module(net))
    conv = net.blocks[1].res_blocks[0].branch2.conv_c
    assert isinstance(conv, ViewConv3d)
    assert list(conv.forms) == [((2, 8, 2, 7, 7), torch.bfloat16)]
    monkeypatch.setattr(speed, "tune", lambda *_: pytest.fail("measured again"))
    callback.on_test_start(*trainer_and_module(net))


@pytest.mark.parametrize(("frozen", "graphs"), [(False, False), (True, False), (False, True)])
def test_compile_is_asked_for_once(net, monkeypatch, frozen, graphs):
    asked = []
    monkeypatch.setattr(speed, "compile_net", lambda net, **options: asked.append(options))
    callback = Speed(SpeedSpec(compile=True, cuda_graphs=graphs), clip=(8, 32, 2), frozen=frozen)
    callback.on_train_start(*trainer_and_module(net))
    callback.on_test_start(*trainer_and_module(net))
    assert asked == [{"cuda_graphs": graphs, "frozen": frozen}]


@pytest.mark.parametrize(
    ("word", "device", "kept"), [("auto", "cpu", 1), ("auto", "cuda", 0), (True, "cuda", 1), (False, "cpu", 0)]
)
@pytest.mark.parametrize("end", ["teardown", "on_exception"])
def test_a_run_keeps_memory_on_a_cpu_and_gives_it_back_at_its_end(net, monkeypatch, word, device, kept, end):
    asked = []
    monkeypatch.setattr(speed, "keep_memory", lambda: asked.append("keep") is None)
    monkeypatch.setattr(speed, "give_back_memory", lambda: asked.append("give back") is None)
    callback = Speed(SpeedSpec(keep_memory=word), clip=(8, 32, 2))
    trainer, _ = trainer_and_module(net)
    callback.on_test_start(trainer, SimpleNamespace(net=net, device=torch.device(device)))
    assert asked == ["keep"] * kept
    ending = {"teardown": "test", "on_exception": KeyboardInterrupt()}[end]
    getattr(callback, end)(trainer, None, ending)
    getattr(callback, end)(trainer, None, ending)
    assert asked == ["keep", "give back"] * kept
