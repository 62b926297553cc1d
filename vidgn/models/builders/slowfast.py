"""SlowFast: one clip at two frame rates."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vidgn.models.builders.pytorchvideo import create_slowfast
from vidgn.models.builders.spec import NetSpec, finish
from vidgn.models.net import PositionHead, VideoNet
from vidgn.norms.groups import NearestGroups
from vidgn.norms.layers import NormFactory

ALPHA = 4  # frames of the fast path for one of the slow path
BETA = 8  # channels of the slow path for one of the fast path


def build_slowfast(spec: NetSpec, *, norm: NormFactory, depth: int) -> VideoNet:
    """Build SlowFast 8x8 ("SlowFast Networks", arXiv 1812.03982, Table 1; fusion kernel 7x1x1).

    The fast path's layers have as few channels as spec.width / 8: groups of `gn` are fitted to each layer.

    Raises:
        ValueError: the width is not a multiple of 8.
    """
    if spec.width % BETA:
        raise ValueError(f"width ({spec.width}) must be a multiple of {BETA}; use 64, or 16 for small machines.")
    trunk = create_slowfast(
        model_depth=depth,
        norm=NearestGroups(norm),
        stem_dim_outs=(spec.width, spec.width // BETA),
        slowfast_channel_reduction_ratio=(BETA,),
        slowfast_fusion_conv_kernel_size=(7, 1, 1),
        slowfast_fusion_conv_stride=(ALPHA, 1, 1),
        head=None,
    )
    blocks = [*trunk.blocks[:-1], JoinPaths()]
    features = 32 * spec.width + 32 * spec.width // BETA
    head = PositionHead(features, spec.num_classes, dropout=spec.dropout, window=spec.window)
    return finish([*blocks, head], spec=spec, norm=norm, time_stride=ALPHA, adapter=TwoRates(), kind=SlowFastNet)


class SlowFastNet(VideoNet):
    """A `VideoNet` of two paths; see `build_slowfast`."""

    def as_map(self, output: Any) -> Tensor:
        """Return the map in what a block puts out: that of both paths, as `JoinPaths` joins them."""
        return output if isinstance(output, Tensor) else JoinPaths()(output)


class TwoRates(nn.Module):
    """Make of one clip (N, 3, T, H, W) the slow path's T/4 frames and the fast path's T.

    Slow frame j is frame floor(j (T - 1) / (T/4 - 1)): the first, the last and evenly between, as the published
    weights were trained (PySlowFast slowfast/datasets/utils.py, pack_pathway_output).
    """

    def forward(self, clip: Tensor) -> list[Tensor]:
        """Give the two clips, slow first."""
        frames = clip.shape[2]
        slow = torch.arange(frames // ALPHA, device=clip.device)
        return [clip.index_select(2, slow * (frames - 1) // max(len(slow) - 1, 1)), clip]


class JoinPaths(nn.Module):
    """Average the fast path over each slow frame's share and put it beside the slow path.

    (N, C, T/4, H', W') and (N, C/8, T, H', W') to (N, C + C/8, T/4, H', W'). The head's mean over all frames then
    is that of each path, as pytorchvideo pools them (models/slowfast.py, PoolConcatPathway).
    """

    def forward(self, paths: list[Tensor]) -> Tensor:
        """Join res5 of the slow and of the fast path."""
        slow, fast = paths
        samples, channels, _, height, width = fast.shape
        shares = fast.reshape(samples, channels, slow.shape[2], -1, height, width)
        return torch.cat([slow, shares.mean(3)], 1)


build_slowfast_r50 = partial(build_slowfast, depth=50)
