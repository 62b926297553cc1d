"""Training steps of residual blocks and of the stem on a CPU: forward and backward as one node of the graph each.

What autograd would keep of a bottleneck, and what is kept here:

    x -> conv a -> norm, ReLU -> conv b -> norm, ReLU -> conv c -> norm, + shortcut, ReLU -> y
    x      .          .            .           .            .                                y   autograd (and speed)
    x      .                       .                                                         y   memory=low

The rest is computed again in the backward pass, by the same operations, so with the same bits. Gradients are masked
and added in place, since nothing else holds them.
"""

# mypy: allow-untyped-calls

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from vidgn.models.fuse.conv import FORMS, ViewConv3d, computed_dtype, conv_gradients
from vidgn.norms.fused import GroupNormAct3d
from vidgn.norms.kernels import cpu, operation
from vidgn.norms.kernels.layout import channels_last, densify, is_channels_last, match_layout

aten = torch.ops.aten
FEW = 32  # channels of the stem


class Unit(NamedTuple):
    """A convolution and the norm behind it."""

    conv: ViewConv3d
    norm: GroupNormAct3d

    @property
    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the kernel, which may be computed from what is learned, and the norm's scale and shift."""
        return self.conv.kernel, self.norm.weight, self.norm.bias

    def convolve(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Convolve in the dtype of x, without a graph and without hooks."""
        with torch.autocast("cpu", torch.bfloat16, enabled=x.dtype == torch.bfloat16):  # for the weights
            return FORMS[self.conv.form_of(x)].run(self.conv, channels_last(x), kernel)

    def normalize(self, x: Tensor, residual: Tensor | None = None, *, relu: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Give y, and the mean and 1/std (N, G)."""
        norm = self.norm
        return cpu.quick_forward(x, norm.weight, norm.bias, residual, norm.num_groups, norm.eps, relu)

    def norm_gradients(self, dy: Tensor, x: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give the gradients of x, weight and bias; what the ReLU stopped is 0 in `dy` already."""
        norm = self.norm
        return cpu.gradients(match_layout(dy, x), x, norm.weight, mean, rstd, norm.num_groups)


def can_step(x: Tensor, *units: Unit | None) -> bool:
    """Tell whether these parts, for this input, compute as one node: a supported dtype, no hooks, no unknown module."""
    if x.device.type != "cpu" or x.dtype not in _DTYPES or operation.MODE != "auto":
        return False
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or computed_dtype(x.device, x.dtype) not in _DTYPES:
        return False
    return all(unit is None or _is_plain(unit) for unit in units)


def block_step(x: Tensor, units: tuple[Unit, Unit, Unit, Unit | None], *, low_memory: bool) -> Tensor:
    """Compute a bottleneck with units a, b and c, and the projection of the shortcut if it has one."""
    weights = [weight for unit in units if unit is not None for weight in unit.weights]
    return cast("Tensor", _Block.apply(x, units, low_memory, *weights))


def stem_step(x: Tensor, unit: Unit, pool: nn.MaxPool3d, *, low_memory: bool) -> Tensor:
    """Compute pool(relu(norm(conv(x)))) for a clip x that needs no gradient; y is channels-last."""
    return cast("Tensor", _Stem.apply(x, unit, pool, low_memory, *unit.weights))


def pair_pool(x: Tensor) -> Tensor:
    """Compute the max pool over two frames, next to next; the first of two equal ones has the gradient."""
    return cast("Tensor", _PairPool.apply(x))


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, units: tuple[Unit, Unit, Unit, Unit | None], low_memory: bool, *weights: Tensor
    ) -> Tensor:
        a, b, c, projection = units
        kernel_a, kernel_b, kernel_c, *kernel_s = weights[::3]
        x = channels_last(x.to(computed_dtype(x.device, x.dtype)))
        xa = a.convolve(x, kernel_a)
        ha, *stats_a = a.normalize(xa, relu=True)
        xb = b.convolve(ha, kernel_b)
        hb, *stats_b = b.normalize(xb, relu=True)
        xc = c.convolve(hb, kernel_c)
        shortcut, xs = x, None
        stats_s: list[Tensor] = []
        if projection is not None:
            xs = projection.convolve(x, kernel_s[0])
            shortcut, *stats_s = projection.normalize(xs, relu=False)
        y, *stats_c = c.normalize(xc, shortcut, relu=True)
        again = (None, None, None, None) if low_memory else (ha, hb, xc, xs)
        ctx.units = units
        ctx.save_for_backward(x, xa, xb, y, *again, *stats_a, *stats_b, *stats_c, *stats_s, *weights)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        a, b, c, projection = ctx.units
        x, xa, xb, y, ha, hb, xc, xs, *stats = ctx.saved_tensors  # the weights, too: torch sees if they changed
        num_stats = 6 if projection is None else 8
        kernel_a, kernel_b, kernel_c, *kernel_s = stats[num_stats::3]
        stats_a, stats_b, stats_c, stats_s = (stats[i : i + 2] for i in range(0, 8, 2))
        needs_x = ctx.needs_input_grad[0]
        g = aten.threshold_backward(match_layout(dy, y), y, 0)
        hb = b.normalize(xb, relu=True)[0] if hb is None else hb
        xc = c.convolve(hb, kernel_c) if xc is None else xc
        dxc, *norm_c = c.norm_gradients(g, xc, *stats_c)
        del xc
        dhb, dwc = conv_gradients(c.conv, dxc, hb, kernel_c)
        del dxc
        dxb, *norm_b = b.norm_gradients(_masked(dhb, hb), xb, *stats_b)
        del dhb, hb
        ha = a.normalize(xa, relu=True)[0] if ha is None else ha
        dha, dwb = conv_gradients(b.conv, dxb, ha, kernel_b)
        del dxb
        dxa, *norm_a = a.norm_gradients(_masked(dha, ha), xa, *stats_a)
        del dha, ha
        dx, dwa = conv_gradients(a.conv, dxa, x, kernel_a, needs_x=needs_x)
        del dxa
        gradients: list[Tensor] = [dwa, *norm_a, dwb, *norm_b, dwc, *norm_c]
        if projection is None:
            return (dx.add_(g) if needs_x else None), None, None, *gradients
        xs = projection.convolve(x, kernel_s[0]) if xs is None else xs
        dxs, *norm_s = projection.norm_gradients(g, xs, *stats_s)
        del g, xs
        rest, dws = conv_gradients(projection.conv, dxs, x, kernel_s[0], needs_x=needs_x)
        return (dx.add_(rest) if needs_x else None), None, None, *gradients, dws, *norm_s


class _Stem(torch.autograd.Function):
    """In the layout that the convolution has; the pool comes before the ReLU, so that only an eighth is left to do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, unit: Unit, pool: nn.MaxPool3d, low_memory: bool, *weights: Tensor) -> Tensor:
        conv = unit.conv
        clip, weight = _laid_out(conv, x, weights[0], computed_dtype(x.device, x.dtype))
        with torch.autocast("cpu", enabled=False):  # a pool would be float32
            xa = densify(F.conv3d(clip, weight, None, conv.stride, conv.padding, conv.dilation, conv.groups))
            wide, mean, rstd = unit.normalize(xa, relu=False)
            y, places = F.max_pool3d(
                channels_last(wide), pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, True
            )
        y.relu_()
        ctx.unit = unit
        ctx.save_for_backward(x if low_memory else clip, xa, y, places, mean, rstd, *weights)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        unit: Unit = ctx.unit
        conv = unit.conv
        x, xa, y, places, mean, rstd, kernel, *_ = ctx.saved_tensors
        g = aten.threshold_backward(match_layout(dy, y), y, 0)
        spread = _spread(g, places, like=xa)
        dxa, dweight, dbias = unit.norm_gradients(spread, xa, mean, rstd)
        del spread
        clip, weight = _laid_out(conv, x, kernel, xa.dtype)
        _, dw, _ = aten.convolution_backward(
            match_layout(dxa, clip), clip, weight, None, conv.stride, conv.padding, conv.dilation, False, [0, 0, 0],
            conv.groups, [False, True, False],
        )  # fmt: skip
        return None, None, None, None, dw.to(conv.weight.dtype), dweight, dbias


def _spread(dy: Tensor, places: Tensor, *, like: Tensor) -> Tensor:
    """Put the gradient of a max pool where its values came from; windows overlap, so a place may get several."""
    dx = torch.zeros_like(like)
    if is_channels_last(dx):
        rows, where, values = (t.movedim(1, -1).flatten(1, -2) for t in (dx, places, dy))
        rows.scatter_add_(1, where, values)
    else:
        dx.flatten(2).scatter_add_(2, places.flatten(2).contiguous(), dy.flatten(2).contiguous())
    return dx


def _laid_out(conv: ViewConv3d, x: Tensor, kernel: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Lay out a clip and a kernel as the first convolution is fastest: contiguous for few float32 channels."""
    if conv.out_channels < FEW and dtype != torch.bfloat16:
        return x.to(dtype).contiguous(), kernel.contiguous()
    return channels_last(x.to(dtype)), channels_last(kernel.to(dtype))


class _PairPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        pairs = x.shape[2] // 2 * 2
        y = torch.maximum(x[:, :, 0:pairs:2], x[:, :, 1:pairs:2])
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        pairs = x.shape[2] // 2 * 2
        dx = torch.empty_like(x)
        dx[:, :, pairs:] = 0
        first, second = dx[:, :, 0:pairs:2], dx[:, :, 1:pairs:2]
        torch.where(x[:, :, 0:pairs:2] == y, dy, dy.new_zeros(()), out=first)
        torch.sub(dy, first, out=second)
        return dx


def _masked(dy: Tensor, y: Tensor) -> Tensor:
    """Make dy 0, in place, where the ReLU made y 0."""
    masked: Tensor = aten.threshold_backward.grad_input(dy, y, 0, grad_input=dy)
    return masked


def _is_plain(unit: Unit) -> bool:
    conv, norm = unit
    if type(conv) is not ViewConv3d or type(norm) is not GroupNormAct3d or conv.bias is not None:
        return False
    hooks = [getattr(module, name) for module in unit for name in _HOOKS]
    weights = (conv.weight, norm.weight, norm.bias)
    return not any(hooks) and all(weight is not None and weight.dtype != torch.bfloat16 for weight in weights)


_DTYPES = (torch.float32, torch.float64, torch.bfloat16)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
