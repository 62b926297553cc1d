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

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

from vidgn.norms.layers import NormFactory, finish_net

with warnings.catch_warnings():
    # fvcore, which pytorchvideo imports, scripts a loss it does not use here; torch 2.15 calls that outdated.
    warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
    from pytorchvideo.models.resnet import create_resnet

TIME_STRIDE = 8  # input frames per frame of the prediction map: conv1, pool1 and pool2 halve T each
MIN_SIDE = 32  # pixels; the smallest H and W that leave one position


@dataclass(frozen=True)
class I3DSpec:
    """Describe one inflated ResNet.

    Args:
        num_classes: classes Q.
        depth: layers, 50 or 101.
        width: channels of the stem; 64 is the published net, less makes it fit small machines.
        dropout: probability before the classifier, in training.
        pool1: `nonlocal` is the released 2x3x3 without padding (55 x 55 from 224 px), `paper` the 3x3x3 of
            the article's Table 1, padded by 1 (56 x 56).
        window: side of the head's spatial mean, in positions of res5: the training crop / 32.

    Raises:
        ValueError: a number out of its range.
    """

    num_classes: int
    depth: int = 50
    width: int = 64
    dropout: float = 0.5
    pool1: Literal["nonlocal", "paper"] = "nonlocal"
    window: int = 7

    def __post_init__(self) -> None:
        if self.depth not in (50, 101):
            raise ValueError(f"depth ({self.depth}) must be a published one; use 50 or 101.")
        if self.pool1 not in _POOL1:
            raise ValueError(f"pool1 ({self.pool1}) is unknown; use {' or '.join(_POOL1)}.")
        for name in ("num_classes", "width", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be positive; use 1 or more.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout ({self.dropout}) must be in [0, 1); use 0.5, or 0 for none.")


class VideoNet(nn.Module):
    """Classify clips; keys as pytorchvideo's nets have them (`blocks.0.conv.weight`, `blocks.6.proj.weight`).

    The net is fully convolutional: a clip larger than the training crop gives a map of predictions. A clip is
    (N, 3, T, H, W), normalized float, T a multiple of 8, H and W at least 32; else `ValueError`.
    """

    def __init__(self, blocks: nn.ModuleList, *, spec: I3DSpec) -> None:
        super().__init__()
        self.blocks = blocks
        self.spec = spec

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (N, Q): the mean of the logits over all positions."""
        return self._position_logits(x).mean(1)

    def scores(self, x: Tensor) -> Tensor:
        """Give probabilities (N, Q): softmax at each position, then the mean over positions.

        Source: video-nonlocal-net lib/models/resnet_video_org.py:235-250.
        """
        return self._position_logits(x).float().softmax(-1).mean(1)

    def features(self, x: Tensor) -> Tensor:
        """Give the output of res5 (N, C, T/8, H', W'), with H' = H/32 for multiples of 32."""
        _check_clip(x)
        for block in list(self.blocks)[:-1]:
            x = block(x)
        return x

    def _position_logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.blocks[-1](self.features(x))  # (N, P, Q)
        return logits


def build_i3d(spec: I3DSpec, *, norm: NormFactory) -> VideoNet:
    """Build the net with fresh weights from torch's global generator.

    Convolutions are MSRA-filled, the classifier is N(0, 0.01) with bias 0, and every residual block starts as
    its shortcut: the weight of its last norm is 0 ("Group Normalization" sec. 4.1).
    """
    pool_kernel, pool_padding = _POOL1[spec.pool1]
    trunk = create_resnet(
        model_depth=spec.depth,
        norm=norm,
        stem_dim_out=spec.width,
        stem_conv_kernel_size=(5, 7, 7),
        stem_conv_stride=(2, 2, 2),
        stem_pool=partial(_max_pool, forced_padding=pool_padding),
        stem_pool_kernel_size=pool_kernel,
        stem_pool_stride=(2, 2, 2),
        stage1_pool=nn.MaxPool3d,
        stage1_pool_kernel_size=(2, 1, 1),
        stage_conv_a_kernel_size=_TEMPORAL,
        head=None,
    )
    head = PositionHead(spec.width * 32, spec.num_classes, dropout=spec.dropout, window=spec.window)
    finish_net(trunk, norm)
    zero_last_gammas(trunk)
    return VideoNet(nn.ModuleList([*trunk.blocks, head]), spec=spec)


class PositionHead(nn.Module):
    """Average all frames and a window of pixels at stride 1, drop out, classify every position.

    (N, C, T', H', W') to (N, P, Q), P = (H'-window+1) (W'-window+1); a smaller map makes the window smaller.
    """

    def __init__(self, num_features: int, num_classes: int, *, dropout: float, window: int) -> None:
        super().__init__()
        self.window = window
        self.dropout = nn.Dropout(dropout)
        self.proj = nn.Linear(num_features, num_classes)
        nn.init.normal_(self.proj.weight, std=0.01)  # FC_INIT_STD, video-nonlocal-net lib/core/config.py:106
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (N, P, Q) for res5 features."""
        height, width = x.shape[3:]
        # In two steps, since torch's avg_pool3d knows no bfloat16 on the CPU and no determinism on CUDA.
        x = F.avg_pool2d(x.mean(2), (min(self.window, height), min(self.window, width)), stride=1)
        logits: Tensor = self.proj(self.dropout(x.flatten(2).transpose(1, 2)))
        return logits


def zero_last_gammas(net: nn.Module) -> None:
    """Make every bottleneck block of a net start as its shortcut, whatever the norm.

    Sets the weight of the block's last norm to 0; where that learns none (`none`, `wn`, `frozen_bn`), the
    scale of the last convolution. pytorchvideo does it for batch norms alone (models/weight_init.py:32).
    """
    for block in net.modules():
        conv, norm = getattr(block, "conv_c", None), getattr(block, "norm_c", None)
        if isinstance(conv, nn.Module) and isinstance(norm, nn.Module):
            nn.init.zeros_(_last_scale(conv, norm))


def _last_scale(conv: nn.Module, norm: nn.Module) -> Tensor:
    gamma = getattr(norm, "weight", None)
    if isinstance(gamma, nn.Parameter):
        return gamma
    if is_parametrized(conv, "weight"):
        return conv.get_parameter("parametrizations.weight.original0")  # g of w = g v / ||v||
    return conv.get_parameter("weight")


_POOL1 = {"nonlocal": ((2, 3, 3), (0, 0, 0)), "paper": ((3, 3, 3), (1, 1, 1))}  # kernel, padding

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


def _check_clip(x: Tensor) -> None:
    if x.dim() != 5 or x.shape[1] != 3:
        raise ValueError(f"The input has shape {tuple(x.shape)}; give clips (N, 3, T, H, W).")
    frames, height, width = x.shape[2:]
    if frames < TIME_STRIDE or frames % TIME_STRIDE:
        near = max(frames // TIME_STRIDE, 1) * TIME_STRIDE
        raise ValueError(
            f"A clip of {frames} frames must have a multiple of {TIME_STRIDE};"
            f" use clip_len={near} or {near + TIME_STRIDE}."
        )
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"Frames of {height}x{width} pixels must be at least {MIN_SIDE}x{MIN_SIDE}; use crop={MIN_SIDE} or more."
        )
