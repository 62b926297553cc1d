"""Convolutions of a tested net in eight-bit integers, for processors that multiply four of those at a time.

    q = round(x / s)       s = max |x| / 255 of each clip (127 where x may be negative)      uint8
    k = round(w / r)       r = max |w| / 127 of each output channel                          int8
    y = s r (k * q)        summed in 32-bit integers, so exactly, in any order

Scales of activations are each clip's own: nothing is calibrated, and a clip's scores do not depend on its batch. The
norms that follow stay as they are, in float32 inside. (Jacob et al. 2018, arXiv 1712.05877, sec. 2, without their
quantization-aware training.)
"""

# mypy: allow-untyped-calls

from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from vidgn.models.fuse.conv import ViewConv3d, computed_dtype
from vidgn.norms.kernels.layout import channels_last

ModuleT = TypeVar("ModuleT", bound=nn.Module)

LARGEST = 255  # of uint8
MIDDLE = 128  # stands for 0 where there are negative values
LARGEST_WEIGHT = 127  # of int8, as far below 0 as above


class Int8Conv3d(ViewConv3d):
    """A 3-D convolution in eight-bit integers. Never built: a convolution becomes one (`quantize`).

    Its parameters stay for `state_dict`; what they are later does not change what is computed.
    """

    signed: bool  # whether the input has negative values
    skip: tuple[slice, ...] | None  # what a kernel of one pixel looks at
    moves: tuple[list[int], list[int], list[int]]  # stride, padding, dilation
    packed: Tensor  # the integers in the layout of the library's convolution
    scales: Tensor  # (O,)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, C, T, H, W); the output is channels-last."""
        wide = input.float()
        top = (wide.abs() if self.signed else wide).amax((1, 2, 3, 4), keepdim=True).clamp_min(1e-30)
        zero, steps = (MIDDLE, LARGEST_WEIGHT) if self.signed else (0, LARGEST)
        integers = ((wide * (steps / top)).round() + zero).clamp(0, LARGEST).to(torch.uint8)
        integers = integers if self.skip is None else integers[self.skip]
        zeros = torch.zeros_like(self.scales, dtype=torch.int32)
        dtype = computed_dtype(input.device, input.dtype)
        y: Tensor = torch.ops.onednn.qconv_pointwise(
            channels_last(integers), 1.0, zero, self.packed, self.scales, zeros, None, *self.moves, self.groups,
            1.0, 0, dtype, "none", [], "",
        )  # fmt: skip
        y = y.float() * (top / steps)
        return (y if self.bias is None else y + self.bias[:, None, None, None]).to(dtype)


def quantize(net: ModuleT, clips: Tensor) -> ModuleT:
    """Let the convolutions of a fused net compute in eight-bit integers, in place; return the net.

    Convolutions in groups and those of a single pixel (squeeze and excitation) stay as they are: they read more than
    they multiply. The net is for testing alone, and can no longer be copied.

    Args:
        net: what `fuse` rewrote, with its last weights, in eval mode on a CPU.
        clips: (N, 3, T, H, W), normalized, of any content with values below 0; shows which inputs have such.

    Raises:
        ValueError: the net is training, or nothing in it is a convolution that `fuse` made.
        RuntimeError: this processor or this torch has no such convolution.
    """
    if net.training:
        raise ValueError("The net is training, and eight-bit weights are never updated; call net.eval() first.")
    check_processor()
    convs = [module for module in net.modules() if type(module) is ViewConv3d and module.groups == 1]
    if not convs:
        raise ValueError("The net has no fused convolutions; call vidgn.models.fuse.rewrite.fuse(net) first.")
    for conv, signed in _signs_of_inputs(net, convs, clips).items():
        _become_int8(conv, signed=signed)
    return net


def check_processor() -> None:
    """Say so if there are no eight-bit products here.

    Raises:
        RuntimeError: this processor or this torch has none.
    """
    # Without VNNI, pairs of products are summed in 16 bits and cut off there.
    if not torch.cpu._is_vnni_supported() or not hasattr(torch.ops.onednn, "qconv_pointwise"):
        raise RuntimeError("quantize=int8 needs a processor with AVX-512 VNNI, and this one has none; leave it out.")


def _signs_of_inputs(net: nn.Module, convs: list[ViewConv3d], clips: Tensor) -> dict[ViewConv3d, bool]:
    """Tell of each convolution of more than one pixel whether its input has values below 0."""
    signs: dict[ViewConv3d, bool] = {}

    def look(conv: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].shape[2:].numel() > 1:
            signs[cast("ViewConv3d", conv)] = bool((inputs[0] < 0).any())

    hooks = [conv.register_forward_pre_hook(look) for conv in convs]
    try:
        with torch.no_grad():
            net(clips)
    finally:
        for hook in hooks:
            hook.remove()
    return signs


def _become_int8(conv: ViewConv3d, *, signed: bool) -> None:
    kernel = conv.kernel.detach().float()
    scales = kernel.abs().amax((1, 2, 3, 4)).clamp_min(1e-30) / LARGEST_WEIGHT
    integers = (kernel / scales[:, None, None, None, None]).round().to(torch.int8)
    zero = MIDDLE if signed else 0
    conv.__class__ = Int8Conv3d
    made = cast("Int8Conv3d", conv)
    made.signed, made.scales = signed, scales
    stride, padding = list(conv.stride), [int(p) for p in conv.padding]
    made.skip = None
    if conv.kernel_size == (1, 1, 1) and not any(padding) and max(stride) > 1:
        # oneDNN 3.x takes 14 ms for such a convolution, and 1 ms for one without stride (benchmarks/net.md).
        made.skip = (slice(None), slice(None), *(slice(None, None, step) for step in stride))
        stride = [1, 1, 1]
    made.moves = stride, padding, list(conv.dilation)
    made.packed = torch.ops.onednn.qconv_prepack(integers, scales, 1.0, zero, *made.moves, conv.groups)
