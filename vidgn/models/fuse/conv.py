"""3-D convolutions as the 2-D convolutions and matrix products they are, on views of channels-last clips.

With C innermost, (N, C, T, H, W) is also, without a copy,

    1x1x1       a matrix           (N T H W, C)         a product with (C, O)
    1 x k x k   N T pictures       (N T, C, H, W)       a k x k convolution
    k x 1 x 1   N "pictures"       (N, C, T, H W)       a k x 1 convolution

and a first layer with few channels is a 2-D convolution over k C channels once the k frames of each window are
gathered. Every form gives the same numbers but for the order of sums.
"""

# mypy: allow-untyped-calls

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidgn.norms.kernels.layout import channels_last
from vidgn.norms.weight_standardization import Standardization, standardize

CHANNEL_STEP = 16  # channels that matrix units and vector registers take at once


class ViewConv3d(nn.Conv3d):
    """A 3-D convolution, computed in the form that is fastest for its input.

    Parameters and their names are those of `nn.Conv3d`. Output is channels-last whatever the input is. Never built:
    a convolution becomes one (`prepare`).
    """

    # Measured choices (`fuse_tune`) by shape of the input and dtype it is computed in; the rest have the default.
    forms: Mapping[tuple[tuple[int, ...], torch.dtype], str]
    default_form: str
    default_form_on_cpu: str
    standardization: Standardization | None = None  # of the kernel, before each use

    @property
    def kernel(self) -> Tensor:
        """Return what the convolution multiplies with: the weight, standardized if it is to be."""
        return self.weight if self.standardization is None else standardize(self.weight, self.standardization)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, C, T, H, W)."""
        return FORMS[self.form_of(input)].run(self, channels_last(input))

    def form_of(self, input: Tensor) -> str:
        """Name the form that computes `input`."""
        default = self.default_for(input.device, samples=input.shape[0])
        if not self.forms:
            return default
        return self.forms.get((tuple(input.shape), computed_dtype(input.device, input.dtype)), default)

    def default_for(self, device: torch.device, *, samples: int) -> str:
        """Name the form that is used where nothing was measured."""
        if device.type != "cpu":
            return self.default_form
        if self.default_form == "matmul" and samples > 1 and not torch.compiler.is_compiling():
            return "conv2d over T"  # fewer, larger pictures
        return self.default_form_on_cpu


class Form(NamedTuple):
    """One way to compute a convolution: whether it can, and how."""

    applies: Callable[[nn.Conv3d], bool]
    compute: Callable[[ViewConv3d, Tensor, Tensor], Tensor]  # of the convolution, its input and its kernel

    def run(self, conv: ViewConv3d, x: Tensor, kernel: Tensor | None = None) -> Tensor:
        """Convolve x, with a kernel that stands for the convolution's own, if one is given."""
        return self.compute(conv, x, conv.kernel if kernel is None else kernel)


def prepare_kernels(conv: nn.Conv3d) -> None:
    """Make a convolution a `ViewConv3d`, its kernel channels-last; parameters, hooks and name stay.

    A standardized kernel stays standardized.
    """
    conv.__class__ = ViewConv3d
    assert isinstance(conv, ViewConv3d)
    for name in ("kernel_size", "stride", "padding", "dilation"):  # X3D's builder leaves numpy's integers
        setattr(conv, name, tuple(int(size) for size in getattr(conv, name)))
    conv.forms = {}  # a proxy could not be copied or pickled
    conv.default_form = applicable_forms(conv)[0]
    conv.default_form_on_cpu = _ON_CPU.get(conv.default_form, conv.default_form)
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last_3d)


# Gathering costs a CPU more than full channels give it, and oneDNN's 1x1 convolution is up to twice as fast as MKL's
# product on an AMD processor (benchmarks/net.md).
_ON_CPU: Mapping[str, str] = {"fold": "conv3d", "matmul": "conv2d over H, W"}


def conv_gradients(
    conv: ViewConv3d, dy: Tensor, x: Tensor, kernel: Tensor, *, needs_x: bool = True
) -> tuple[Tensor, Tensor]:
    """Give the gradients of x (empty unless it is needed) and of the kernel, in the form that computed y.

    All are channels-last; the convolution has no bias. A bfloat16 x still gives a gradient in the kernel's dtype.
    """
    form = conv.form_of(x)
    kernel, moves, samples = kernel.to(x.dtype), _moves(conv), x.shape[0]
    shape = x.shape
    if form == "conv2d over H, W":
        dy, x, kernel, moves = _pictures(dy), _pictures(x), kernel.squeeze(2), tuple(m[1:] for m in moves)
    elif form in ("conv2d over T", "matmul"):
        dy, x, kernel = dy.flatten(3), x.flatten(3), kernel.squeeze(-1)
        moves = tuple((m[0], rest) for m, rest in zip(moves, (1, 0, 1), strict=True))
    dx, dkernel, _ = torch.ops.aten.convolution_backward(
        dy, x, kernel, None, *moves, False, [0] * len(moves[0]), conv.groups, [needs_x, True, False]
    )
    dkernel = dkernel.to(conv.weight.dtype).reshape(conv.weight.shape)
    if not needs_x:
        return x.new_empty(0), dkernel
    return (_clips(dx, samples=samples) if form == "conv2d over H, W" else dx.reshape(shape)), dkernel


def applicable_forms(conv: nn.Conv3d) -> list[str]:
    """Name the forms that can compute a convolution, the one to expect most of first."""
    return [name for name, form in FORMS.items() if form.applies(conv)]


def computed_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that a convolution of a `dtype` input is computed in: autocast's, if that is on."""
    on = torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if on else dtype


def _is_pointwise(conv: nn.Conv3d) -> bool:
    same = conv.stride == (1, 1, 1) and conv.padding == (0, 0, 0)
    return conv.kernel_size == (1, 1, 1) and same and conv.groups == 1


def _matmul(conv: ViewConv3d, x: Tensor, kernel: Tensor) -> Tensor:
    return F.linear(x.movedim(1, -1), kernel.flatten(1), conv.bias).movedim(-1, 1)


def _is_spatial(conv: nn.Conv3d) -> bool:
    return (conv.kernel_size[0], conv.stride[0], conv.padding[0]) == (1, 1, 0)


def _spatial(conv: ViewConv3d, x: Tensor, kernel: Tensor) -> Tensor:
    kernel = kernel.squeeze(2)  # (O, I, kh, kw)
    stride, padding, dilation = (move[1:] for move in _moves(conv))
    return _clips(F.conv2d(_pictures(x), kernel, conv.bias, stride, padding, dilation, conv.groups), samples=x.shape[0])


def _is_temporal(conv: nn.Conv3d) -> bool:
    return conv.kernel_size[1:] == (1, 1) == conv.stride[1:] and conv.padding[1:] == (0, 0)


def _temporal(conv: ViewConv3d, x: Tensor, kernel: Tensor) -> Tensor:
    kernel = kernel.squeeze(-1)  # (O, I, k, 1)
    stride, padding, dilation = ((t[0], rest) for t, rest in zip(_moves(conv), (1, 0, 1), strict=True))
    y = F.conv2d(x.flatten(3), kernel, conv.bias, stride, padding, dilation, conv.groups)  # (N, O, T', H W)
    return y.reshape(*y.shape[:3], *x.shape[3:])


def _is_narrow(conv: nn.Conv3d) -> bool:
    depth = conv.kernel_size[0] * conv.in_channels
    return conv.kernel_size[0] > 1 and depth <= CHANNEL_STEP and conv.groups == 1 and conv.dilation[0] == 1


def _fold(conv: ViewConv3d, x: Tensor, kernel: Tensor) -> Tensor:
    dtype = computed_dtype(x.device, x.dtype)
    frames, channels = conv.kernel_size[0], conv.in_channels
    padding = int(conv.padding[0])
    x = F.pad(x.to(dtype), (0, 0, 0, 0, padding, padding))
    windows = x.unfold(2, frames, conv.stride[0])  # (N, C, T', H, W, k)
    samples, _, count, height, width, _ = windows.shape
    spare = CHANNEL_STEP - frames * channels
    pictures = F.pad(windows.permute(0, 2, 3, 4, 5, 1).reshape(samples * count, height, width, -1), (0, spare))
    kernel = F.pad(kernel.transpose(1, 2).flatten(1, 2), (0, 0, 0, 0, 0, spare))  # (O, k C, kh, kw)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    y = F.conv2d(
        pictures.movedim(-1, 1), kernel, conv.bias, conv.stride[1:], conv.padding[1:], conv.dilation[1:]
    )  # (N T', O, H', W')
    return _clips(y, samples=samples)


def _plain(conv: ViewConv3d, x: Tensor, kernel: Tensor) -> Tensor:
    y: Tensor = conv._conv_forward(x, kernel, conv.bias)
    return y


def _pictures(x: Tensor) -> Tensor:
    """Make clips (N, C, T, H, W) pictures (N T, C, H, W)."""
    return x.movedim(1, -1).flatten(0, 1).movedim(-1, 1)


def _clips(pictures: Tensor, *, samples: int) -> Tensor:
    """Make (N T, C, H, W) clips (N, C, T, H, W)."""
    last = pictures.movedim(1, -1)
    return last.reshape(samples, -1, *last.shape[1:]).movedim(-1, 1)


def _moves(conv: nn.Conv3d) -> tuple[tuple[int, ...], ...]:
    return conv.stride, tuple(int(p) for p in conv.padding), conv.dilation


FORMS: Mapping[str, Form] = {
    "matmul": Form(_is_pointwise, _matmul),
    "conv2d over H, W": Form(_is_spatial, _spatial),
    "conv2d over T": Form(_is_temporal, _temporal),
    "fold": Form(_is_narrow, _fold),
    "conv3d": Form(lambda conv: True, _plain),
}
