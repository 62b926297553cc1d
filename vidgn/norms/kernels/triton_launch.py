"""Launch the Triton kernels of group norm on tensors (N, C, ...)."""

# mypy: allow-untyped-calls

from typing import NamedTuple

import torch
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from vidgn.norms.kernels import triton_backward, triton_forward
from vidgn.norms.kernels.layout import densify, is_channels_last, match_layout, statistics_dtype
from vidgn.norms.kernels.triton_cuts import Cut, Site, choose_cut, padded


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, groups: int, eps: float, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute y in the dtype and layout of x, and mean and 1/std (N, G) in float32 (float64 for float64)."""
    x = densify(x)
    job = _plan(x, groups, backward=False)
    y = torch.empty_like(x)
    mean, rstd = (x.new_empty((job.site.N, groups), dtype=statistics_dtype(x)) for _ in range(2))
    if not x.numel():
        return y, mean, rstd
    weight, bias = weight.contiguous(), bias.contiguous()
    flags = {"HAS_RESIDUAL": residual is not None, "RELU": relu, "ACC": job.acc, "num_warps": job.cut.warps}
    added = x if residual is None else match_layout(residual, x)
    with torch.cuda.device_of(x):
        if job.cut.resident:
            triton_forward.resident[(job.site.N, groups)](
                x, added, weight, bias, y, mean, rstd, job.site.S, job.depth, eps, *job.strides,
                **flags, BLOCK_S=padded(job.site.S), BLOCK_D=padded(job.depth),
            )  # fmt: skip
            return y, mean, rstd
        _moments(x, mean, rstd, eps, job=job)
        triton_forward.apply[job.tiles](
            x, added, weight, bias, mean, rstd, y, job.site.S, job.site.C, job.depth, groups, *job.strides,
            **flags, BLOCK_S=job.block_s, BLOCK_C=job.block_c,
        )  # fmt: skip
    return y, mean, rstd


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
    """Compute dx, dweight and dbias (C,), and dy where the ReLU let y through (empty unless `store_masked`).

    `z` is the output after a residual and a ReLU; without it, what the ReLU let through is computed from x.
    """
    x = densify(x)
    job = _plan(x, groups, backward=True)
    dx = torch.empty_like(x)
    masked = torch.empty_like(x) if store_masked else x.new_empty(0)
    dweight, dbias = (mean.new_zeros(job.site.C) for _ in range(2))
    if not x.numel():
        return dx, dweight, dbias, masked
    dy, weight, bias = match_layout(dy, x), weight.contiguous(), bias.contiguous()
    mask = triton_backward.MASK_NONE.value
    if relu:
        mask = (triton_backward.MASK_FROM_X if z is None else triton_backward.MASK_FROM_Z).value
    output = x if z is None else match_layout(z, x)
    flags = {"MASK": mask, "ACC": job.acc, "num_warps": job.cut.warps}
    sums = mean.new_empty((2, job.site.N, job.chunks, job.site.C))
    means = mean.new_empty((2, job.site.N, groups))
    with torch.cuda.device_of(x):
        if job.cut.resident:
            triton_backward.resident_gradient[(job.site.N, groups)](
                dy, x, output, weight, bias, mean, rstd, dx, masked, *sums,
                job.site.S, job.site.C, job.depth, *job.strides,
                **flags, STORE=store_masked, BLOCK_S=padded(job.site.S), BLOCK_D=padded(job.depth),
            )  # fmt: skip
            _merge_gradients(sums, weight, dbias, dweight, means, job=job)
            return dx, dweight, dbias, masked
        triton_backward.gradient_sums[(job.chunks, job.site.N, job.tiles[2])](
            dy, x, output, weight, bias, mean, rstd, masked, *sums,
            job.site.S, job.site.C, job.depth, groups, job.chunk_len, *job.strides,
            **flags, STORE=store_masked, BLOCK_S=job.block_s, BLOCK_C=job.block_c,
        )  # fmt: skip
        _merge_gradients(sums, weight, dbias, dweight, means, job=job)
        if store_masked:  # already masked: the second pass reads neither z nor what decides
            dy, flags["MASK"] = masked, triton_backward.MASK_NONE.value
        triton_backward.apply_gradient[job.tiles](
            dy, x, output, weight, bias, mean, rstd, *means, dx,
            job.site.S, job.site.C, job.depth, groups, *job.strides,
            **flags, BLOCK_S=job.block_s, BLOCK_C=job.block_c,
        )  # fmt: skip
    return dx, dweight, dbias, masked


class _Job(NamedTuple):
    """One site, cut: tiles of block_s pixels and block_c channels, chunks of chunk_len pixels."""

    site: Site
    cut: Cut
    strides: tuple[int, int, int]  # of N, S and C, in elements
    acc: tl.dtype
    depth: int  # channels of a group
    block_s: int
    block_c: int
    chunks: int
    chunk_len: int

    @property
    def tiles(self) -> tuple[int, int, int]:
        return (-(-self.site.S // self.block_s), self.site.N, -(-self.site.C // self.block_c))


def _plan(x: Tensor, groups: int, *, backward: bool) -> _Job:
    samples, channels = x.shape[:2]
    pixels = x.shape[2:].numel()
    last = is_channels_last(x)
    site = Site(samples, pixels, channels, groups, x.element_size(), last)
    cut = choose_cut(site, direction="backward" if backward else "forward")
    if last:  # a row of channels, up to 512 bytes of bfloat16, and as many pixels as fill the tile
        block_c = min(padded(channels), 256)
        block_s = max(1, cut.tile // block_c)
    else:
        block_s = min(padded(pixels), 512)
        block_c = max(1, min(padded(channels), cut.tile // block_s))
    columns = -(-channels // block_c)
    wanted = max(1, _multiprocessors(x) * cut.programs // max(1, samples * columns))
    tiles = -(-pixels // block_s)
    chunk_len = -(-tiles // min(tiles, wanted)) * block_s if pixels else 1
    chunks = 1 if cut.resident else -(-pixels // chunk_len)
    inner = (channels, 1) if last else (1, pixels)
    acc = tl.float64 if x.dtype == torch.float64 else tl.float32
    strides = (pixels * channels, *inner)
    return _Job(site, cut, strides, acc, channels // groups, block_s, block_c, chunks, chunk_len)


def _multiprocessors(x: Tensor) -> int:
    if x.device.type == "cuda":
        return torch.cuda.get_device_properties(x.device).multi_processor_count
    return 1  # the interpreter runs one program after the other


def _moments(x: Tensor, mean: Tensor, rstd: Tensor, eps: float, *, job: _Job) -> None:
    parts = mean.new_empty((2, job.site.N, job.chunks, job.site.C))
    triton_forward.moments[(job.chunks, job.site.N, job.tiles[2])](
        x, *parts, job.site.S, job.site.C, job.chunk_len, *job.strides,
        ACC=job.acc, BLOCK_S=job.block_s, BLOCK_C=job.block_c, num_warps=job.cut.warps,
    )  # fmt: skip
    triton_forward.merge_moments[(job.site.N, job.site.G)](
        *parts, mean, rstd, job.site.S, job.site.C, job.depth, job.chunks, job.chunk_len, eps,
        ACC=job.acc, **_merge_blocks(job),
    )  # fmt: skip


def _merge_gradients(sums: Tensor, weight: Tensor, dbias: Tensor, dweight: Tensor, means: Tensor, *, job: _Job) -> None:
    triton_backward.merge_gradients[(job.site.G,)](
        *sums, weight, dbias, dweight, *means,
        job.site.N, job.site.S, job.site.C, job.depth, job.site.G, job.chunks,
        ACC=job.acc, **_merge_blocks(job),
    )  # fmt: skip


def _merge_blocks(job: _Job) -> dict[str, int]:
    columns = padded(job.depth)
    return {"BLOCK_P": max(1, min(padded(job.chunks), 2048 // columns)), "BLOCK_D": columns}
