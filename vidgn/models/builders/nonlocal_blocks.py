"""Non-local blocks: every position of a map looks at every other ("Non-local Neural Networks", arXiv 1711.07971).

    theta  = conv(x)                             (N, C/2, THW)
    phi, g = conv(pool(x)), conv(pool(x))        (N, C/2, THW/4), a max pool of 1x2x2
    y      = x + norm(out(g softmax(theta' phi / sqrt(C/2))))

theta, phi, g and out are 1x1x1 convolutions. The norm behind `out` starts at weight 0, so that a block starts as its
input. Source: video-nonlocal-net lib/models/nonlocal_helper.py:18-131, and lib/core/config.py for its defaults.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vidgn.norms.layers import NormFactory

# Residual blocks of res3 and res4 that a non-local block follows, by depth and number of non-local blocks:
# resnet_video_org.py:163-196 with LAYER_MOD 2, or 1 for ten; a ResNet-101's five are every second and every seventh.
NONLOCAL_POSITIONS: Mapping[tuple[int, int], tuple[tuple[int, ...], tuple[int, ...]]] = {
    (50, 5): ((1, 3), (1, 3, 5)),
    (50, 10): ((0, 1, 2, 3), (0, 1, 2, 3, 4, 5)),
    (101, 5): ((1, 3), (6, 13, 20)),
}


class NonLocalBlock(nn.Module):
    """Add to every position the softmax-weighted mean over all positions of the clip.

    Args:
        channels: C; the inner convolutions have half of them.
        norm: builds the norm behind the last convolution.
    """

    def __init__(self, channels: int, *, norm: NormFactory) -> None:
        super().__init__()
        inner = channels // 2
        self.conv_theta, self.conv_phi, self.conv_g = (nn.Conv3d(channels, inner, 1) for _ in range(3))
        self.conv_out = nn.Conv3d(inner, channels, 1)
        self.norm_out = norm(channels)
        self.pool = nn.MaxPool3d((1, 2, 2))
        for conv in (self.conv_theta, self.conv_phi, self.conv_g, self.conv_out):
            nn.init.normal_(conv.weight, std=0.01)  # NONLOCAL.CONV_INIT_STD
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return a map like x (N, C, T, H, W); a map of one row or column is not pooled."""
        pooled = self.pool(x) if min(x.shape[3:]) > 1 else x
        theta = self.conv_theta(x).flatten(2).transpose(1, 2)  # (N, THW, C/2)
        phi, g = (conv(pooled).flatten(2) for conv in (self.conv_phi, self.conv_g))  # (N, C/2, THW/4)
        weights = torch.softmax(theta @ phi * phi.shape[1] ** -0.5, dim=-1)  # (N, THW, THW/4)
        mean = (weights.to(g.dtype) @ g.transpose(1, 2)).transpose(1, 2)  # (N, C/2, THW)
        y: Tensor = x + self.norm_out(self.conv_out(mean.reshape(x.shape[0], -1, *x.shape[2:])))
        return y


class NonLocalStage(nn.Module):
    """A stage of residual blocks with non-local blocks behind some of them.

    Args:
        res_blocks: of the plain stage; their names in the state dict stay.
        nonlocal_blocks: by the index of the residual block that each follows.
    """

    def __init__(self, res_blocks: nn.ModuleList, nonlocal_blocks: Mapping[int, NonLocalBlock]) -> None:
        super().__init__()
        self.res_blocks = res_blocks
        self.nonlocal_blocks = nn.ModuleDict({str(index): block for index, block in nonlocal_blocks.items()})

    def forward(self, x: Tensor) -> Tensor:
        """Apply the blocks in turn to (N, C, T, H, W)."""
        for index, block in enumerate(self.res_blocks):
            x = block(x)
            if str(index) in self.nonlocal_blocks:
                x = self.nonlocal_blocks[str(index)](x)
        return x


def add_nonlocal_blocks(blocks: nn.ModuleList, *, depth: int, count: int, width: int, norm: NormFactory) -> None:
    """Put non-local blocks into res3 and res4 of an I3D's blocks, in place."""
    if count == 0:
        return
    for stage, channels, indices in zip((3, 4), (8 * width, 16 * width), NONLOCAL_POSITIONS[depth, count], strict=True):
        added = {index: NonLocalBlock(channels, norm=norm) for index in indices}
        blocks[stage] = NonLocalStage(blocks[stage].get_submodule("res_blocks"), added)  # type: ignore[arg-type]
