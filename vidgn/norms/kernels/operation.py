"""Group norm (+ residual) (+ ReLU) as one operation.

    y = relu(weight * (x - mean) / sqrt(var + eps) + bias + residual)

torch runs this as three operations, and under autocast in float32 (docs/kernels.md counts the bytes). Here it is
one: bfloat16 or float16 in and out, float32 inside, float32 weight and bias, in the layout of x. Where x is decides
what computes it:

    CUDA                                   Triton kernels (`triton_launch`)
    CPU                                    torch's operations, arranged (`cpu`)
    CPU inside torch.compile or export     torch's operations, for the compiler to fuse (`torch_reference`)
    elsewhere, or no Triton                torch's operations

`VIDGN_KERNELS`, read once at import, is `auto` for that, `off` for torch's operations everywhere, and `on` to fail
where the Triton kernels cannot run (on the CPU they can if TRITON_INTERPRET=1).
"""

# mypy: allow-untyped-calls

import os
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from vidgn.norms.kernels import cpu, torch_reference
from vidgn.norms.kernels.layout import densify, statistics_dtype

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
MAX_ELEMENTS = 2**31 - 1  # of one sample: the kernels count pixels and channels in 32 bits


def group_norm_act(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    groups: int,
    eps: float = 1e-5,
    residual: Tensor | None = None,
    relu: bool = True,
    *,
    triton: bool = True,
) -> Tensor:
    """Normalize groups of channels, add the residual, apply ReLU.

    The backward pass keeps x and the statistics (N, G), and after both a residual and a ReLU the output too. It
    can be differentiated once.

    Args:
        x: (N, C, ...), up to three more axes; channels-last and contiguous ones are read without a copy.
        weight: (C,), or None for 1.
        bias: (C,), or None for 0.
        groups: G; must divide C.
        eps: added to the variance.
        residual: of the shape and dtype of x, added before the ReLU.
        relu: whether to apply it.
        triton: whether CUDA may run the Triton kernels; if not, torch's operations compute.

    Returns:
        A tensor with the shape, dtype and layout of x.

    Raises:
        ValueError: shapes or dtypes that do not fit; or `VIDGN_KERNELS=on` where the kernels cannot run.

    >>> group_norm_act(torch.tensor([[[1.0, 3.0]]]), None, None, groups=1, eps=0.0)
    tensor([[[0., 1.]]])
    """
    _check(x, weight, bias, groups, residual)
    exact = statistics_dtype(x)
    weight = torch.ones(x.shape[1], dtype=exact, device=x.device) if weight is None else weight
    bias = torch.zeros(x.shape[1], dtype=exact, device=x.device) if bias is None else bias
    if uses_operation(x) and (triton or not x.is_cuda):
        y: Tensor = torch.ops.vidgn.group_norm_act(x, weight, bias, residual, groups, eps, relu)[0]
        return y
    return torch_reference.reference_group_norm_act(x, weight, bias, groups, eps, residual, relu)


def uses_triton(x: Tensor) -> bool:
    """Tell whether the Triton kernels compute on x.

    Raises:
        ValueError: they cannot, and `VIDGN_KERNELS=on`.
    """
    runs_here = x.device.type == "cuda" or (x.device.type == "cpu" and MODE == "on" and INTERPRETED)
    can = HAS_TRITON and runs_here and x.dtype in DTYPES and x.numel() <= MAX_ELEMENTS * x.shape[0]
    if MODE == "on" and not can:
        raise ValueError(
            f"VIDGN_KERNELS=on, but the Triton kernels cannot run on {x.dtype} of shape {tuple(x.shape)} on"
            f" {x.device.type}; they need CUDA (or TRITON_INTERPRET=1) and triton. Use VIDGN_KERNELS=auto."
        )
    return can and MODE != "off"


def uses_operation(x: Tensor) -> bool:
    """Tell whether x goes through the one operation, and not through torch's."""
    if uses_triton(x):
        return True
    compiling = torch.compiler.is_compiling()
    return MODE != "off" and x.device.type == "cpu" and x.dtype in DTYPES and not compiling


def _check(x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, residual: Tensor | None) -> None:
    if x.dim() < 2:
        raise ValueError(f"x has shape {tuple(x.shape)}; give (N, C) or (N, C, ...).")
    channels = x.shape[1]
    if groups < 1 or channels % groups:
        raise ValueError(f"groups ({groups}) must divide the {channels} channels of x; use one of its divisors.")
    for name, vector in (("weight", weight), ("bias", bias)):
        if vector is not None and (vector.shape != (channels,) or vector.device != x.device):
            raise ValueError(
                f"{name} has shape {tuple(vector.shape)} on {vector.device}; give ({channels},) on {x.device}, or None."
            )
    if residual is not None and (residual.shape != x.shape or residual.dtype != x.dtype):
        raise ValueError(
            f"residual is {residual.dtype} of shape {tuple(residual.shape)}; give {x.dtype} of {tuple(x.shape)}."
        )


def _read_mode() -> str:
    mode = os.environ.get("VIDGN_KERNELS", "auto")
    if mode not in ("auto", "on", "off"):
        raise ValueError(f"VIDGN_KERNELS={mode} is unknown; use auto, on or off.")
    return mode


MODE = _read_mode()
HAS_TRITON = find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def _forward(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, groups: int, eps: float, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    outputs: tuple[Tensor, Tensor, Tensor] = _implementation(x).forward(x, weight, bias, residual, groups, eps, relu)
    return outputs


def _backward(
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
    backward = _implementation(x).backward
    gradients: tuple[Tensor, Tensor, Tensor, Tensor] = backward(
        dy, x, z, weight, bias, mean, rstd, groups, relu, store_masked
    )
    return gradients


def _implementation(x: Tensor) -> Any:
    if not uses_triton(x):
        return cpu
    from vidgn.norms.kernels import triton_launch  # imports Triton, which takes a second

    return triton_launch


def _fake_forward(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, groups: int, eps: float, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    mean, rstd = (x.new_empty((x.shape[0], groups), dtype=statistics_dtype(x)) for _ in range(2))
    return torch.empty_like(densify(x)), mean, rstd


def _fake_backward(
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
    dense = densify(x)
    dweight, dbias = (mean.new_empty(x.shape[1]) for _ in range(2))
    masked = torch.empty_like(dense) if store_masked else x.new_empty(0)
    return torch.empty_like(dense), dweight, dbias, masked


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, bias, residual, ctx.groups, _, ctx.relu = inputs
    y, mean, rstd = output
    ctx.mark_non_differentiable(mean, rstd)
    z = y if ctx.relu and residual is not None else None
    ctx.save_for_backward(x, z, weight, bias, mean, rstd)


def _differentiate(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    x, z, weight, bias, mean, rstd = ctx.saved_tensors
    store = ctx.relu and ctx.needs_input_grad[3]
    dx, dweight, dbias, masked = torch.ops.vidgn.group_norm_act_backward(
        dy, x, z, weight, bias, mean, rstd, ctx.groups, ctx.relu, store
    )
    dresidual = (masked if store else dy) if ctx.needs_input_grad[3] else None
    return dx, dweight.to(weight.dtype), dbias.to(bias.dtype), dresidual, None, None, None


_LIBRARY = torch.library.Library("vidgn", "DEF")
_LIBRARY.define(
    "group_norm_act(Tensor x, Tensor weight, Tensor bias, Tensor? residual, int groups, float eps, bool relu)"
    " -> (Tensor, Tensor, Tensor)"
)
_LIBRARY.define(
    "group_norm_act_backward(Tensor dy, Tensor x, Tensor? z, Tensor weight, Tensor bias, Tensor mean, Tensor rstd,"
    " int groups, bool relu, bool store_masked) -> (Tensor, Tensor, Tensor, Tensor)"
)
# No rule for autocast: the operation takes its input as it comes, so bfloat16 stays bfloat16.
for _device in ("CPU", "CUDA"):
    _LIBRARY.impl("group_norm_act", _forward, _device)
    _LIBRARY.impl("group_norm_act_backward", _backward, _device)
torch.library.register_fake("vidgn::group_norm_act", _fake_forward, lib=_LIBRARY)
torch.library.register_fake("vidgn::group_norm_act_backward", _fake_backward, lib=_LIBRARY)
torch.library.register_autograd("vidgn::group_norm_act", _differentiate, setup_context=_keep, lib=_LIBRARY)
