"""Group norm (+ residual) (+ ReLU) in Triton, on x seen as (N, S, C) with S = T*H*W.

Strides tell the layouts apart: channels-last has C innermost, contiguous has S innermost; the programs are the
same. A tile is BLOCK_S pixels of BLOCK_C channels. Two regimes (what reads and writes what, in tensors):

    split      moments: r x    merge    apply: r x (residual), w y
    resident   one program per sample and group holds its pixels in registers: r x (residual), w y

Arithmetic is float32 (float64 for float64). Nothing is summed by atomics: every partial sum has its own place in
a workspace and is merged in a fixed order, so two runs give the same bits. The moments are Welford's (Technometrics
4, 1962), merged as Chan, Golub and LeVeque do (1979); no squares of raw values are taken, so a mean far larger
than the deviation costs no digits. A NaN passes through the ReLU, as it does in torch.
"""

# mypy: disable-error-code="no-untyped-def, import-untyped, untyped-decorator"

import triton
import triton.language as tl


@triton.jit
def moments(
    x, mean_out, m2_out, S, C, chunk_len, stride_n, stride_s, stride_c,
    ACC: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write mean and sum of squared deviations of every channel of one chunk of pixels."""
    chunk, n = tl.program_id(0), tl.program_id(1)
    cols = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    rows = tl.arange(0, BLOCK_S)
    begin = chunk * chunk_len
    end = tl.minimum(begin + chunk_len, S)
    base = x + n.to(tl.int64) * stride_n
    mean = tl.zeros((BLOCK_S, BLOCK_C), dtype=ACC)
    m2 = tl.zeros((BLOCK_S, BLOCK_C), dtype=ACC)
    # Every place of the tile keeps its own moments, so nothing is exchanged inside the loop.
    for start in range(begin, end, BLOCK_S):
        pixel = start + rows
        keep = (pixel < end)[:, None] & (cols < C)[None, :]
        value = tl.load(base + pixel[:, None] * stride_s + cols[None, :] * stride_c, mask=keep, other=0.0).to(ACC)
        step = (start - begin) // BLOCK_S + 1
        delta = value - mean
        moved = mean + delta * (tl.full((), 1.0, ACC) / step)
        m2 = tl.where(keep, m2 + delta * (value - moved), m2)
        mean = tl.where(keep, moved, mean)
    count = ((end - begin - rows + BLOCK_S - 1) // BLOCK_S).to(ACC)[:, None]  # pixels that each row has seen
    total = tl.sum(count * mean, axis=0) / (end - begin)
    spread = mean - total[None, :]
    squares = tl.sum(m2 + count * spread * spread, axis=0)
    offsets = (n * tl.num_programs(0) + chunk).to(tl.int64) * C + cols
    tl.store(mean_out + offsets, total, mask=cols < C)
    tl.store(m2_out + offsets, squares, mask=cols < C)


@triton.jit
def merge_moments(
    mean_in, m2_in, mean_out, rstd_out, S, C, D: tl.constexpr, chunks, chunk_len, eps,
    ACC: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Write mean and 1/std of one group (D channels) of one sample, from the moments of its chunks."""
    n, g = tl.program_id(0), tl.program_id(1)
    cols = tl.arange(0, BLOCK_D)
    base = n.to(tl.int64) * chunks * C + g * D + cols[None, :]
    total = tl.zeros((BLOCK_P, BLOCK_D), dtype=ACC)
    for p in range(0, chunks, BLOCK_P):
        part = (p + tl.arange(0, BLOCK_P))[:, None]
        keep = (part < chunks) & (cols < D)[None, :]
        share = tl.minimum(S - part * chunk_len, chunk_len).to(ACC) / S
        total += tl.load(mean_in + base + part * C, mask=keep, other=0.0) * share
    mean = tl.sum(tl.sum(total, axis=1), axis=0) / D
    squares = tl.zeros((BLOCK_P, BLOCK_D), dtype=ACC)
    for p in range(0, chunks, BLOCK_P):
        part = (p + tl.arange(0, BLOCK_P))[:, None]
        keep = (part < chunks) & (cols < D)[None, :]
        share = tl.minimum(S - part * chunk_len, chunk_len).to(ACC) / S
        spread = tl.load(mean_in + base + part * C, mask=keep, other=0.0) - mean
        squares += tl.load(m2_in + base + part * C, mask=keep, other=0.0) / S
        squares += tl.where(keep, share * spread * spread, 0.0)
    var = tl.sum(tl.sum(squares, axis=1), axis=0) / D
    offset = n * tl.num_programs(1) + g
    tl.store(mean_out + offset, mean)
    tl.store(rstd_out + offset, 1.0 / tl.sqrt(var + eps))


@triton.jit
def apply(
    x, residual, weight, bias, mean_in, rstd_in, y, S, C, D: tl.constexpr, groups, stride_n, stride_s, stride_c,
    HAS_RESIDUAL: tl.constexpr, RELU: tl.constexpr, ACC: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write one tile of y. Tiles go from the last pixel to the first: the last read ones are still in the cache."""
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    n = tl.num_programs(1) - 1 - tl.program_id(1)
    cols = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    pixel = tile * BLOCK_S + tl.arange(0, BLOCK_S)
    inside = cols < C
    keep = (pixel < S)[:, None] & inside[None, :]
    offsets = n.to(tl.int64) * stride_n + pixel[:, None] * stride_s + cols[None, :] * stride_c
    group = n * groups + cols // D
    mean = tl.load(mean_in + group, mask=inside, other=0.0)
    rstd = tl.load(rstd_in + group, mask=inside, other=0.0)
    gain = rstd * tl.load(weight + cols, mask=inside, other=0.0).to(ACC)
    shift = tl.load(bias + cols, mask=inside, other=0.0).to(ACC)
    value = tl.load(x + offsets, mask=keep, other=0.0).to(ACC)
    out = (value - mean[None, :]) * gain[None, :] + shift[None, :]
    if HAS_RESIDUAL:
        out += tl.load(residual + offsets, mask=keep, other=0.0).to(ACC)
    if RELU:
        out = tl.where(out <= 0.0, 0.0, out)
    tl.store(y + offsets, out.to(y.dtype.element_ty), mask=keep)


@triton.jit
def resident(
    x, residual, weight, bias, y, mean_out, rstd_out, S, D: tl.constexpr, eps, stride_n, stride_s, stride_c,
    HAS_RESIDUAL: tl.constexpr, RELU: tl.constexpr, ACC: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Write y, mean and 1/std of one group of one sample, all of it held by this program."""
    n, g = tl.program_id(0), tl.program_id(1)
    pixel, cols = tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_D)
    inside = cols < D
    keep = (pixel < S)[:, None] & inside[None, :]
    channel = g * D + cols
    offsets = n.to(tl.int64) * stride_n + pixel[:, None] * stride_s + channel[None, :] * stride_c
    value = tl.load(x + offsets, mask=keep, other=0.0).to(ACC)
    mean = tl.sum(tl.sum(value, axis=0), axis=0) / S / D
    centred = tl.where(keep, value - mean, 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(tl.sum(centred * centred, axis=0), axis=0) / S / D + eps)
    gain = rstd * tl.load(weight + channel, mask=inside, other=0.0).to(ACC)
    shift = tl.load(bias + channel, mask=inside, other=0.0).to(ACC)
    out = centred * gain[None, :] + shift[None, :]
    if HAS_RESIDUAL:
        out += tl.load(residual + offsets, mask=keep, other=0.0).to(ACC)
    if RELU:
        out = tl.where(out <= 0.0, 0.0, out)
    tl.store(y + offsets, out.to(y.dtype.element_ty), mask=keep)
    tl.store(mean_out + n * tl.num_programs(1) + g, mean)
    tl.store(rstd_out + n * tl.num_programs(1) + g, rstd)
