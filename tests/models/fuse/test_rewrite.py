"""The fused net: the same parameters, the same numbers, in every form."""

import copy
import pickle

import pytest
import torch
from torch import nn

from vidgn.models.fuse.compile import compile_net
from vidgn.models.fuse.conv import FORMS, ViewConv3d, applicable_forms, prepare_kernels
from vidgn.models.fuse.fold import fold_batch_norms
from vidgn.models.fuse.rewrite import FusedResBlock, fuse
from vidgn.models.fuse.tune import explain_forms, tune
from vidgn.models.registry import build_model
from vidgn.norms.fused import GroupNormAct3d
from vidgn.norms.kernels.layout import channels_last
from vidgn.norms.kernels.torch_ops import channels_last_norm
from vidgn.norms.layers import GroupNorm3d, make_norm

FRAMES = {
    "i3d_r50": 8, "i3d_r50_8x8": 2, "c2d_r50": 2, "slow_r50": 2, "slowfast_r50": 4, "r2plus1d_r50": 4, "x3d_s": 2,
}  # fmt: skip


def build(name="i3d_r50", norm="gn", **options):
    """A narrow net with weights that no zero-initialized norm hides."""
    torch.manual_seed(0)
    options = {"num_groups": 4} if norm == "gn" and not options else options
    net = build_model(name, num_classes=3, norm=make_norm(norm, **options), width=8, crop=32, dropout=0.0)
    for module in net.modules():
        if isinstance(module, nn.GroupNorm | nn.BatchNorm3d):
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias, 0.0, 0.3)
            if isinstance(module, nn.BatchNorm3d):
                nn.init.normal_(module.running_mean, 0.0, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
    return net


def shortened(net):
    """Keep one block of each stage, two of the first (the second has no projection): each is seconds to a compiler."""
    for stage in [module for module in net.modules() if isinstance(getattr(module, "res_blocks", None), nn.ModuleList)]:
        stage.res_blocks = stage.res_blocks[: 2 if stage in list(net.blocks)[:3] else 1]
    return net


def clips(frames=8, side=64):
    return torch.randn(2, 3, frames, side, side, generator=torch.Generator().manual_seed(1))


def gradients(net, x):
    net.zero_grad(set_to_none=True)
    net(x).square().sum().backward()
    return {name: p.grad.clone() for name, p in net.named_parameters()}


@pytest.fixture(scope="module")
def plain():
    return build()


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMES)
def test_a_fused_net_gives_the_same_logits(name):
    net = build(name)
    x = clips(FRAMES[name])
    wanted = copy.deepcopy(net).double()(x.double())
    got = fuse(net)(x)
    assert (got - wanted).abs().max() < 1e-5 * wanted.abs().max() + 1e-6


@pytest.mark.parametrize("memory", ["normal", "low"])
def test_a_fused_net_has_the_same_gradients(plain, memory):
    # Both in float64: a ReLU that float32 sends to the other side of zero changes more than rounding does.
    wanted = gradients(copy.deepcopy(plain).double(), clips().double())
    got = gradients(fuse(copy.deepcopy(plain).double(), memory=memory), clips().double())
    assert list(got) == list(wanted)
    assert all((got[name] - wanted[name]).norm() <= 1e-9 * wanted[name].norm() for name in wanted)


@pytest.mark.parametrize("name", ["i3d_r50", "slowfast_r50", "r2plus1d_r50"])
def test_the_state_dict_keeps_its_keys_and_values(name):
    net = build(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    after = fuse(net).state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_an_optimizer_made_before_still_trains_the_net(plain):
    net = copy.deepcopy(plain)
    parameters = list(net.parameters())
    assert all(a is b for a, b in zip(fuse(net).parameters(), parameters, strict=True))


def test_a_fused_net_can_be_copied_and_pickled(plain):
    net = fuse(copy.deepcopy(plain))
    again = pickle.loads(pickle.dumps(copy.deepcopy(net)))
    assert torch.equal(again(clips()), net(clips()))


def test_a_frozen_net_takes_its_weights_for_constants(monkeypatch):
    from torch._inductor import config

    seen = []
    monkeypatch.setattr(
        torch,
        "compile",
        lambda function, **words: lambda x: seen.append((config.freezing, words["dynamic"])) or function(x),
    )
    net = compile_net(nn.Identity(), frozen=True)
    assert net.forward(3) == 3
    assert compile_net(nn.Identity()).forward(3) == 3
    assert seen == [(True, False), (False, None)]  # a frozen net is compiled for each shape
    assert not config.freezing


def test_fusing_twice_changes_nothing(plain):
    net = fuse(copy.deepcopy(plain))
    kinds = [type(module) for module in net.modules()]
    assert [type(module) for module in fuse(net).modules()] == kinds


def test_every_norm_and_relu_of_an_i3d_is_one_operation(plain):
    net = fuse(copy.deepcopy(plain))
    norms = [module for module in net.modules() if isinstance(module, nn.GroupNorm)]
    assert len(norms) == 53
    assert all(type(norm) is GroupNormAct3d for norm in norms)
    assert sum(norm.relu for norm in norms) == 49  # all but the four shortcuts'
    assert not [module for module in net.modules() if isinstance(module, nn.ReLU)]
    assert sum(isinstance(module, FusedResBlock) for module in net.modules()) == 16


def test_a_norm_that_is_no_group_norm_stays_as_it_is():
    net = fuse(build(norm="bn"))
    assert not [module for module in net.modules() if isinstance(module, GroupNormAct3d)]
    assert sum(type(module) is nn.BatchNorm3d for module in net.modules()) == 53
    assert sum(isinstance(module, ViewConv3d) for module in net.modules()) == 53


def test_a_block_that_does_not_add_keeps_its_parts(plain):
    net = copy.deepcopy(plain)
    net.blocks[1].res_blocks[0].branch_fusion = torch.mul
    kept = fuse(net).blocks[1].res_blocks[0]
    assert not isinstance(kept, FusedResBlock)
    assert type(kept.activation) is nn.ReLU
    assert not kept.branch2.norm_c.relu


def test_weight_normalized_convolutions_stay_as_they_are():
    net = build(norm="wn")
    wanted = net(clips())
    assert torch.allclose(fuse(net)(clips()), wanted, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])  # the stride of an axis of size 1 may be any, and torch's pools look at it
def test_no_activation_is_copied_to_another_layout(plain, batch):
    net = fuse(copy.deepcopy(plain)).eval()
    with torch.no_grad(), torch.profiler.profile(record_shapes=True) as profile:
        net(clips()[:batch])
    copies = [tuple(e.input_shapes[0]) for e in profile.events() if e.name == "aten::copy_" and e.input_shapes]
    # Activations have four or five axes; the clip itself is copied once, as it comes in.
    assert [shape for shape in copies if len(shape) > 3] == [(batch, 3, 8, 64, 64)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_the_layout_is_channels_last_from_end_to_end(plain, layout):
    net = fuse(copy.deepcopy(plain)).eval()
    seen = []
    for module in net.modules():
        if isinstance(module, ViewConv3d | GroupNormAct3d):
            module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        net(clips().contiguous(memory_format=layout))
    assert len(seen) == 106
    assert all(output.is_contiguous(memory_format=torch.channels_last_3d) for output in seen)


def test_low_memory_frees_what_it_can_compute_again(plain):
    # Hooks of a test would replace those of `recomputed`, so what stays allocated is counted.
    def live(memory):
        net = fuse(copy.deepcopy(plain), memory=memory)
        with torch.profiler.profile(profile_memory=True) as profile:
            y = net(clips())
        total = sum(event.self_cpu_memory_usage for event in profile.events())
        del y
        return total

    low, normal = live("low"), live("normal")
    assert low < 0.85 * normal


def test_an_unknown_memory_is_refused(plain):
    with pytest.raises(ValueError, match=r"memory=tiny is unknown; use normal or low"):
        fuse(plain, memory="tiny")


# (in, out, kernel, stride, padding, groups, bias)
CONVOLUTIONS = [
    ((6, 5, 1, 1, 0, 1, True), ["matmul", "conv2d over H, W", "conv2d over T", "conv3d"]),
    ((6, 4, (1, 3, 3), (1, 2, 2), (0, 1, 1), 2, False), ["conv2d over H, W", "conv3d"]),
    ((6, 4, (3, 1, 1), (2, 1, 1), (1, 0, 0), 1, True), ["conv2d over T", "conv3d"]),
    ((6, 6, (5, 1, 1), 1, (2, 0, 0), 6, False), ["conv2d over T", "conv3d"]),
    ((3, 4, (5, 7, 7), (2, 2, 2), (2, 3, 3), 1, True), ["fold", "conv3d"]),
    ((3, 4, (3, 3, 5), (1, 2, 1), (0, 1, 2), 1, False), ["fold", "conv3d"]),
    ((6, 4, 3, 1, 1, 1, False), ["conv3d"]),
    ((6, 4, 1, (1, 2, 2), 0, 1, False), ["conv2d over H, W", "conv3d"]),
]


@pytest.mark.parametrize(("arguments", "forms"), CONVOLUTIONS, ids=str)
def test_every_form_gives_the_same_numbers(arguments, forms):
    torch.manual_seed(0)
    *sizes, groups, bias = arguments
    conv = nn.Conv3d(*sizes, groups=groups, bias=bias).double()
    x = torch.randn(2, conv.in_channels, 6, 9, 8, dtype=torch.float64, requires_grad=True)
    y = conv(x)
    dy = torch.randn_like(y)
    wanted = [y, *torch.autograd.grad(y, [x, *conv.parameters()], dy)]
    prepare_kernels(conv)
    assert applicable_forms(conv) == forms
    for form in forms:
        y = FORMS[form].run(conv, channels_last(x))
        got = [y, *torch.autograd.grad(y, [x, *conv.parameters()], dy)]
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(got, wanted, strict=True)), form


def test_autocast_gives_bfloat16_and_the_fold_reads_it():
    conv = nn.Conv3d(3, 4, (5, 7, 7), (2, 2, 2), (2, 3, 3))
    prepare_kernels(conv)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = [FORMS[form].run(conv, clips(4, 16)) for form in ("fold", "conv3d")]
    assert [y.dtype for y in outputs] == [torch.bfloat16] * 2
    assert (outputs[0] - outputs[1]).abs().max() < 0.02


def test_a_net_in_bfloat16_keeps_its_statistics_in_float32():
    norm = GroupNormAct3d(8, num_groups=2)
    x = (torch.randn(1, 8, 2, 5, 5) + 20).bfloat16()
    wanted = GroupNorm3d(8, num_groups=2)(x.float()).relu()
    assert (norm(x).float() - wanted).abs().max() < 0.02
    assert str(norm).startswith("GroupNormAct3d(2, 8, eps=1e-05, affine=True")
    assert str(norm).endswith(", relu=True)")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["i3d_r50", "c2d_r50", "slow_r50", "slowfast_r50", "r2plus1d_r50", "x3d_s"])
def test_a_fused_net_is_one_graph(name):
    net, x = fuse(shortened(build(name))), clips(FRAMES[name])
    torch._dynamo.reset()
    torch.compiler.allow_in_graph(channels_last_norm)  # as compile_net does
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(x), net(x), atol=1e-5)


@pytest.mark.slow
def test_a_compiled_net_has_the_same_gradients(plain):
    net = fuse(shortened(copy.deepcopy(plain)).double(), memory="low")
    wanted = gradients(net, clips().double())
    torch._dynamo.reset()
    torch.compiler.allow_in_graph(channels_last_norm)
    net.forward = torch.compile(net.forward, backend="aot_eager", fullgraph=True)
    got = gradients(net, clips().double())
    assert all((got[name] - wanted[name]).norm() <= 1e-9 * wanted[name].norm() for name in wanted)


def test_compile_net_compiles_what_a_test_calls(plain, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: asked.append((function.__name__, options)))
    compile_net(fuse(copy.deepcopy(plain)), cuda_graphs=True)
    assert [name for name, _ in asked] == ["forward", "scores", "features"]
    assert {options["mode"] for _, options in asked} == {"reduce-overhead"}
    assert all(options["fullgraph"] for _, options in asked)


@pytest.mark.slow
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("i3d_r50", "bn"),
        ("i3d_r50", "frozen_bn"),
        ("i3d_r50", "sync_bn"),
        ("r2plus1d_r50", "bn"),  # a norm inside the (2+1)-D pair, and one after it
        ("slowfast_r50", "bn"),  # the fusion's norm
        ("x3d_s", "bn"),  # a norm before squeeze and excitation
    ],
)
def test_batch_norms_fold_into_the_convolutions(name, norm, fused):
    net = build(name, norm).eval()
    x = clips(FRAMES[name])
    with torch.no_grad():
        wanted = copy.deepcopy(net).double()(x.double())
        net = fold_batch_norms(fuse(net) if fused else net)
        assert (net(x) - wanted).abs().max() < 1e-5 * wanted.abs().max() + 1e-6
    left = [key for key, module in net.named_modules() if "BatchNorm" in type(module).__name__]
    assert left == (["blocks.5.pool.pre_norm"] if name == "x3d_s" else [])


def test_a_training_net_is_not_folded():
    with pytest.raises(ValueError, match=r"The net is training, .*; call net.eval\(\) first"):
        fold_batch_norms(build(norm="bn"))


@pytest.mark.parametrize("training", [False, True])
def test_tuning_takes_the_form_that_was_fastest(plain, tmp_path, monkeypatch, training):
    net = fuse(copy.deepcopy(plain)).train(training)
    times = {"matmul": 1.0, "conv2d over H, W": 2.0, "conv2d over T": 2.0, "fold": 3.0, "conv3d": 2.0}
    monkeypatch.setattr(
        "vidgn.models.fuse.tune._time_forms",
        lambda site, backward: {name: times[name] for name in applicable_forms(site.conv)},
    )
    choices = tune(net, clips(), cache=tmp_path / "c.json")
    assert net.training == training
    stem, pointwise = (next(c for c in choices if key in c.layers) for key in ("blocks.0.conv", LAST_POINTWISE))
    assert (stem.form, stem.shape) == ("conv3d", (2, 3, 8, 64, 64))
    assert pointwise.form == "matmul"
    assert net.get_submodule(LAST_POINTWISE).form_of(torch.zeros(pointwise.shape)) == "matmul"
    assert net.get_submodule(LAST_POINTWISE).form_of(torch.zeros(1, 64, 1, 3, 3)) == "conv2d over H, W"  # the default


LAST_POINTWISE = "blocks.5.res_blocks.2.branch2.conv_c"


def test_tuning_measures_once_and_then_reads(plain, tmp_path, monkeypatch):
    net = fuse(copy.deepcopy(plain)).eval()
    monkeypatch.setattr("vidgn.models.fuse.tune.ROUNDS", 1)
    wanted = net(clips())
    first = tune(net, clips(), cache=tmp_path / "c.json")
    monkeypatch.setattr("vidgn.models.fuse.tune._time_forms", lambda site, backward: pytest.fail("measured again"))
    second = tune(net, clips(), cache=tmp_path / "c.json")
    assert [choice.form for choice in second] == [choice.form for choice in first]
    assert torch.allclose(net(clips()), wanted, atol=1e-5)


def test_the_table_of_forms_names_layer_shape_and_times(plain, tmp_path, monkeypatch):
    times = {"matmul": 9.0, "conv2d over H, W": 9.0, "conv2d over T": 9.0, "fold": 9.0, "conv3d": 1.5}
    monkeypatch.setattr(
        "vidgn.models.fuse.tune._time_forms",
        lambda site, backward: {name: times[name] for name in applicable_forms(site.conv)},
    )
    table = explain_forms(tune(fuse(copy.deepcopy(plain)).eval(), clips(), cache=tmp_path / "c.json")).splitlines()
    assert " ".join(table[0].split()) == "blocks.0.conv 2x3x8x64x64 float32 *conv3d 1.50 ms, fold 9.00 ms"


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": 1}'])
def test_a_cache_that_is_none_is_refused(plain, tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ValueError, match=r"c\.json is not a table of convolutions .*; delete it"):
        tune(fuse(copy.deepcopy(plain)), clips(), cache=tmp_path / "c.json")
