"""Moving average batch normalization (MABN): averages over steps in the place of the batch's, backward too.

    chi^2 = mean over the last `buffer` steps of E[x^2], each per channel over N, T, H, W
    r     = sqrt(chi^2 + eps) / sqrt(running_var + eps), a constant, within 1/r_max..r_max
    y = weight * r * x / sqrt(chi^2 + eps) + bias

    backward, with z = x / sqrt(chi^2 + eps), g = r * weight * dL/dy:
    dL/dx = (g - z * psi) / sqrt(chi^2 + eps),     psi = mean over the last `buffer` steps of E[g z]

There is no mean: the kernels before it are centred instead (`weight_standardization=centered`, which norm=mabn sets).
The batch's own values are used until the buffer is full and `warmup_steps` have passed. Evaluation divides by
sqrt(running_var + eps). Source: Yan et al., "Towards Stabilizing Batch Statistics in Backward Propagation of Batch
Normalization" (ICLR 2020, arXiv 2001.06838), Eq. 12-16, Algorithm 1; buffer 16, momentum 0.02, 100 steps: their
repository megvii-model/MABN.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vidgn.norms.relatives.channels import at_least_float32, batch_axes, per_channel, scale_and_shift


class MovingAverageBatchNorm3d(nn.Module):
    """Divide by moving averages of the mean square, with a moving average in the backward pass too.

    Args:
        num_features: channels C.
        eps: added to the mean squares.
        momentum: weight of the new step in `running_var`.
        buffer: steps that are averaged; 1: the batch itself.
        warmup_steps: training steps that use the batch itself.
        r_max: limit of the correction towards `running_var`, a factor.

    Raises:
        ValueError: `buffer` is below 1, or `r_max` is.
    """

    running_var: Tensor
    squares: Tensor
    products: Tensor
    steps: Tensor

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.02,
        buffer: int = 16,
        warmup_steps: int = 100,
        r_max: float = 2.0,
    ) -> None:
        for name, value in (("buffer", buffer), ("r_max", r_max)):
            if value < 1:
                raise ValueError(f"{name} ({value}) must be at least 1; use the default.")
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.buffer = buffer
        self.warmup_steps = warmup_steps
        self.r_max = r_max
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("squares", torch.zeros(buffer, num_features))  # E[x^2] of the last steps
        self.register_buffer("products", torch.zeros(buffer, num_features))  # E[g z] of the last steps
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, input: Tensor) -> Tensor:
        """Normalize `input` (N, C, ...)."""
        wide = at_least_float32(input)
        if not self.training:
            scale = (at_least_float32(self.running_var) + self.eps).rsqrt()
            return scale_and_shift((wide * per_channel(scale, wide)).to(input.dtype), self.weight, self.bias)
        slot, averaged = self._count()
        with torch.no_grad():
            square = wide.square().mean(batch_axes(wide))
            self.squares[slot] = square.to(self.squares.dtype)
            chi = self.squares.mean(0).to(wide.dtype) if averaged else square
            self.running_var.lerp_(chi.to(self.running_var.dtype), self.momentum if averaged else 1 / (1 + self._step))
            ratio = ((chi + self.eps) / (self.running_var.to(wide.dtype) + self.eps)).sqrt()
            ratio = ratio.clamp(1 / self.r_max, self.r_max)
        z: Tensor = _Divide.apply(wide, chi, self.eps, ratio, self.products, slot, averaged)
        return scale_and_shift(z.to(input.dtype), self.weight, self.bias)

    def _count(self) -> tuple[int, bool]:
        """Return where this step is written, and whether averages are used."""
        self._step = int(self.steps)
        self.steps += 1
        averaged = self._step >= max(self.buffer - 1, self.warmup_steps)
        return self._step % self.buffer, averaged

    def extra_repr(self) -> str:
        """Show the channels and the options."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, buffer={self.buffer},"
            f" warmup_steps={self.warmup_steps}, r_max={self.r_max}"
        )


class _Divide(torch.autograd.Function):
    """r x / sqrt(chi^2 + eps), whose gradient uses an average of E[g z] over steps."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, chi: Tensor, eps: float, ratio: Tensor, products: Tensor, slot: int, averaged: bool
    ) -> Tensor:
        """Divide, and keep what the backward pass needs."""
        scale = (chi + eps).rsqrt()
        z = x * per_channel(scale, x)
        ctx.save_for_backward(z, scale, ratio)
        ctx.products, ctx.slot, ctx.averaged = products, slot, averaged
        return z * per_channel(ratio, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None, None, None]:
        """Give the gradient by x; that by the statistics is in it."""
        z, scale, ratio = ctx.saved_tensors
        g = grad * per_channel(ratio, grad)
        product = (g * z).mean(batch_axes(z))
        ctx.products[ctx.slot] = product.to(ctx.products.dtype)
        psi = ctx.products.mean(0).to(z.dtype) if ctx.averaged else product
        return (g - z * per_channel(psi, z)) * per_channel(scale, z), None, None, None, None, None, None
