"""The channels-last group norm that compilers see: its rows, its moments, its one derivative."""

import pytest
import torch

from vidgn.norms.kernels.torch_ops import ROW, ChannelsLastNorm


def clip(shape, *, mean=0.0, std=1.0, dtype=torch.float32):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * std + mean
    return x.to(dtype).contiguous(memory_format=torch.channels_last_3d)


def expected(x, weight, bias, groups):
    grouped = x.double().reshape(x.shape[0], groups, -1)
    centred = grouped - grouped.mean(-1, keepdim=True)
    y = (centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()).reshape(x.shape)
    return y * weight.double()[:, None, None, None] + bias.double()[:, None, None, None]


def error(got, wanted):
    return float((got.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(
    "shape",
    [
        (2, 8, 3, 4, 5),  # a frame is a row
        (1, 8, 2, 12, 11),  # a frame has more pixels than a row: 132
        (1, 8, 1, 1, 1),  # one pixel
    ],
)
@pytest.mark.parametrize("groups", [1, 4])
def test_rows_of_any_size_give_float64s_numbers(shape, groups):
    assert shape[3] * shape[4] <= ROW or shape[3:] == (12, 11)
    torch.manual_seed(1)
    x, weight, bias = clip(shape, mean=2.0), torch.randn(8), torch.randn(8)
    y = ChannelsLastNorm.apply(x, weight, bias, None, groups, 1e-5, False)
    assert error(y, expected(x, weight, bias, groups)) < 1e-6


def test_a_large_mean_costs_what_float32_costs():
    x = clip((1, 8, 4, 16, 16), mean=300.0)  # float32 itself holds x to 2e-5 of a deviation
    y = ChannelsLastNorm.apply(x, torch.ones(8), torch.zeros(8), None, 2, 1e-5, False)
    assert error(y, expected(x, torch.ones(8), torch.zeros(8), 2)) < 1e-4


def test_a_bfloat16_result_is_float32s_rounded_once():
    x, rest = clip((2, 8, 2, 3, 3), dtype=torch.bfloat16), clip((2, 8, 2, 3, 3), mean=1.0, dtype=torch.bfloat16)
    y = ChannelsLastNorm.apply(x, torch.ones(8), torch.zeros(8), rest, 4, 1e-5, True)
    wanted = (expected(x.float(), torch.ones(8), torch.zeros(8), 4) + rest.double()).relu()
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    # A float64 halfway between two bfloat16 numbers may go either way: one step, and rarely.
    assert (y.double() - wanted.bfloat16().double()).abs().max() <= wanted.max() * 2**-7
    assert (y != wanted.bfloat16()).float().mean() < 0.01


def test_its_gradients_cannot_be_differentiated_again():
    x = clip((1, 4, 1, 2, 2)).requires_grad_()
    y = ChannelsLastNorm.apply(x, torch.ones(4), torch.zeros(4), None, 2, 1e-5, False)
    (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="marked with @once_differentiable"):
        dx.sum().backward()
