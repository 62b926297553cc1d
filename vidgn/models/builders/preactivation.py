"""ResNet-50 v2 on each frame: norm and ReLU come before each convolution, and nothing after the sum.

    stage   on each frame                                 channels at width 64   output of 224 px (H, W)
    stem    7x7, stride 2; zeros around it; 3x3 max         64                    56 x 56
    res2    3 bottlenecks                                  256                    56 x 56
    res3    4 bottlenecks                                  512                    28 x 28
    res4    6 bottlenecks                                 1024                    14 x 14
    res5    3 bottlenecks                                 2048                     7 x 7
    head    norm, ReLU, mean over positions, classifier

    a block     p = relu(norm1(x))     y = shortcut + conv3(relu(norm3(conv2(relu(norm2(conv1(p)))))))
                shortcut = x, or downsample(p) in the first block of a stage

With group norm of 32 groups and standardized kernels this is BiT-R50x1 of "Big Transfer" (arXiv 1912.11370), timm's
`resnetv2_50x1_bit`, whose names the layers have. Pre-activation: "Identity Mappings in Deep Residual Networks"
(arXiv 1603.05027), with the stride in the 3x3 convolution.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidgn.models.builders.spec import NetSpec, finish
from vidgn.models.net import PositionHead, VideoNet
from vidgn.norms.layers import NormFactory
from vidgn.norms.relatives.activation import is_activated

_STAGES = ((3, 4), (4, 8), (6, 16), (3, 32))  # blocks, channels in stem widths


def build_bit_r50(spec: NetSpec, *, norm: NormFactory) -> VideoNet:
    """Build the net with fresh weights from torch's global generator."""
    stem = nn.Sequential()
    stem.add_module("conv", _convolution(3, spec.width, 7, stride=2))
    # Zeros, not the least number: features may be negative here. timm's stem_type="fixed".
    stem.add_module("pad", nn.ConstantPad3d((1, 1, 1, 1, 0, 0), 0.0))
    stem.add_module("pool", nn.MaxPool3d((1, 3, 3), (1, 2, 2)))
    blocks: list[nn.Module] = [stem]
    channels = spec.width
    for number, (count, times) in enumerate(_STAGES):
        blocks.append(PreActivationStage(channels, spec.width * times, count=count, halve=number > 0, norm=norm))
        channels = spec.width * times
    head = NormalizedHead(channels, spec.num_classes, norm=norm, dropout=spec.dropout, window=spec.window)
    return finish([*blocks, head], spec=spec, norm=norm, time_stride=1, pictures=True)


class PreActivationStage(nn.Module):
    """Bottlenecks in a row, (N, C, T, H, W) to (N, C', T, H / 2 or H, W / 2 or W)."""

    def __init__(self, size_in: int, size_out: int, *, count: int, halve: bool, norm: NormFactory) -> None:
        super().__init__()
        first = PreActivationBlock(size_in, size_out, stride=2 if halve else 1, norm=norm)
        rest = (PreActivationBlock(size_out, size_out, stride=1, norm=norm) for _ in range(count - 1))
        self.res_blocks = nn.ModuleList([first, *rest])

    def forward(self, x: Tensor) -> Tensor:
        """Apply the blocks."""
        for block in self.res_blocks:
            x = block(x)
        return x


class PreActivationBlock(nn.Module):
    """A bottleneck whose norms come first; the shortcut is projected where the channels change.

    Attributes:
        branch_fusion: adds the branch to the shortcut (`vidgn.models.drop_path`).
        normalized_sum: the convolution whose sum with the shortcut the next norm normalizes
            (`vidgn.norms.weight_standardization`).
    """

    normalized_sum = ("conv3",)

    def __init__(self, size_in: int, size_out: int, *, stride: int, norm: NormFactory) -> None:
        super().__init__()
        size = size_out // 4
        self.norm1 = norm(size_in)
        self.conv1 = _convolution(size_in, size, 1)
        self.norm2 = norm(size)
        self.conv2 = _convolution(size, size, 3, stride=stride)
        self.norm3 = norm(size)
        self.conv3 = _convolution(size, size_out, 1)
        self.downsample = _convolution(size_in, size_out, 1, stride=stride) if size_in != size_out else None
        self.branch_fusion = torch.add

    def forward(self, x: Tensor) -> Tensor:
        """Give the sum of shortcut and branch."""
        active = _activated(self.norm1, x)
        shortcut = x if self.downsample is None else self.downsample(active)
        branch = self.conv2(_activated(self.norm2, self.conv1(active)))
        y: Tensor = self.branch_fusion(shortcut, self.conv3(_activated(self.norm3, branch)))
        return y


class NormalizedHead(PositionHead):
    """Normalize the last sum, then classify positions as `PositionHead`."""

    def __init__(self, num_features: int, num_classes: int, *, norm: NormFactory, dropout: float, window: int) -> None:
        super().__init__(num_features, num_classes, dropout=dropout, window=window)
        self.norm = norm(num_features)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (N, P, Q) for the last sum (N, C, T, H, W)."""
        return super().forward(_activated(self.norm, x))


def _activated(norm: nn.Module, x: Tensor) -> Tensor:
    """Normalize and apply the ReLU, unless the norm contains its activation."""
    y: Tensor = norm(x)
    return y if is_activated(norm) else F.relu(y)


def _convolution(size_in: int, size_out: int, side: int, *, stride: int = 1) -> nn.Conv3d:
    conv = nn.Conv3d(size_in, size_out, (1, side, side), (1, stride, stride), (0, side // 2, side // 2), bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # timm resnetv2.py, _init_weights
    return conv
