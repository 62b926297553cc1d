"""TSN and TSM: a ResNet-50 on each frame, without and with channels that move between frames.

    TSN    the frames' logits are averaged ("Temporal Segment Networks", arXiv 1608.00859)
    TSM    in front of every residual branch an eighth of the channels comes from the next frame and an eighth from
           the one before; the shortcut is not shifted ("TSM", arXiv 1811.08383, Fig. 3b)

Parameters are those of the 2-D ResNet-50, and its weights are loaded as they are.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidgn.models.builders.pytorchvideo import BottleneckBlock, create_resnet
from vidgn.models.builders.spec import NetSpec, finish
from vidgn.models.net import PositionHead, VideoNet
from vidgn.norms.layers import NormFactory

SHIFT_PARTS = 8  # temporal-shift-module ops/temporal_shift.py:75, n_div


def build_tsn_r50(spec: NetSpec, *, norm: NormFactory) -> VideoNet:
    """Build a ResNet-50 on each frame; the head averages the frames."""
    return _finished(_frame_resnet(spec, norm=norm), spec=spec, norm=norm)


def build_tsm_r50(spec: NetSpec, *, norm: NormFactory) -> VideoNet:
    """Build TSN's net with shifted channels in front of every residual branch."""
    trunk = _frame_resnet(spec, norm=norm)
    for module in trunk.modules():
        if type(module) is BottleneckBlock:
            module.__class__ = ShiftedBottleneck
    return _finished(trunk, spec=spec, norm=norm)


class ShiftedBottleneck(BottleneckBlock):  # type: ignore[misc]
    """pytorchvideo's bottleneck on shifted channels. Never built: a bottleneck becomes one, and its names stay."""

    def forward(self, x: Tensor) -> Tensor:
        """Give the branch of (N, C, T, H, W)."""
        y: Tensor = super().forward(shift_channels(x))
        return y


def shift_channels(x: Tensor, *, parts: int = SHIFT_PARTS) -> Tensor:
    """Move 1/parts of the channels one frame back and 1/parts one frame on; what enters at the ends is 0.

    Args:
        x: (N, C, T, H, W).
        parts: C divided by it, rounded down, is the number of channels that move each way.

    >>> shift_channels(torch.arange(1.0, 10.0).view(1, 3, 3, 1, 1), parts=3).view(3, 3)
    tensor([[2., 3., 0.],
            [0., 4., 5.],
            [7., 8., 9.]])
    """
    fold = x.shape[1] // parts
    from_next = F.pad(x[:, :fold], (0, 0, 0, 0, 0, 1))[:, :, 1:]
    from_last = F.pad(x[:, fold : 2 * fold], (0, 0, 0, 0, 1, 0))[:, :, :-1]
    return torch.cat([from_next, from_last, x[:, 2 * fold :]], dim=1)


def _frame_resnet(spec: NetSpec, *, norm: NormFactory) -> Any:
    return create_resnet(
        model_depth=50,
        norm=norm,
        stem_dim_out=spec.width,
        stem_conv_kernel_size=(1, 7, 7),
        stage_conv_a_kernel_size=((1, 1, 1),) * 4,
        head=None,
    )


def _finished(trunk: nn.Module, *, spec: NetSpec, norm: NormFactory) -> VideoNet:
    head = PositionHead(32 * spec.width, spec.num_classes, dropout=spec.dropout, window=spec.window)
    return finish([*trunk.get_submodule("blocks").children(), head], spec=spec, norm=norm, time_stride=1, pictures=True)
