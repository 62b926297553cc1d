"""The gradients of group norm (+ residual) (+ ReLU) in Triton; layouts and tiles as in `kernels_forward`.

With h = (x - mean) / std and g = dy where the ReLU let y through, else 0, M elements in a group:

    dbias = sum g    dweight = sum g h    dresidual = g
    dx = (weight g - sum(weight g) / M - h sum(weight g h) / M) / std        sums over the group

    split      sums: r dy x (z), w (dresidual)    merge    apply: r g x, w dx
    resident   one program per sample and group: r dy x (z), w dx (dresidual)    merge

What the ReLU let through is computed again from x, or, after a residual, read off the output z, which the next
layer keeps anyway.
"""

# mypy: disable-error-code="no-untyped-def, import-untyped, untyped-decorator"

import triton
import triton.language as tl

# Where `masked` sees what the ReLU let through.
MASK_NONE = tl.constexpr(0)
MASK_FROM_X = tl.constexpr(1)
MASK_FROM_Z = tl.constexpr(2)


@triton.jit
def masked(dy, centred, gain, shift, z, offsets, keep, MASK: tl.constexpr):
    """Set to zero the gradient of what the ReLU held back."""
    if MASK == MASK_FROM_X:
        return tl.where(centred * gain + shift <= 0.0, 0.0, dy)
    if MASK == MASK_FROM_Z:
        return tl.where(tl.load(z + offsets, mask=keep, other=1.0).to(tl.float32) <= 0.0, 0.0, dy)
    return dy


@triton.jit
def gradient_sums(
    dy, x, z, weight, bias, mean_in, rstd_in, dresidual, dbias_out, dweight_out,
    S, C, D: tl.constexpr, groups, chunk_len, stride_n, stride_s, stride_c,
    MASK: tl.constexpr, STORE: tl.constexpr, ACC: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write the sums of g and of g h over one chunk of pixels, for every channel; store g if STORE."""
    chunk, n = tl.program_id(0), tl.program_id(1)
    cols = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = cols < C
    rows = tl.arange(0, BLOCK_S)
    begin = chunk * chunk_len
    end = tl.minimum(begin + chunk_len, S)
    base = n.to(tl.int64) * stride_n
    group = n * groups + cols // D
    mean = tl.load(mean_in + group, mask=inside, other=0.0)[None, :]
    rstd = tl.load(rstd_in + group, mask=inside, other=0.0)
    gain = (rstd * tl.load(weight + cols, mask=inside, other=0.0).to(ACC))[None, :]
    shift = tl.load(bias + cols, mask=inside, other=0.0).to(ACC)[None, :]
    sum_g = tl.zeros((BLOCK_S, BLOCK_C), dtype=ACC)
    sum_gh = tl.zeros((BLOCK_S, BLOCK_C), dtype=ACC)
    for start in range(begin, end, BLOCK_S):
        pixel = start + rows
        keep = (pixel < end)[:, None] & inside[None, :]
        offsets = base + pixel[:, None] * stride_s + cols[None, :] * stride_c
        centred = tl.load(x + offsets, mask=keep, other=0.0).to(ACC) - mean
        g = tl.load(dy + offsets, mask=keep, other=0.0).to(ACC)
        g = masked(g, centred, gain, shift, z, offsets, keep, MASK)
        if STORE:
            tl.store(dresidual + offsets, g.to(dresidual.dtype.element_ty), mask=keep)
        sum_g += g
        sum_gh += g * centred
    out = (n * tl.num_programs(0) + chunk).to(tl.int64) * C + cols
    tl.store(dbias_out + out, tl.sum(sum_g, axis=0), mask=inside)
    tl.store(dweight_out + out, tl.sum(sum_gh, axis=0) * rstd, mask=inside)


@triton.jit
def merge_gradients(
    dbias_in, dweight_in, weight, dbias_out, dweight_out, mean_g_out, mean_gh_out,
    N, S, C, D: tl.constexpr, groups, chunks,
    ACC: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Sum the chunks of one group (D channels): to dbias, dweight, and per sample the means of weight g (h)."""
    group, cols = tl.program_id(0), tl.arange(0, BLOCK_D)
    inside = cols < D
    channel = group * D + cols
    gamma = tl.load(weight + channel, mask=inside, other=0.0).to(ACC)
    dbias = tl.zeros((BLOCK_D,), dtype=ACC)
    dweight = tl.zeros((BLOCK_D,), dtype=ACC)
    for n in range(N):
        sum_g = tl.zeros((BLOCK_P, BLOCK_D), dtype=ACC)
        sum_gh = tl.zeros((BLOCK_P, BLOCK_D), dtype=ACC)
        for p in range(0, chunks, BLOCK_P):
            part = (p + tl.arange(0, BLOCK_P))[:, None]
            keep = (part < chunks) & inside[None, :]
            offsets = (n * chunks + part).to(tl.int64) * C + channel[None, :]
            sum_g += tl.load(dbias_in + offsets, mask=keep, other=0.0)
            sum_gh += tl.load(dweight_in + offsets, mask=keep, other=0.0)
        column_g, column_gh = tl.sum(sum_g, axis=0), tl.sum(sum_gh, axis=0)
        dbias += column_g
        dweight += column_gh
        tl.store(mean_g_out + n * groups + group, tl.sum(column_g * gamma, axis=0) / S / D)
        tl.store(mean_gh_out + n * groups + group, tl.sum(column_gh * gamma, axis=0) / S / D)
    tl.store(dbias_out + channel, dbias, mask=inside)
    tl.store(dweight_out + channel, dweight, mask=inside)


@triton.jit
def apply_gradient(
    dy, x, z, weight, bias, mean_in, rstd_in, mean_g_in, mean_gh_in, dx,
    S, C, D: tl.constexpr, groups, stride_n, stride_s, stride_c,
    MASK: tl.constexpr, ACC: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write one tile of dx, from the last pixel to the first."""
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    n = tl.num_programs(1) - 1 - tl.program_id(1)
    cols = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    pixel = tile * BLOCK_S + tl.arange(0, BLOCK_S)
    inside = cols < C
    keep = (pixel < S)[:, None] & inside[None, :]
    offsets = n.to(tl.int64) * stride_n + pixel[:, None] * stride_s + cols[None, :] * stride_c
    group = n * groups + cols // D
    rstd = tl.load(rstd_in + group, mask=inside, other=0.0)
    gamma = tl.load(weight + cols, mask=inside, other=0.0).to(ACC)
    shift = tl.load(bias + cols, mask=inside, other=0.0).to(ACC)[None, :]
    mean_g = (tl.load(mean_g_in + group, mask=inside, other=0.0) * rstd)[None, :]
    slope = (tl.load(mean_gh_in + group, mask=inside, other=0.0) * rstd * rstd)[None, :]
    gain = (rstd * gamma)[None, :]
    centred = tl.load(x + offsets, mask=keep, other=0.0).to(ACC)
    centred -= tl.load(mean_in + group, mask=inside, other=0.0)[None, :]
    g = tl.load(dy + offsets, mask=keep, other=0.0).to(ACC)
    g = masked(g, centred, gain, shift, z, offsets, keep, MASK)
    out = g * gain - mean_g - centred * slope
    tl.store(dx + offsets, out.to(dx.dtype.element_ty), mask=keep)


@triton.jit
def resident_gradient(
    dy, x, z, weight, bias, mean_in, rstd_in, dx, dresidual, dbias_out, dweight_out,
    S, C, D: tl.constexpr, stride_n, stride_s, stride_c,
    MASK: tl.constexpr, STORE: tl.constexpr, ACC: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Write dx (and g) of one group of one sample, and its sums of g and g h for `merge_gradients`."""
    n, group = tl.program_id(0), tl.program_id(1)
    pixel, cols = tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_D)
    inside = cols < D
    keep = (pixel < S)[:, None] & inside[None, :]
    channel = group * D + cols
    offsets = n.to(tl.int64) * stride_n + pixel[:, None] * stride_s + channel[None, :] * stride_c
    mean = tl.load(mean_in + n * tl.num_programs(1) + group)
    rstd = tl.load(rstd_in + n * tl.num_programs(1) + group)
    gain = (rstd * tl.load(weight + channel, mask=inside, other=0.0).to(ACC))[None, :]
    shift = tl.load(bias + channel, mask=inside, other=0.0).to(ACC)[None, :]
    centred = tl.where(keep, tl.load(x + offsets, mask=keep, other=0.0).to(ACC) - mean, 0.0)
    g = tl.load(dy + offsets, mask=keep, other=0.0).to(ACC)
    g = masked(g, centred, gain, shift, z, offsets, keep, MASK)
    if STORE:
        tl.store(dresidual + offsets, g.to(dresidual.dtype.element_ty), mask=keep)
    sum_g = tl.sum(g, axis=0)
    sum_gh = tl.sum(g * centred, axis=0) * rstd
    out = n.to(tl.int64) * C + channel
    tl.store(dbias_out + out, sum_g, mask=inside)
    tl.store(dweight_out + out, sum_gh, mask=inside)
    # gain / rstd is the weight; mean(weight g) / std is mean(gain g).
    mean_g = tl.sum(tl.sum(g * gain, axis=0), axis=0) / S / D
    slope = tl.sum(tl.sum(g * gain * centred, axis=0), axis=0) / S / D * rstd * rstd
    tl.store(dx + offsets, (g * gain - mean_g - centred * slope).to(dx.dtype.element_ty), mask=keep)
