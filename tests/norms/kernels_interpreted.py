"""The Triton kernels, run by Triton's interpreter on the CPU.

Not collected by itself: the interpreter must be chosen before Triton is imported, so `test_kernels.py` runs this file
in a process of its own. By hand:

    VIDGN_KERNELS=on TRITON_INTERPRET=1 pytest tests/norms/kernels_interpreted.py
"""

import itertools

import pytest
import torch
from torch import Tensor

from vidgn.norms.kernels import operation, triton_launch
from vidgn.norms.kernels.operation import group_norm_act
from vidgn.norms.kernels.triton_cuts import Cut

# (shape, groups)
SHAPES = [
    ((2, 6, 3, 5, 7), 3),  # odd sizes, C less than a tile
    ((1, 24, 2, 9, 4), 4),  # C/G and C are no powers of two
    ((2, 40, 11), 1),  # G = 1, 3-D
    ((2, 5, 2, 3), 5),  # G = C, 4-D
    ((3, 16, 1, 1, 1), 2),  # S = 1
    ((1, 64, 1, 4, 4), 32),  # the stem's 2 channels a group
    ((0, 6, 2, 2, 2), 3),  # an empty batch
]
CUTS = {
    "resident": Cut(resident=True, tile=0, warps=4, programs=1),
    "split": Cut(resident=False, tile=256, warps=4, programs=8),  # several chunks, several tiles of channels
}
FLAGS = list(itertools.product((False, True), (False, True)))  # residual, relu
# Relative error of y, dx, dresidual; of dweight, dbias. Rounding to bfloat16 is 1.7e-3, to float16 2.1e-4.
TOLERANCE = {
    torch.float64: (1e-7, 1e-7),  # eps is handed to a kernel as float32
    torch.float32: (1e-6, 1e-6),
    torch.float16: (5e-4, 1e-5),
    torch.bfloat16: (5e-3, 1e-5),  # the interpreter truncates where a GPU rounds: twice the error
}


def lay(x: Tensor, layout: str) -> Tensor:
    if layout == "channels_last":
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "strided":  # every second channel of a wider tensor
        return x.repeat_interleave(2, dim=1)[:, ::2]
    return x.contiguous()


def reference(x: Tensor, weight: Tensor, bias: Tensor, groups: int, residual: Tensor | None, relu: bool) -> Tensor:
    grouped = x.reshape(x.shape[0], groups, x.shape[1:].numel() // groups)
    centred = grouped - grouped.mean(-1, keepdim=True)
    normal = (centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()).reshape(x.shape)
    shape = (1, -1, *(1 for _ in x.shape[2:]))
    y = normal * weight.reshape(shape) + bias.reshape(shape)
    y = y if residual is None else y + residual
    return y.relu() if relu else y


def distance(got: Tensor, wanted: Tensor) -> float:
    # Few elements, or a sum that is nearly zero, have no scale of their own.
    got, wanted = got.detach().double(), wanted.detach()
    return float((got - wanted).norm() / max(float(wanted.norm()), 1e-3 * max(wanted.numel(), 1) ** 0.5))


def leaves(shape, dtype, layout, *, residual=True, mean=3.0, std=2.0):
    generator = torch.Generator().manual_seed(len(shape) + shape[1])
    draw = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    vectors = [torch.randn(shape[1], generator=generator, dtype=torch.float64) for _ in range(2)]
    affine = torch.float64 if dtype == torch.float64 else torch.float32
    tensors = [lay((draw[0] * std + mean).to(dtype), layout), *(v.to(affine) for v in vectors)]
    tensors += [lay(draw[1].to(dtype), layout)] if residual else []
    return [t.detach().requires_grad_() for t in tensors]


def compare(shape, groups, dtype, layout, residual, relu, **moments) -> None:
    inputs = leaves(shape, dtype, layout, residual=residual, **moments)
    exact = [t.detach().double().requires_grad_() for t in inputs]
    dy = lay(torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype), layout)
    rest, rest64 = (t[3] if residual else None for t in (inputs, exact))
    y = group_norm_act(*inputs[:3], groups, 1e-5, rest, relu)
    y64 = reference(*exact[:3], groups, rest64, relu)
    assert y.dtype == dtype
    assert y.shape == shape
    got = [y, *torch.autograd.grad(y, inputs, dy)]
    wanted = [y64, *torch.autograd.grad(y64, exact, dy.double())]
    large, small = TOLERANCE[dtype]
    for name, a, b in zip(("y", "dx", "dweight", "dbias", "dresidual"), got, wanted, strict=False):
        assert a.dtype == (dtype if name in ("y", "dx", "dresidual") else inputs[1].dtype)
        assert distance(a, b) <= (small if name in ("dweight", "dbias") else large), name


@pytest.fixture(params=CUTS)
def cut(request, monkeypatch):
    chosen = CUTS[request.param]
    monkeypatch.setattr(triton_launch, "choose_cut", lambda site, direction: chosen)


def test_this_process_interprets_the_kernels():
    assert operation.uses_triton(torch.zeros(1, 1, 1))


@pytest.mark.parametrize(("residual", "relu"), FLAGS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(("shape", "groups"), SHAPES, ids=str)
@pytest.mark.usefixtures("cut")
def test_float32_agrees_with_float64(shape, groups, layout, residual, relu):
    compare(shape, groups, torch.float32, layout, residual, relu)


@pytest.mark.parametrize(("residual", "relu"), FLAGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.usefixtures("cut")
def test_every_dtype_agrees_with_float64(dtype, residual, relu):
    compare((2, 24, 2, 5, 3), 4, dtype, "channels_last", residual, relu)


@pytest.mark.usefixtures("cut")
def test_strided_inputs_are_read_as_they_are():
    compare((2, 6, 3, 5, 7), 3, torch.float32, "strided", True, True)


@pytest.mark.parametrize("ratio", [16, 300])
@pytest.mark.usefixtures("cut")
def test_a_mean_far_larger_than_the_deviation_costs_no_digits(ratio):
    # float32 itself holds x to ratio * 6e-8 of a deviation.
    inputs = leaves((2, 8, 3, 9, 9), torch.float32, "channels_last", mean=ratio, std=1.0)
    exact = [t.detach().double().requires_grad_() for t in inputs]
    dy = torch.randn((2, 8, 3, 9, 9), generator=torch.Generator().manual_seed(2))
    y = group_norm_act(*inputs[:3], 2, 1e-5, inputs[3], True)
    y64 = reference(*exact[:3], 2, exact[3], True)
    got = [y, *torch.autograd.grad(y, inputs, dy)]
    wanted = [y64, *torch.autograd.grad(y64, exact, dy.double())]
    errors = [distance(a, b) for a, b in zip(got, wanted, strict=True)]
    assert max(errors) <= 2e-7 * ratio + 1e-6


def test_dweight_of_bfloat16_is_a_hundred_times_nearer_than_torchs():
    inputs = leaves((2, 32, 4, 14, 14), torch.bfloat16, "channels_last", residual=False, mean=32.0, std=2.0)
    dy = torch.randn((2, 32, 4, 14, 14), generator=torch.Generator().manual_seed(3)).bfloat16()
    exact = [t.detach().double().requires_grad_() for t in inputs]
    wanted = torch.autograd.grad(reference(*exact, 16, None, False), exact[1], dy.double())[0]
    ours = torch.autograd.grad(group_norm_act(*inputs, 16, 1e-5, None, False), inputs[1], dy)[0]
    narrow = [t.detach().bfloat16().contiguous().requires_grad_() for t in inputs]  # as net.bfloat16() has them
    torchs = torch.autograd.grad(torch.nn.functional.group_norm(narrow[0], 16, *narrow[1:]), narrow[1], dy)[0]
    assert distance(torchs, wanted) > 1e-2
    assert distance(ours, wanted) * 100 < distance(torchs, wanted)


@pytest.mark.usefixtures("cut")
def test_two_runs_give_the_same_bits():
    inputs = leaves((2, 24, 3, 7, 7), torch.bfloat16, "channels_last")
    dy = torch.randn((2, 24, 3, 7, 7)).bfloat16()

    def run():
        y = group_norm_act(*inputs[:3], 4, 1e-5, inputs[3], True)
        return [y, *torch.autograd.grad(y, inputs, dy)]

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


@pytest.mark.usefixtures("cut")
def test_not_a_number_passes_through_the_relu():
    x = torch.randn(1, 4, 2, 3, 3)
    x[0, 0, 0, 0, 0] = float("nan")
    y = group_norm_act(x, None, None, 2)
    assert y[0, :2].isnan().all()
    assert not y[0, 2:].isnan().any()


@pytest.mark.parametrize(("residual", "relu"), FLAGS)
@pytest.mark.usefixtures("cut")
def test_numeric_gradients_agree(residual, relu):
    inputs = leaves((2, 6, 1, 2, 3), torch.float64, "channels_last", residual=residual)

    def run(x, weight, bias, rest=None):
        return group_norm_act(x, weight, bias, 3, 1e-5, rest, relu)

    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own look
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
@pytest.mark.parametrize(("residual", "relu"), [(False, True), (True, True)])
def test_the_operation_is_registered_as_torch_wants(layout, residual, relu):
    inputs = leaves((2, 6, 1, 2, 3), torch.float32, layout, residual=residual)
    rest = inputs[3] if residual else None
    torch.library.opcheck(torch.ops.vidgn.group_norm_act.default, (*inputs[:3], rest, 3, 1e-5, relu))


@pytest.mark.usefixtures("cut")
def test_a_group_of_one_value_gives_the_bias():
    x, weight, bias = leaves((2, 5, 1, 1, 1), torch.float32, "contiguous", residual=False)
    y = group_norm_act(x, weight, bias, 5, relu=False)
    assert torch.equal(y.flatten(1), bias.expand(2, 5))
    assert torch.autograd.grad(y.sum(), x)[0].abs().max() == 0


def test_the_residual_may_be_x_itself():
    x, weight, bias = leaves((2, 6, 1, 2, 3), torch.float64, "channels_last", residual=False)
    y = group_norm_act(x, weight, bias, 3, 1e-5, x, True)
    assert distance(y, reference(x, weight, bias, 3, x, True)) < 1e-7


def test_what_autocast_sends_in_comes_out():
    x, weight, bias = leaves((2, 6, 1, 2, 3), torch.bfloat16, "channels_last", residual=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert group_norm_act(x, weight, bias, 3).dtype == torch.bfloat16


def test_on_refuses_what_the_kernels_cannot_compute():
    with pytest.raises(ValueError, match=r"VIDGN_KERNELS=on, but the Triton kernels cannot run on torch.int32"):
        group_norm_act(torch.zeros(1, 2, 3, dtype=torch.int32), None, None, 1)
