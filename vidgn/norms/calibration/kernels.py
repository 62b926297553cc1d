"""Fit the kernel of a convolution to what the teacher's gives, from sums, with the student's input: ridge regression.

With u (K) the values under the kernel at one position (K input channels x taps), W0 (O, K) the copied kernel and
z (O) what the teacher's convolution gives, the sums over all positions of all clips

    A = sum u u^T  (K, K)        B = sum u z^T  (K, O)        s = sum |z|^2

decide the error of any kernel W, |z - W u|^2 = tr(W A W^T) - 2 tr(W B) + s: memory does not grow with the clips.
Three kernels are compared: W0; W0 with one factor per input channel; and the ridge regression towards the latter.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_INPUTS = 8192  # K; two matrices (K, K) in float64 are kept: 1 GB there
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)  # times the mean of A's diagonal
EXACT = 1e-6  # error of the copied kernel below which it is the teacher's own
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Fit = Callable[["KernelSums"], Tensor]


class KernelSums(NamedTuple):
    """Sums over positions, float64: A (K, K), B (K, O), and s."""

    inputs: Tensor
    outputs: Tensor
    energy: float

    def __add__(self, other: "KernelSums") -> "KernelSums":  # type: ignore[override]
        """Add up the positions of both."""
        return KernelSums(self.inputs + other.inputs, self.outputs + other.outputs, self.energy + other.energy)

    def error(self, kernel: Tensor) -> float:
        """Return the squared error of a kernel (O, K) as a share of s."""
        quadratic = ((kernel @ self.inputs) * kernel).sum() - 2 * (kernel.T * self.outputs).sum()
        return (float(quadratic) + self.energy) / max(self.energy, 1e-300)


def can_be_fitted(kernel: nn.Module | None) -> TypeGuard[Convolution]:
    """Tell whether `fit_kernel` knows it: a convolution with zero padding, no groups, no dilation, not too big."""
    return (
        isinstance(kernel, CONVOLUTIONS)
        and kernel.groups == 1
        and kernel.padding_mode == "zeros"
        and not isinstance(kernel.padding, str)
        and all(step == 1 for step in kernel.dilation)
        and kernel.weight[0].numel() <= MAX_INPUTS
    )


def fit_kernel(kernel: Convolution, pairs: Iterable[tuple[Tensor, Tensor]], *, whole: bool) -> Tensor | None:
    """Return the kernel (of its own shape) that imitates the teacher best; None where the copied one does.

    The choice is made on one half of the clips with what was fitted on the other; what is chosen is fitted on all.

    Args:
        kernel: of the student.
        pairs: by batch, the student's input and the teacher's output of this convolution.
        whole: consider ridge regression of the whole kernel, too, not only a factor per input channel.
    """
    halves = _sum_halves(kernel, pairs)
    if halves is None:
        return None
    copied = kernel.weight.detach().double().to(halves[0].inputs.device).flatten(2)  # (O, C, taps)
    choices: list[Fit] = [lambda sums: copied.flatten(1), lambda sums: fit_input_scales(copied, sums)]
    if whole:
        choices += [lambda sums, share=share: fit_ridge(copied, sums, share=share) for share in RIDGES]  # type: ignore[misc]
    errors = [halves[1].error(fit(halves[0])) + halves[0].error(fit(halves[1])) for fit in choices]
    best = min(range(len(choices)), key=errors.__getitem__)
    if best == 0 or errors[0] < EXACT:
        return None
    fitted: Tensor = choices[best](halves[0] + halves[1])
    return fitted.view_as(kernel.weight)


def fit_input_scales(kernel: Tensor, sums: KernelSums, *, share: float = 1e-3) -> Tensor:
    """Fit one factor per input channel of the kernel (O, C, taps), near 1 where the clips tell little; (O, K)."""
    channels, taps = kernel.shape[1:]
    flat = kernel.flatten(1)
    products = (sums.inputs * (flat.T @ flat)).view(channels, taps, channels, taps).sum((1, 3))
    targets = (sums.outputs * flat.T).view(channels, taps, -1).sum((1, 2))
    ridge = share * products.diagonal().mean().clamp(min=1e-300)
    factors: Tensor = torch.linalg.solve(_ridged(products, ridge), targets + ridge)
    return (kernel * factors.view(1, -1, 1)).flatten(1)


def fit_ridge(kernel: Tensor, sums: KernelSums, *, share: float) -> Tensor:
    """Regress the whole kernel (O, C, taps) towards the one of `fit_input_scales`; (O, K)."""
    near = fit_input_scales(kernel, sums)
    ridge = share * sums.inputs.diagonal().mean().clamp(min=1e-300)
    fitted: Tensor = torch.linalg.solve(_ridged(sums.inputs, ridge), sums.outputs + ridge * near.T)
    return fitted.T


def position_sums(kernel: Convolution, x: Tensor, z: Tensor) -> KernelSums:
    """Sum over the positions of one clip: x (C, ...) goes into the convolution, z (O, ...) is wanted, without bias."""
    pads = cast("tuple[int, ...]", kernel.padding)  # `can_be_fitted` refuses text
    padding = [pad for pad in reversed(pads) for _ in range(2)]
    values = F.pad(x, padding)
    for axis, (size, step) in enumerate(zip(kernel.kernel_size, kernel.stride, strict=True), start=1):
        values = values.unfold(axis, size, step)
    dims = len(kernel.kernel_size)
    order = (0, *range(dims + 1, 2 * dims + 1), *range(1, dims + 1))
    u, wanted = values.permute(order).reshape(kernel.weight[0].numel(), -1), z.flatten(1)  # (K, P), (O, P)
    return KernelSums((u @ u.T).double(), (u @ wanted.T).double(), float(wanted.double().square().sum()))


def _sum_halves(kernel: Convolution, pairs: Iterable[tuple[Tensor, Tensor]]) -> tuple[KernelSums, KernelSums] | None:
    """Sum the even and the odd clips apart; None where one of them is missing, or a sum is not finite."""
    halves: list[KernelSums | None] = [None, None]
    clip = 0
    for x, z in pairs:
        wanted = z if kernel.bias is None else z - kernel.bias.view(-1, *[1] * (z.dim() - 2))
        for one, other in zip(x, wanted, strict=True):
            sums, before = position_sums(kernel, one, other), halves[clip % 2]
            halves[clip % 2] = sums if before is None else before + sums
            clip += 1
    even, odd = halves
    if even is None or odd is None or not all(bool(half.inputs.isfinite().all()) for half in (even, odd)):
        return None
    return even, odd


def _ridged(matrix: Tensor, ridge: Tensor) -> Tensor:
    return matrix + ridge * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
