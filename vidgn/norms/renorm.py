"""Batch renormalization: batch norm whose training output agrees with its evaluation."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BatchRenorm3d(nn.Module):
    """Batch norm whose training output is corrected towards the running statistics, within limits.

        y = weight * ((x - mean) / std * r + d) + bias
        r = std / running_std         clipped to [1/r_max, r_max], no gradient
        d = (mean - running_mean) / running_std      clipped to [-d_max, d_max], no gradient

    The limits open with the number of training batches: batch norm (r = 1, d = 0) for `warmup_steps`, then
    linearly to `r_max` at step `r_ramp_end` and to `d_max` at `d_ramp_end`. 0 for all three: open at once.
    Source: Ioffe, "Batch Renormalization" (arXiv 1702.03275), Algorithm 1 and, for the ramp, sec. 4; r_max
    1.5 and d_max 0.5 from "Group Normalization" sec. 4.1. As in the former it is std = sqrt(var + eps) that
    is averaged; it is kept as `running_var`, so that batch norm's state dict is read as it is.

    Args:
        num_features: channels C.
        eps: added to the variance.
        momentum: weight of the new batch in the running statistics.
        r_max: limit of the scale's correction.
        d_max: limit of the shift's correction.
        warmup_steps: batches of plain batch norm.
        r_ramp_end: batch from which on `r_max` holds.
        d_ramp_end: batch from which on `d_max` holds.

    Raises:
        ValueError: `r_max` is below 1 or `d_max` below 0.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        r_max: float = 1.5,
        d_max: float = 0.5,
        warmup_steps: int = 5_000,
        r_ramp_end: int = 40_000,
        d_ramp_end: int = 25_000,
    ) -> None:
        if r_max < 1:
            raise ValueError(f"r_max ({r_max}) must be at least 1; 1 and d_max=0 are plain batch norm.")
        if d_max < 0:
            raise ValueError(f"d_max ({d_max}) must be at least 0; 0 and r_max=1 are plain batch norm.")
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.r_max = r_max
        self.d_max = d_max
        self.warmup_steps = warmup_steps
        self.r_ramp_end = r_ramp_end
        self.d_ramp_end = d_ramp_end
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, input: Tensor) -> Tensor:
        """Normalize `input` (N, C, ...)."""
        if not self.training:
            return F.batch_norm(
                input,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                training=False,
                eps=self.eps,
            )
        r, d = self._correct(input.detach())
        # weight * (x^ * r + d) + bias in batch norm's own kernel: r and d go into its affine.
        weight, bias = self.weight * r, self.weight * d + self.bias
        return F.batch_norm(input, None, None, weight, bias, training=True, eps=self.eps)

    def extra_repr(self) -> str:
        """Show the channels and the limits."""
        return f"{self.num_features}, r_max={self.r_max}, d_max={self.d_max}, eps={self.eps}"

    @torch.no_grad()
    def _correct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give r and d (C,) for a batch and count the batch in."""
        stored = self.running_mean.dtype
        axes = [axis for axis in range(x.dim()) if axis != 1]
        var, mean = torch.var_mean(x.to(torch.promote_types(x.dtype, torch.float32)), axes, correction=0)
        std = (var + self.eps).sqrt().to(stored)
        mean = mean.to(stored)
        running_std = (self.running_var + self.eps).sqrt()
        r_limit = 1 + (self.r_max - 1) * self._opened(self.r_ramp_end)
        d_limit = self.d_max * self._opened(self.d_ramp_end)
        r = torch.clamp(std / running_std, 1 / r_limit, r_limit)
        d = torch.clamp((mean - self.running_mean) / running_std, -d_limit, d_limit)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.copy_(running_std.lerp(std, self.momentum).square() - self.eps)
        self.num_batches_tracked += 1
        return r, d

    def _opened(self, ramp_end: int) -> Tensor:
        """Give how far a limit is open at this batch, 0 to 1, without waiting for the device."""
        step = self.num_batches_tracked
        if ramp_end <= self.warmup_steps:
            return (step >= self.warmup_steps).to(self.running_mean.dtype)
        opened = (step - self.warmup_steps) / (ramp_end - self.warmup_steps)
        return opened.clamp(0, 1).to(self.running_mean.dtype)
