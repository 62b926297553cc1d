"""A ResNet-50 on every frame, and a classifier of what it sees and of how that changes.

    stage   on each frame     of its last stage, C channels
    stem    7x7, 3x3 max
    res2    3 bottlenecks
    res3    4 bottlenecks
    res4    6 bottlenecks     the last one where `last` is res4
    res5    3 bottlenecks     left out where `last` is res4
    head    mean and maximum over the positions of a frame (2 C), of both the mean and the standard deviation over
            time (4 C), one linear layer

The deviations over time are all that the net knows of motion. Meant for image weights and few videos: with `fit_head`
nothing but the linear layer learns. Which descriptors: docs/own-videos.md.
"""

from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from vidgn.models.builders.pytorchvideo import create_resnet
from vidgn.models.builders.spec import NetSpec
from vidgn.models.net import VideoNet, zero_last_gammas
from vidgn.norms.layers import NormFactory, finish_net

LastStage = Literal["res4", "res5"]
_EPS = 1e-8  # of a variance, whose root has no slope at 0


class DescriptorHead(nn.Module):
    """Describe a clip by its last stage, drop out, classify: (N, C, T, H, W) to (N, 1, Q)."""

    def __init__(self, num_channels: int, num_classes: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.proj = nn.Linear(4 * num_channels, num_classes)
        nn.init.normal_(self.proj.weight, std=0.01)
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (N, 1, Q)."""
        frames = torch.cat([x.mean((3, 4)), x.amax((3, 4))], 1)  # (N, 2C, T)
        variance = frames.var(2, correction=0)  # 0 of a single frame
        described = torch.cat([frames.mean(2), (variance + _EPS).sqrt()], 1)  # (N, 4C)
        logits: Tensor = self.proj(self.dropout(described)).unsqueeze(1)
        return logits


def build_frames_r50(spec: NetSpec, *, norm: NormFactory, last: str = "res5", stride_1x1: bool = False) -> VideoNet:
    """Build the net with fresh weights from torch's global generator.

    Args:
        spec: classes, width and dropout; `window` has no effect.
        norm: of its layers.
        last: stage before the classifier, res4 or res5.
        stride_1x1: the first block of a stage halves the image in its first 1x1 convolution, as in the ResNets of
            2015 (Caffe, MSRA), not in its 3x3 as in torchvision's. Weights work only with the one they had.

    Raises:
        ValueError: an unknown stage.
    """
    if last not in get_args(LastStage):
        raise ValueError(f"model.last ({last}) must be one of {', '.join(get_args(LastStage))}.")
    trunk = create_resnet(
        model_depth=50,
        norm=norm,
        stem_dim_out=spec.width,
        stem_conv_kernel_size=(1, 7, 7),
        stem_pool=nn.MaxPool3d,
        stage_conv_a_kernel_size=((1, 1, 1),) * 4,
        head=None,
    )
    blocks = list(trunk.blocks)[: 5 if last == "res5" else 4]
    if stride_1x1:
        for stage in blocks[2:]:
            move_stride(stage)
    channels = 32 * spec.width if last == "res5" else 16 * spec.width
    head = DescriptorHead(channels, spec.num_classes, dropout=spec.dropout)
    finish_net(nn.ModuleList(blocks), norm)
    zero_last_gammas(nn.ModuleList(blocks))
    return VideoNet(nn.ModuleList([*blocks, head]), spec=spec, time_stride=1)


def move_stride(stage: nn.Module) -> None:
    """Halve the image in the first 1x1 convolution of a residual stage in place of the 3x3, or the other way round."""
    branch = cast("Any", stage).res_blocks[0].branch2
    branch.conv_a.stride, branch.conv_b.stride = branch.conv_b.stride, branch.conv_a.stride
