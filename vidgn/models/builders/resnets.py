"""The single-path kin of I3D: C2D, Slow, R(2+1)D and CSN."""

from functools import partial
from typing import Any

from torch import nn

from vidgn.models.builders.pytorchvideo import create_csn, create_r2plus1d, create_resnet
from vidgn.models.builders.spec import NetSpec, finish
from vidgn.models.net import PositionHead, VideoNet
from vidgn.norms.layers import NormFactory


def build_c2d(spec: NetSpec, *, norm: NormFactory, depth: int) -> VideoNet:
    """Build C2D: a ResNet on each frame; only pool2 joins two ("Non-local Neural Networks", Table 1).

    Of a single picture pool2 leaves the picture: the net is torchvision's ResNet of that depth.
    """
    trunk = create_resnet(
        model_depth=depth,
        norm=norm,
        stem_dim_out=spec.width,
        stem_conv_kernel_size=(1, 7, 7),
        stage1_pool=partial(nn.MaxPool3d, ceil_mode=True),
        stage_conv_a_kernel_size=((1, 1, 1),) * 4,
        head=None,
    )
    return _with_head(trunk, spec=spec, norm=norm, time_stride=2, pictures=True)


def build_slow_r50(spec: NetSpec, *, norm: NormFactory) -> VideoNet:
    """Build the slow path of SlowFast alone: 3x1x1 convolutions in res4 and res5, no temporal pool."""
    trunk = create_resnet(
        model_depth=50,
        norm=norm,
        stem_dim_out=spec.width,
        stem_conv_kernel_size=(1, 7, 7),
        stage_conv_a_kernel_size=((1, 1, 1), (1, 1, 1), (3, 1, 1), (3, 1, 1)),
        head=None,
    )
    return _with_head(trunk, spec=spec, norm=norm, time_stride=1)


def build_r2plus1d_r50(spec: NetSpec, *, norm: NormFactory) -> VideoNet:
    """Build R(2+1)D: each 3x3x3 as 3x1x1 and 1x3x3 with a norm between ("A Closer Look", arXiv 1711.11248)."""
    trunk = create_r2plus1d(model_depth=50, norm=norm, stem_dim_out=spec.width)
    return _with_head(trunk, spec=spec, norm=norm, time_stride=4)


def build_csn(spec: NetSpec, *, norm: NormFactory, depth: int) -> VideoNet:
    """Build the interaction-reduced CSN: depthwise 3x3x3 between 1x1x1 (arXiv 1904.02811)."""
    trunk = create_csn(model_depth=depth, norm=norm, stem_dim_out=spec.width, stem_pool=nn.MaxPool3d)
    return _with_head(trunk, spec=spec, norm=norm, time_stride=8)


build_c2d_r50 = partial(build_c2d, depth=50)
build_c2d_r101 = partial(build_c2d, depth=101)
build_csn_r101 = partial(build_csn, depth=101)


def _with_head(trunk: Any, *, spec: NetSpec, norm: NormFactory, time_stride: int, pictures: bool = False) -> VideoNet:
    blocks = [block for block in trunk.blocks if not hasattr(block, "proj")]  # two builders insist on a head
    head = PositionHead(32 * spec.width, spec.num_classes, dropout=spec.dropout, window=spec.window)
    return finish([*blocks, head], spec=spec, norm=norm, time_stride=time_stride, pictures=pictures)
