"""The fused group norm: which code computes it where, and what it computes on the CPU."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vidgn.norms.kernels import cpu, group_norm_act, operation
from vidgn.norms.kernels.triton_cuts import Cut, Site, choose_cut, row_key

ROOT = Path(__file__).parents[3]
FLAGS = list(itertools.product((False, True), (False, True)))  # residual, relu
SHAPE = (2, 12, 3, 5, 4)


def lay(x, layout):
    if layout == "channels_last":
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "strided":
        return x.repeat_interleave(2, dim=1)[:, ::2]
    return x.contiguous()


def reference(x, weight, bias, groups, residual, relu):
    grouped = x.reshape(x.shape[0], groups, x.shape[1:].numel() // groups)
    centred = grouped - grouped.mean(-1, keepdim=True)
    normal = (centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()).reshape(x.shape)
    shape = (1, -1, *(1 for _ in x.shape[2:]))
    y = normal * weight.reshape(shape) + bias.reshape(shape)
    y = y if residual is None else y + residual
    return y.relu() if relu else y


def draw(shape, dtype, layout, *, residual, mean=3.0, std=2.0):
    generator = torch.Generator().manual_seed(0)
    x, rest = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    weight, bias = (torch.randn(shape[1], generator=generator, dtype=torch.float64) for _ in range(2))
    affine = torch.float64 if dtype == torch.float64 else torch.float32
    tensors = [lay((x * std + mean).to(dtype), layout), weight.to(affine), bias.to(affine)]
    tensors += [lay(rest.to(dtype), layout)] if residual else []
    return [t.detach().requires_grad_() for t in tensors]


def errors(inputs, groups, relu, function=group_norm_act):
    """Relative errors of y, dx, dweight, dbias and dresidual against float64."""
    exact = [t.detach().double().requires_grad_() for t in inputs]
    dy = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1)).to(inputs[0].dtype)
    y = function(*inputs[:3], groups, 1e-5, *(inputs[3:] or [None]), relu)
    y64 = reference(*exact[:3], groups, *(exact[3:] or [None]), relu)
    got = [y, *torch.autograd.grad(y, inputs, dy)]
    wanted = [y64, *torch.autograd.grad(y64, exact, dy.double())]
    return [
        float((a.detach().double() - b.detach()).norm() / b.detach().norm()) for a, b in zip(got, wanted, strict=True)
    ]


@pytest.mark.slow
def test_the_kernels_hold_in_tritons_interpreter():
    pytest.importorskip("triton", reason="Triton is not installed: its kernels cannot be interpreted")
    environment = os.environ | {"VIDGN_KERNELS": "on", "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/norms/kernels_interpreted.py"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]


@pytest.mark.parametrize(("residual", "relu"), FLAGS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
@pytest.mark.parametrize("groups", [1, 4, 12])
def test_float32_on_the_cpu_agrees_with_float64(groups, layout, residual, relu):
    assert max(errors(draw(SHAPE, torch.float32, layout, residual=residual), groups, relu)) < 3e-6


@pytest.mark.parametrize(("residual", "relu"), FLAGS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    ("dtype", "large", "small"),
    [
        (torch.float64, 1e-13, 1e-13),
        (torch.float16, 5e-4, 1e-5),  # rounding alone is 2.1e-4
        (torch.bfloat16, 2.5e-3, 1e-5),  # 1.7e-3
    ],
)
def test_every_dtype_on_the_cpu_agrees_with_float64(dtype, large, small, layout, residual, relu):
    y, dx, dweight, dbias, *dresidual = errors(draw(SHAPE, dtype, layout, residual=residual), 4, relu)
    assert max(y, dx, *dresidual) < large
    assert max(dweight, dbias) < small


@pytest.mark.parametrize("shape", [(2, 12, 7), (2, 12, 4, 5)])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_fewer_axes_are_normalized_too(shape, layout):
    assert max(errors(draw(shape, torch.float32, layout, residual=True), 4, True)) < 3e-6


def test_large_channels_last_inputs_are_done_in_blocks(monkeypatch):
    monkeypatch.setattr("vidgn.norms.kernels.cpu.BLOCK_ELEMENTS", 12 * 7)  # 60 pixels: eight blocks and a rest
    assert max(errors(draw(SHAPE, torch.bfloat16, "channels_last", residual=True), 4, True)[:2]) < 2.5e-3


@pytest.fixture
def by_rows(monkeypatch):
    """Let the gradients of small channels-last inputs be computed as those of large ones, in blocks of 7 pixels."""
    monkeypatch.setattr(cpu, "MANY_VALUES", 0)
    monkeypatch.setattr(cpu, "BLOCK_ELEMENTS", 12 * 7)
    seen, rows = [], cpu._row_gradients
    monkeypatch.setattr(cpu, "_row_gradients", lambda *inputs: seen.append(inputs[1].dtype) or rows(*inputs))
    return seen


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.bfloat16, 3e-3)])
@pytest.mark.parametrize("shape", [SHAPE, (3, 12, 60), (1, 12, 5, 12)])
@pytest.mark.parametrize("groups", [1, 4, 12])
def test_gradients_of_large_channels_last_inputs_agree_with_float64(by_rows, groups, shape, dtype, allowed, residual):
    inputs = draw(shape, dtype, "channels_last", residual=residual)
    assert max(errors(inputs, groups, False)) < allowed
    assert by_rows == [dtype]


def test_gradients_by_rows_are_as_exact_where_the_mean_is_large(by_rows):
    inputs = draw((2, 12, 4, 8, 8), torch.float32, "channels_last", residual=False, mean=300.0, std=1.0)
    contiguous = [t.detach().contiguous().requires_grad_() for t in inputs]
    rows, torchs = (errors(found, 4, False)[1:3] for found in (inputs, contiguous))
    assert len(by_rows) == 1
    assert all(ours < 1.5 * theirs + 1e-5 for ours, theirs in zip(rows, torchs, strict=True))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_a_large_mean_costs_what_float32_costs(layout):
    # E[x^2] - E[x]^2 would be wrong by 0.1 here; float32 itself holds x to 300 * 6e-8 = 2e-5 of a deviation.
    inputs = draw((1, 8, 4, 16, 16), torch.float32, layout, residual=False, mean=300.0, std=1.0)
    assert errors(inputs, 2, False)[0] < 1e-4


@pytest.mark.parametrize(("mean", "dtype", "allowed"), [(0.0, torch.float32, 1e-6), (300.0, torch.float32, 1e-4),
                                                        (1.0, torch.bfloat16, 4e-3)])  # fmt: skip
@pytest.mark.parametrize("pixels", [(4, 8, 8), (4, 16, 16)])  # below and above what torch does group by group
def test_the_forward_of_training_blocks_is_exact(mean, dtype, allowed, pixels):
    x, weight, bias, rest = draw((1, 8, *pixels), dtype, "channels_last", residual=True, mean=mean, std=1.0)
    y, _, _ = cpu.quick_forward(x.detach(), weight.detach(), bias.detach(), rest.detach(), 2, 1e-5, True)
    wanted = reference(*(t.detach().double() for t in (x, weight, bias)), 2, rest.detach().double(), True)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    assert (y.double() - wanted).norm() < allowed * wanted.norm()


@pytest.mark.parametrize("many", [0, cpu.MANY_VALUES])
def test_dweight_of_bfloat16_is_a_hundred_times_nearer_than_torchs(monkeypatch, many):
    monkeypatch.setattr(cpu, "MANY_VALUES", many)
    inputs = draw((2, 32, 4, 14, 14), torch.bfloat16, "channels_last", residual=False, mean=32.0, std=2.0)

    def torchs(x, weight, bias, groups, eps, _, relu):
        return torch.nn.functional.group_norm(x, groups, weight, bias, eps)

    narrow = [t.detach().bfloat16().contiguous().requires_grad_() for t in inputs]
    assert errors(inputs, 16, False)[2] * 100 < errors(narrow, 16, False, torchs)[2]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_the_result_has_the_dtype_and_layout_of_x(layout):
    x = draw(SHAPE, torch.bfloat16, layout, residual=False)[0]
    y = group_norm_act(x, None, None, 4)
    assert (y.dtype, y.shape, y.stride()) == (x.dtype, x.shape, x.stride())


def test_an_empty_batch_gives_an_empty_result():
    assert max(errors_of_empty(layout) for layout in ("contiguous", "channels_last")) == 0


def errors_of_empty(layout):
    inputs = draw((0, 12, 2, 2, 2), torch.float32, layout, residual=True)
    y = group_norm_act(*inputs[:3], 4, 1e-5, inputs[3], True)
    assert y.shape == (0, 12, 2, 2, 2)
    return max(float(g.abs().sum()) for g in torch.autograd.grad(y.sum(), inputs))


def test_x_and_the_residual_are_left_as_they_were():
    inputs = [t.detach() for t in draw(SHAPE, torch.float32, "channels_last", residual=True)]
    before = [t.clone() for t in inputs]
    group_norm_act(*inputs[:3], 4, 1e-5, inputs[3], True)
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


def test_numeric_gradients_agree():
    inputs = draw((2, 6, 1, 2, 3), torch.float64, "channels_last", residual=True)
    assert torch.autograd.gradcheck(lambda x, w, b, r: group_norm_act(x, w, b, 3, 1e-5, r, True), inputs)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own look
@pytest.mark.parametrize("residual", [False, True])
def test_the_operation_is_registered_as_torch_wants(residual):
    inputs = draw((2, 6, 1, 2, 3), torch.float32, "channels_last", residual=residual)
    arguments = (*inputs[:3], inputs[3] if residual else None, 3, 1e-5, True)
    torch.library.opcheck(torch.ops.vidgn.group_norm_act.default, arguments)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_the_backward_pass_keeps_x_and_the_statistics(layout):
    x, weight, bias = draw(SHAPE, torch.float32, layout, residual=False)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        group_norm_act(x, weight, bias, 4)
    assert sorted(t.numel() for t in kept) == [8, 8, 12, 12, x.numel()]


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_compiled_graph_computes_the_same_without_a_break(layout, dtype):
    inputs = draw(SHAPE, dtype, layout, residual=True)
    compiled = torch.compile(group_norm_act, backend="aot_eager", fullgraph=True)
    limit = 3e-6 if dtype == torch.float32 else 2.5e-3
    assert max(errors(inputs, 4, True, compiled)) < limit


def test_autocast_leaves_bfloat16_alone():
    x = torch.randn(SHAPE).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert group_norm_act(x, torch.ones(12), torch.zeros(12), 4).dtype == torch.bfloat16
        assert operation.torch_reference.reference_group_norm_act(
            x, torch.ones(12), torch.zeros(12), 4, 1e-5, x, True
        ).dtype == torch.bfloat16  # fmt: skip


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_off_computes_the_same_with_torchs_operations(monkeypatch, layout):
    monkeypatch.setattr(operation, "MODE", "off")
    inputs = draw(SHAPE, torch.float32, layout, residual=True)
    assert not operation.uses_operation(inputs[0])
    assert max(errors(inputs, 4, True)) < 3e-6


def test_on_refuses_where_the_kernels_cannot_run(monkeypatch):
    monkeypatch.setattr(operation, "MODE", "on")
    with pytest.raises(ValueError, match=r"VIDGN_KERNELS=on, but the Triton kernels cannot run on torch.float32"):
        group_norm_act(torch.zeros(SHAPE), None, None, 4)


@pytest.mark.slow
def test_an_unknown_mode_is_refused_at_import():
    command = [sys.executable, "-c", "import vidgn.norms.kernels.operation"]
    environment = os.environ | {"VIDGN_KERNELS": "fast", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "VIDGN_KERNELS=fast is unknown; use auto, on or off." in run.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3), None, None, 1), r"x has shape \(3,\); give \(N, C\) or \(N, C, \.\.\.\)"),
        ((torch.zeros(1, 6, 2), None, None, 4), r"groups \(4\) must divide the 6 channels of x"),
        ((torch.zeros(1, 6, 2), torch.ones(5), None, 3), r"weight has shape \(5,\) on cpu; give \(6,\) on cpu"),
        ((torch.zeros(1, 6, 2), None, torch.ones(6, 1), 3), r"bias has shape \(6, 1\) on cpu; give \(6,\) on cpu"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        group_norm_act(*arguments)


@pytest.mark.parametrize("residual", [torch.zeros(1, 6, 3), torch.zeros(1, 6, 2).double()])
def test_a_residual_that_does_not_fit_is_refused(residual):
    with pytest.raises(ValueError, match=r"residual is torch\.float\d+ of shape .*; give torch.float32 of \(1, 6, 2\)"):
        group_norm_act(torch.zeros(1, 6, 2), None, None, 3, residual=residual)


# The sites of the 64-frame net at batch 4, bfloat16, channels-last (shared with docs/kernels.md).
@pytest.mark.parametrize(
    ("shape", "forward", "backward"),
    [
        ((4, 64, 32, 112, 112), "split", "split"),  # 803 k elements a group
        ((4, 256, 16, 55, 55), "split", "split"),  # 16 bytes of a group a pixel: half a sector
        ((4, 1024, 8, 14, 14), "split", "split"),  # 1568 pixels of 32 channels
        ((4, 2048, 8, 7, 7), "resident", "split"),  # 392 pixels of 64 channels; backward holds dy as well
        ((4, 512, 8, 7, 7), "resident", "resident"),  # 392 pixels of 16 channels
    ],
)
def test_small_groups_stay_in_one_program(shape, forward, backward):
    site = Site(shape[0], shape[2] * shape[3] * shape[4], shape[1], 32, 2, True)
    regimes = ["resident" if choose_cut(site, direction=d).resident else "split" for d in ("forward", "backward")]
    assert regimes == [forward, backward]


def test_a_measured_row_wins_over_the_rule(monkeypatch):
    site = Site(4, 196, 2048, 32, 2, True)
    measured = Cut(resident=False, tile=1024, warps=2, programs=3)
    rows = {row_key(site, direction="forward"): measured}
    monkeypatch.setattr("vidgn.norms.kernels.triton_cuts.MEASURED", rows)
    assert choose_cut(site, direction="forward") == measured
    assert choose_cut(site, direction="backward").resident
