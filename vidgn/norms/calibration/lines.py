"""Fit the scale and shift of a group norm to what a batch norm gives: least squares from sums, in float64.

Everything a fit needs of a layer is five averages per clip and channel, whatever the number of groups: with x the
input of the group norm and t the output of the batch norm, over the positions (T, H, W) of one clip,

    mean x    mean x^2    mean x t    mean t    mean t^2         each (N, C)

since the statistics of a group are averages of its channels' mean x and mean x^2.
"""

from typing import NamedTuple

import torch
from torch import Tensor

TINY = 1e-12  # share of a variance below which a channel counts as constant


class FitMoments(NamedTuple):
    """Averages over the positions of each clip and channel, float64 (N, C)."""

    x: Tensor
    xx: Tensor
    xt: Tensor
    t: Tensor
    tt: Tensor


class Line(NamedTuple):
    """The fit t = weight * x + bias per channel (C,), and the share of the variance of t that it explains."""

    weight: Tensor
    bias: Tensor
    r2: float


def clip_moments(x: Tensor, t: Tensor) -> FitMoments:
    """Average one batch, x and t of one shape (N, C, ...), clip by clip, so that little memory is needed."""
    rows = []
    for one, other in zip(x, t, strict=True):
        a, b = (_exact(values).flatten(1) if values.dim() > 1 else _exact(values)[:, None] for values in (one, other))
        rows.append(torch.stack([a.mean(1), a.square().mean(1), (a * b).mean(1), b.mean(1), b.square().mean(1)]))
    return FitMoments(*torch.stack(rows, 1))  # (5, N, C)


def normalize_moments(moments: FitMoments, *, num_groups: int, eps: float, scale: Tensor | None = None) -> FitMoments:
    """Turn the moments of x into those of the group norm of scale * x, before its weight and bias."""
    x, xx, xt, t, tt = moments
    if scale is not None:
        x, xx, xt = x * scale, xx * scale.square(), xt * scale
    mean = _group_mean(x, num_groups)
    rate = (_group_mean(xx, num_groups) - mean.square()).clamp(min=0).add(eps).rsqrt()
    return FitMoments(
        (x - mean) * rate, (xx - 2 * x * mean + mean.square()) * rate.square(), (xt - mean * t) * rate, t, tt
    )


class Sums:
    """Adds moments up over clips: memory does not grow with their number."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None  # (5, C)
        self._count = 0

    def add(self, moments: FitMoments) -> None:
        """Count the clips of a batch."""
        sums = torch.stack(list(moments)).sum(1)
        self._sums = sums if self._sums is None else self._sums + sums
        self._count += len(moments.x)

    def fit(self) -> Line:
        """Fit one line per channel by least squares.

        Raises:
            ValueError: there are no clips, or a value is infinite or not a number.
        """
        if self._sums is None or self._count == 0:
            raise ValueError("calibrate gave no batch; give at least one clip.")
        if not bool(self._sums.isfinite().all()):
            raise ValueError("a value of the net is infinite or not a number on the calibration clips; check both.")
        return _solve(FitMoments(*(self._sums / self._count)))


def fit_scale(moments: FitMoments, *, num_groups: int, eps: float, start: Tensor, steps: int = 60) -> Tensor:
    """Find the scale (C,) of the channels under which the group norm explains most of t, by L-BFGS on its logarithm.

    A scale decides which channels dominate the statistics of their group. The geometric mean of each group's scales is
    that of `start`.
    """
    moments = FitMoments(*(values.detach() for values in moments))
    first = start.log()
    change = torch.zeros_like(first, requires_grad=True)
    optimizer = torch.optim.LBFGS([change], max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        scale = (first + _centred(change, num_groups)).exp()
        value = _unexplained(normalize_moments(moments, num_groups=num_groups, eps=eps, scale=scale))
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    fitted = (first + _centred(change.detach(), num_groups)).exp()
    return fitted if bool(fitted.isfinite().all()) else start


def _unexplained(moments: FitMoments) -> Tensor:
    """Return the share of the variance of t that the best lines leave, over all channels."""
    x, xx, xt, t, tt = (values.mean(0) for values in moments)
    var_x, var_t, cov = xx - x.square(), tt - t.square(), xt - x * t
    left = var_t - cov.square() / var_x.clamp(min=TINY)
    return left.sum() / var_t.sum().clamp(min=TINY)


def _solve(means: FitMoments) -> Line:
    x, xx, xt, t, tt = means
    var_x, var_t, cov = (xx - x.square()).clamp(min=0), (tt - t.square()).clamp(min=0), xt - x * t
    varies = var_x > TINY * xx.clamp(min=TINY)
    weight = torch.where(varies, cov / var_x.where(varies, torch.ones_like(var_x)), torch.zeros_like(cov))
    left, total = (var_t - weight * cov).clamp(min=0).sum(), var_t.sum()
    r2 = 1.0 if float(total) <= TINY * float(tt.sum()) else 1 - float(left / total)
    return Line(weight, t - weight * x, r2)


def _group_mean(x: Tensor, num_groups: int) -> Tensor:
    clips, channels = x.shape
    mean = x.view(clips, num_groups, -1).mean(2, keepdim=True)
    return mean.expand(-1, -1, channels // num_groups).reshape(clips, channels)


def _centred(logs: Tensor, num_groups: int) -> Tensor:
    groups = logs.view(num_groups, -1)
    return (groups - groups.mean(1, keepdim=True)).flatten()


def _exact(x: Tensor) -> Tensor:
    return x.detach().to("cpu" if x.device.type == "mps" else x.device, torch.float64)  # Apple's GPUs have no float64
