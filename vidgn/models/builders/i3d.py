"""Inflated 3-D ResNets (I3D) as data, built by pytorchvideo's `create_resnet`.

The 32-frame ResNet-50 of "Non-local Neural Networks" (arXiv 1711.07971), as video-nonlocal-net's
lib/models/resnet_video_org.py builds it, at 32 x 224 x 224:

    stage   kernel (T, H, W), stride     blocks with a 3x1x1 first conv    output (C, T, H, W)
    conv1   5x7x7, 2x2x2                                                   64 x 16 x 112 x 112
    pool1   2x3x3 max, 2x2x2, no pad                                       64 x  8 x  55 x  55
    res2    3 bottlenecks                0 1 2                            256 x  8 x  55 x  55
    pool2   2x1x1 max, 2x1x1                                              256 x  4 x  55 x  55
    res3    4 bottlenecks, 1x2x2         0 2                              512 x  4 x  28 x  28
    res4    6 bottlenecks, 1x2x2         0 2 4                           1024 x  4 x  14 x  14
    res5    3 bottlenecks, 1x2x2         1                               2048 x  4 x   7 x   7
    head    4x7x7 mean, dropout, fc                                         Q x  1 x   1 x   1
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

from torch import nn

from vidgn.models.builders.nonlocal_blocks import NONLOCAL_POSITIONS, add_nonlocal_blocks
from vidgn.models.builders.pytorchvideo import create_resnet
from vidgn.models.net import PositionHead, VideoNet, check_sizes, zero_last_gammas
from vidgn.norms.layers import NormFactory, finish_net

Size = tuple[int, int, int]  # T, H, W


@dataclass(frozen=True)
class I3DSpec:
    """Describe one inflated ResNet.

    Args:
        num_classes: classes Q.
        depth: layers, 50 or 101.
        width: channels of the stem; 64 is the published net, less makes it fit small machines.
        dropout: probability before the classifier, in training.
        pool1: the stem. `nonlocal` is the released pool of 2x3x3 without padding (55 x 55 from 224 px),
            `paper` the 3x3x3 of the article's Table 1, padded by 1 (56 x 56); `mmaction2` and
            `pytorchvideo` are those of their weights, the latter for 8 frames, T kept up to pool2.
        window: side of the head's spatial mean, in positions of res5: the training crop / 32.
        nonlocal_blocks: non-local blocks in res3 and res4: 0, 5 or, with 50 layers, 10.

    Raises:
        ValueError: a number out of its range.
    """

    num_classes: int
    depth: int = 50
    width: int = 64
    dropout: float = 0.5
    pool1: Literal["nonlocal", "paper", "mmaction2", "pytorchvideo"] = "nonlocal"
    window: int = 7
    nonlocal_blocks: int = 0

    def __post_init__(self) -> None:
        if self.depth not in (50, 101):
            raise ValueError(f"depth ({self.depth}) must be a published one; use 50 or 101.")
        if self.pool1 not in STEMS:
            raise ValueError(f"pool1 ({self.pool1}) is unknown; use one of {', '.join(STEMS)}.")
        if self.nonlocal_blocks not in (0, 5, 10):
            raise ValueError(f"nonlocal ({self.nonlocal_blocks}) must be 0, 5 or 10.")
        if self.nonlocal_blocks and (self.depth, self.nonlocal_blocks) not in NONLOCAL_POSITIONS:
            raise ValueError(
                f"nonlocal ({self.nonlocal_blocks}) is published for an I3D of 50 layers alone; use 5, or i3d_r50."
            )
        check_sizes(self)


def build_i3d(spec: I3DSpec, *, norm: NormFactory) -> VideoNet:
    """Build the net with fresh weights from torch's global generator.

    Convolutions are MSRA-filled, the classifier is N(0, 0.01) with bias 0, and every residual block starts as
    its shortcut: the weight of its last norm is 0 ("Group Normalization" sec. 4.1).
    """
    stem = STEMS[spec.pool1]
    trunk = create_resnet(
        model_depth=spec.depth,
        norm=norm,
        stem_dim_out=spec.width,
        stem_conv_kernel_size=(5, 7, 7),
        stem_conv_stride=stem.conv_stride,
        stem_pool=partial(_max_pool, forced_padding=stem.padding),
        stem_pool_kernel_size=stem.pool_kernel,
        stem_pool_stride=stem.pool_stride,
        stage1_pool=nn.MaxPool3d,
        stage1_pool_kernel_size=(2, 1, 1),
        stage_conv_a_kernel_size=_TEMPORAL,
        head=None,
    )
    head = PositionHead(spec.width * 32, spec.num_classes, dropout=spec.dropout, window=spec.window)
    add_nonlocal_blocks(trunk.blocks, depth=spec.depth, count=spec.nonlocal_blocks, width=spec.width, norm=norm)
    finish_net(trunk, norm)
    zero_last_gammas(trunk)
    time_stride = 2 * stem.conv_stride[0] * stem.pool_stride[0]  # pool2 halves T, too
    return VideoNet(nn.ModuleList([*trunk.blocks, head]), spec=spec, time_stride=time_stride)


class Stem(NamedTuple):
    """What the published I3Ds do not agree on: conv1's stride and pool1, each (T, H, W)."""

    conv_stride: Size
    pool_kernel: Size
    pool_stride: Size
    padding: Size


STEMS: Mapping[str, Stem] = {
    "nonlocal": Stem((2, 2, 2), (2, 3, 3), (2, 2, 2), (0, 0, 0)),  # resnet_video_org.py:59-62,156
    "paper": Stem((2, 2, 2), (3, 3, 3), (2, 2, 2), (1, 1, 1)),  # Table 1 of 1711.07971
    "mmaction2": Stem((2, 2, 2), (1, 3, 3), (2, 2, 2), (0, 1, 1)),  # resnet3d.py:781-802; gluon-cv's too
    "pytorchvideo": Stem((1, 2, 2), (1, 3, 3), (1, 2, 2), (0, 1, 1)),  # for 8 frames; PySlowFast's too
}

# First conv of the bottlenecks of res2 to res5, repeated to the stage's depth (resnet_video_org.py:63-70).
_TEMPORAL = (
    [(3, 1, 1)],
    [(3, 1, 1), (1, 1, 1)],
    [(3, 1, 1), (1, 1, 1)],
    [(1, 1, 1), (3, 1, 1)],
)


def _max_pool(
    *,
    kernel_size: tuple[int, int, int],
    stride: tuple[int, int, int],
    padding: list[int],
    forced_padding: tuple[int, int, int],
) -> nn.MaxPool3d:
    # create_resnet always passes kernel_size // 2 as padding (resnet.py:759), which would make T odd.
    return nn.MaxPool3d(kernel_size, stride, forced_padding)
