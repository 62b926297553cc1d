"""Group norm (+ residual) (+ ReLU) on the CPU from torch's own operations, arranged to read memory less often.

torch 2.15's channels-last group norm takes the variance as E[x^2] - E[x]^2, which at a mean of 300 and a deviation
of 1 is wrong by 0.1. So what it finds is kept only where the mean is no more than a few deviations. Else, and for
bfloat16, a channels-last x has its channels' moments from batch norm's kernel, which looks twice, and groups merge
them (Chan, Golub, LeVeque 1979); what follows is done in blocks that stay in the cache.
"""

# mypy: allow-untyped-calls

import torch
from torch import Tensor

from vidgn.norms.kernels.layout import (
    channels_last,
    densify,
    is_channels_last,
    match_layout,
    statistics_dtype,
)

NEAR = 8.0  # means, in deviations, whose variance E[x^2] - E[x]^2 has right to 64 times float32's rounding
VECTOR = 16  # channels
FEW_PIXELS = 1024  # below, torch's channels-last kernel goes group by group
MANY_VALUES = 1 << 18  # of a sample: from here on blocks of rows beat torch's kernels for narrow groups
BLOCK_ELEMENTS = 1 << 20  # of a block of pixels: 4 MB of float32, what a core finds in its last-level cache


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, groups: int, eps: float, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute y in the dtype and layout of x, and mean and 1/std (N, G) in float32 (float64 for float64)."""
    x = densify(x)
    weight, bias = (t.to(statistics_dtype(x)) for t in (weight, bias))
    samples, channels, pixels = x.shape[0], x.shape[1], x.shape[2:].numel()
    if not is_channels_last(x) or residual is None or x.dtype == weight.dtype:
        wide = x if residual is None else x.to(weight.dtype)  # rounded once, after the sum
        y, mean, rstd = torch.native_group_norm(_image(wide), weight, bias, samples, channels, pixels, groups, eps)
        y = _unflattened(y, x)
        if not is_channels_last(x) or is_near(mean, rstd):
            return _finish(y, residual, relu).to(x.dtype), mean, rstd
    mean, var = _group_moments(x, groups)
    rstd = (var + eps).rsqrt()
    gain, shift = affine(weight, bias, mean, rstd)
    return scale(x, gain, shift, residual, relu), mean, rstd


def quick_forward(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, groups: int, eps: float, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute what `forward` does for a dense x, but round bfloat16 before the sum, too: one pass less of float32."""
    pixels = x.shape[2:].numel()
    last = is_channels_last(x)
    turned = last and pixels < FEW_PIXELS and _is_narrow(x, groups)
    y, mean, rstd = torch.native_group_norm(
        x.contiguous() if turned else _image(x), weight, bias, x.shape[0], x.shape[1], pixels, groups, eps
    )
    y = _unflattened(y, x)
    if last and not turned and not is_near(mean, rstd):
        return forward(x, weight, bias, residual, groups, eps, relu)
    y = channels_last(y) if turned else y
    return _finish(y, residual, relu), mean, rstd


def is_near(mean: Tensor, rstd: Tensor) -> bool:
    """Tell whether all means are so few deviations from 0 that E[x^2] - E[x]^2 is exact enough; not if one is NaN."""
    return not mean.numel() or float((mean * rstd).abs().max()) < NEAR


def backward(
    dy: Tensor,
    x: Tensor,
    z: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    rstd: Tensor,
    groups: int,
    relu: bool,
    store_masked: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute dx, dweight and dbias (C,), and dy where the ReLU let y through (empty unless `store_masked`)."""
    x = densify(x)
    dy = match_layout(dy, x)
    if relu:
        if z is None:
            exact = statistics_dtype(x)
            gain, shift = affine(weight.to(exact), bias.to(exact), mean, rstd)
            z = scale(x, gain, shift, None, False)
        dy = torch.ops.aten.threshold_backward(dy, match_layout(z, x), 0)
    return *gradients(dy, x, weight, mean, rstd, groups), dy if store_masked and relu else x.new_empty(0)


def gradients(
    dy: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute dx, dweight and dbias of the norm alone, for a dense x and a dy of its layout."""
    samples, channels, pixels = x.shape[0], x.shape[1], x.shape[2:].numel()
    last = is_channels_last(x)
    if last and channels // groups < VECTOR and channels * pixels >= MANY_VALUES:
        return _row_gradients(dy, x, weight.to(statistics_dtype(x)), mean, rstd)
    turned = last and _is_narrow(x, groups)
    if turned:
        dy, x = dy.contiguous(), x.contiguous()
    weight = weight.to(statistics_dtype(x))
    dx, dweight, dbias = torch.ops.aten.native_group_norm_backward(
        _image(dy), _image(x), mean, rstd, weight, samples, channels, pixels, groups, [True, True, True]
    )
    dx = _unflattened(dx, x)
    return (channels_last(dx) if turned else dx), dweight, dbias


def _image(x: Tensor) -> Tensor:
    """View a channels-last (N, C, ...) as (N, C, 1, S): torch 2.11 knows no others but some pictures and clips."""
    return x.movedim(1, -1).flatten(1, -2)[:, None].movedim(-1, 1) if is_channels_last(x) else x


def _unflattened(y: Tensor, x: Tensor) -> Tensor:
    """Give what torch made of `_image(x)` the shape of x, and axes of size 1 the strides that torch's pools expect."""
    return y.movedim(1, -1).view(x.movedim(1, -1).shape).movedim(-1, 1) if is_channels_last(x) else y


def _row_gradients(dy: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `gradients` of channels-last tensors: sums by batch norm's kernel, then dx = gain dy + slope x + shift.

    With xhat = (x - mean) rstd and means over a group, dx = rstd (w dy - mean(w dy) - xhat mean(w dy xhat)).
    """
    samples, channels, groups = x.shape[0], x.shape[1], mean.shape[1]
    width = channels // groups
    means, rstds = (t.repeat_interleave(width, 1) for t in (mean, rstd))  # (N, C)
    ones = torch.ones_like(weight)
    sums = torch.ops.aten.native_batch_norm_backward
    gradients = [
        sums(_rows(dy[n]), _rows(x[n]), ones, None, None, means[n], rstds[n], True, 0.0, [False, True, True])[1:]
        for n in range(samples)
    ]
    dot, total = (torch.stack(parts) for parts in zip(*gradients, strict=True))  # (N, C): of dy xhat, of dy
    count = width * x.shape[2:].numel()
    a, b = ((t * weight).unflatten(1, (groups, width)).sum(2) / count for t in (total, dot))  # (N, G)
    gain = rstds * weight
    slope, shift = ((t * rstd).repeat_interleave(width, 1) for t in (-b * rstd, b * rstd * mean - a))
    dx = torch.empty_like(x)
    block = max(1, BLOCK_ELEMENTS // channels)
    for n in range(samples):
        for source, incoming, target in zip(*(_rows(t[n]).split(block) for t in (x, dy, dx)), strict=True):
            wide = torch.addcmul(shift[n], source.to(weight.dtype), slope[n])
            target.copy_(wide.addcmul_(incoming.to(weight.dtype), gain[n]))
    return dx, dot.sum(0), total.sum(0)


def _is_narrow(x: Tensor, groups: int) -> bool:
    """Tell whether a group has fewer bfloat16 channels than a vector; torch's channels-last kernels then crawl.

    Copies to the other layout and back and the kernel there take a fifth of the time.
    """
    return x.dtype == torch.bfloat16 and x.shape[1] // groups < VECTOR


def affine(weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor]:
    """Turn the statistics (N, G) into y = gain x + shift, both (N, C)."""
    groups = mean.shape[1]
    gain = rstd[:, :, None] * weight.view(groups, -1)  # (N, G, C/G)
    shift = bias.view(groups, -1) - mean[:, :, None] * gain
    return gain.flatten(1), shift.flatten(1)


def scale(x: Tensor, gain: Tensor, shift: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """Compute relu(gain x + shift + residual) for gain and shift (N, C), in float32 arithmetic.

    Batch norm's inference kernel with mean 0 and variance 1 is the one that takes float32 vectors with a bfloat16 x.
    """
    y = torch.empty_like(x)
    block = max(1, BLOCK_ELEMENTS // max(1, x.shape[1]))
    for n in range(x.shape[0]):
        parts = [_rows(t[n]).split(block) for t in (x, y)]
        if residual is None:
            for source, target in zip(*parts, strict=True):
                _scale_rows(source, gain[n], shift[n], out=target)
                _finish(target, None, relu)
            continue
        added = _rows(match_layout(residual, x)[n]).split(block)
        for source, target, rest in zip(*parts, added, strict=True):
            if x.dtype == gain.dtype:
                _scale_rows(source, gain[n], shift[n], out=target)
                _finish(target, rest, relu)
            else:  # rounded once, after the sum
                wide = torch.addcmul(shift[n], source.to(gain.dtype), gain[n])
                target.copy_(_finish(wide, rest, relu))
    return y


def _scale_rows(x: Tensor, gain: Tensor, shift: Tensor, *, out: Tensor) -> None:
    zeros, ones, unused = torch.zeros_like(gain), torch.ones_like(gain), gain.new_empty(0)
    torch.ops.aten.native_batch_norm.out(
        x, gain, shift, zeros, ones, False, 0.0, 0.0, out=out, save_mean=unused, save_invstd=unused.clone()
    )


def _group_moments(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Mean and variance (N, G) of a channels-last x."""
    zeros = torch.zeros(x.shape[1], dtype=statistics_dtype(x))
    update = torch.ops.aten.batch_norm_update_stats  # with these float32 averages it answers in float32
    moments = [update(sample, zeros, zeros.clone(), 0.0) for sample in x.split(1)]
    means = torch.stack([mean for mean, _ in moments]).unflatten(1, (groups, -1))  # (N, G, C/G)
    variances = torch.stack([var for _, var in moments]).unflatten(1, (groups, -1))
    mean = means.mean(2)
    return mean, variances.mean(2) + (means - mean[:, :, None]).square().mean(2)


def _finish(y: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    if residual is not None:
        y.add_(residual)
    return y.relu_() if relu else y


def _rows(sample: Tensor) -> Tensor:
    """View a sample (C, ...) as (S, C); without a copy if it is channels-last."""
    return sample.flatten(1).t()
