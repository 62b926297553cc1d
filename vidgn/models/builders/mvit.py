"""MViT-B, a transformer of pooled attention, out of torchvision's blocks.

    block   attention blocks   channels, heads at width 96   map of a clip of 16 frames at 224 px
    0       patches 3x7x7       96                            8 x 56 x 56
    1       1                   96 to 192, 1                  8 x 56 x 56
    2       2                  192 to 384, 2                  8 x 28 x 28
    3       11                 384 to 768, 4                  8 x 14 x 14
    4       2                  768, 8                         8 x  7 x  7
    5       norm, classifier of the class token

Source: "Multiscale Vision Transformers" (arXiv 2104.11227), Table 3; torchvision's mvit_v1_b, whose weights fit.
"""

import operator
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.video.mvit import MSBlockConfig, MultiscaleBlock, MViT, PositionalEncoding

from vidgn.models.builders.spec import NetSpec
from vidgn.models.net import VideoNet
from vidgn.norms.layers import ConfiguredNorm, NormFactory

DEPTHS = (1, 2, 11, 2)  # attention blocks of each stage
_CLIP = (16, 224)  # frames and pixels of the learned positions; other clips interpolate them
_EPS = 1e-6  # of torchvision's layer norms


class Tokens(NamedTuple):
    """What attention blocks pass on.

    Attributes:
        map: the tokens of the patches, (N, C, T', H', W').
        token: the class token, (N, 1, C).
    """

    map: Tensor
    token: Tensor


class MViTNet(VideoNet):
    """A `VideoNet` of attention blocks; see `build_mvit`.

    The logits come from the class token. After the last attention block the patches have no part in it, so that
    `features` are the patches before that block.
    """

    @property
    def map_block(self) -> nn.Module:
        """The attention block before the last one."""
        stage = cast("nn.Sequential", self.blocks[-2])
        return stage[-2]

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The stages of attention blocks, `res2` first; the last one ends before its last block, as `features` do."""
        return {f"res{number}": block for number, block in enumerate((*self.blocks[1:-2], self.map_block), 2)}

    def as_map(self, output: Any) -> Tensor:
        """Return the tokens of the patches in what a block puts out."""
        return cast("Tokens", output).map

    def features(self, x: Tensor) -> Tensor:
        """Give the patches before the last attention block (N, C, T', H', W'), with H' = H/32 for multiples of 32."""
        *early, last, _ = self.blocks
        x = self._checked(x)
        for block in (*early, *list(last.children())[:-1]):
            x = block(x)
        return self.as_map(x)


class PatchStem(nn.Module):
    """Cut a clip into patches, and add what is learned of their positions."""

    def __init__(self, conv_proj: nn.Conv3d, pos_encoding: PositionalEncoding) -> None:
        super().__init__()
        self.conv_proj = conv_proj
        self.pos_encoding = pos_encoding

    def forward(self, x: Tensor) -> Tokens:
        """Give the tokens of a clip (N, 3, T, H, W)."""
        x = self.conv_proj(x)
        learned: Any = self.pos_encoding
        side = learned.spatial_size[0]
        rows, columns = (resampling(side, size, like=x) for size in x.shape[3:])
        spatial = rows.T @ learned.spatial_pos.T.unflatten(1, learned.spatial_size) @ columns  # (C, H', W')
        temporal = learned.temporal_pos.T @ resampling(learned.temporal_size, x.shape[2], like=x)  # (C, T')
        positions = temporal[:, :, None, None] + spatial[:, None]
        token = (learned.class_token + learned.class_pos).expand(x.shape[0], 1, -1)
        return Tokens(x + positions, token)


def resampling(count: int, size: int, *, like: Tensor) -> Tensor:
    """Return the matrix (count, size) that interpolates `count` evenly spaced values linearly at `size` places.

    A product with it has a deterministic gradient on every device, which torch's interpolation has not.

    >>> resampling(2, 4, like=torch.zeros(1)).tolist()
    [[1.0, 0.75, 0.25, 0.0], [0.0, 0.25, 0.75, 1.0]]
    """
    identity = torch.eye(count, device=like.device)
    return identity if size == count else F.interpolate(identity[None], size=size, mode="linear")[0]


class TokenBlock(MultiscaleBlock):  # type: ignore[misc]  # torchvision has no types
    """One attention block, whose two sums can drop their branch (`vidgn.models.drop_path`)."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.branch_fusion = operator.add
        self.mlp_fusion = operator.add

    def forward(self, tokens: Tokens) -> Tokens:
        """Attend; torchvision's forward on a map beside a class token."""
        size = tokens.map.shape[2:]
        x = torch.cat([tokens.token, tokens.map.flatten(2).transpose(1, 2)], 1)  # (N, 1 + THW, C)
        attended, new_size = self.attn(self.norm1(x), tuple(size))
        x = x if self.pool_skip is None else self.pool_skip(x, tuple(size))[0]
        x = self.branch_fusion(x, attended)
        normed = self.norm2(x)
        x = x if self.project is None else self.project(normed)
        x = self.mlp_fusion(x, self.mlp(normed))
        return Tokens(x[:, 1:].transpose(1, 2).unflatten(2, tuple(new_size)), x[:, :1])


class TokenHead(nn.Module):
    """Classify the class token: tokens to logits (N, 1, Q)."""

    def __init__(self, norm: nn.Module, proj: nn.Linear, *, dropout: float) -> None:
        super().__init__()
        self.norm = norm
        self.dropout = nn.Dropout(dropout)
        self.proj = proj

    def forward(self, tokens: Tokens) -> Tensor:
        """Give logits (N, 1, Q)."""
        logits: Tensor = self.proj(self.dropout(self.norm(tokens.token)))
        return logits


def build_mvit(spec: NetSpec, *, norm: NormFactory, depths: Sequence[int] = DEPTHS) -> VideoNet:
    """Build MViT-B; `depths` are the attention blocks of each stage, at least two in the last one.

    Its norms are layer norms of each token, with the eps of `norm` if that is set.
    """
    eps = dict(norm.options if isinstance(norm, ConfiguredNorm) else ()).get("eps", _EPS)
    frames, side = _CLIP
    net = MViT(
        spatial_size=(side, side), temporal_size=frames, block_setting=_blocks(spec.width, depths), residual_pool=False,
        residual_with_cls_embed=True, rel_pos_embed=False, proj_after_attn=False, num_classes=spec.num_classes,
        block=TokenBlock, norm_layer=partial(nn.LayerNorm, eps=eps),
    )  # fmt: skip
    layers = iter(net.blocks)
    stages = [nn.Sequential(*(next(layers) for _ in range(depth))) for depth in depths]
    head = TokenHead(net.norm, cast("nn.Linear", net.head[1]), dropout=spec.dropout)
    blocks = nn.ModuleList([PatchStem(net.conv_proj, net.pos_encoding), *stages, head])
    return MViTNet(blocks, spec=spec, time_stride=2)


def _blocks(width: int, depths: Sequence[int]) -> list[MSBlockConfig]:
    """Return torchvision's description of every block: a stage halves the map and doubles channels and heads.

    The channels double in the last block of the stage before; keys and values are pooled to one size everywhere.
    """
    stage_of = [stage for stage, depth in enumerate(depths) for _ in range(depth)]
    settings = []
    for number, stage in enumerate(stage_of):
        heads = 2**stage
        halves = stage > 0 and stage_of[number - 1] < stage
        following = stage_of[min(number + 1, len(stage_of) - 1)]
        pool = 8 // heads
        settings.append(
            MSBlockConfig(
                num_heads=heads, input_channels=width * heads, output_channels=width * 2**following,
                kernel_q=[3, 3, 3] if halves else [], kernel_kv=[3, 3, 3], stride_q=[1, 2, 2] if halves else [],
                stride_kv=[1, pool, pool],
            )
        )  # fmt: skip
    return settings
