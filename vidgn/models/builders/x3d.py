"""X3D: depthwise 3-D convolutions, squeeze and excitation, and a head that widens before it classifies."""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from vidgn.models.builders.pytorchvideo import create_x3d
from vidgn.models.builders.spec import NetSpec, finish
from vidgn.models.net import PositionHead, VideoNet
from vidgn.norms.groups import NearestGroups
from vidgn.norms.layers import NormFactory
from vidgn.norms.relatives.activation import is_activated

WIDTH = 24  # channels of the published stem
HEAD_FEATURES = 2048  # at that width


def build_x3d(spec: NetSpec, *, norm: NormFactory, depth_factor: float = 2.2) -> VideoNet:
    """Build X3D ("X3D", arXiv 2004.04730, Table 1 and 3): XS, S and M, which differ in the clip, or L, which is deeper.

    Its layers have 24, 54, 108 ... channels: groups of `gn` are fitted to each layer.

    Raises:
        ValueError: the width is not a multiple of 8.
    """
    if spec.width % 8:
        raise ValueError(f"width ({spec.width}) must be a multiple of 8; use {WIDTH}, or 8 for small machines.")
    trunk = create_x3d(
        input_clip_length=1,  # this and the crop size the builder's own pool, which is not used
        input_crop_size=32,
        norm=NearestGroups(norm),
        depth_factor=depth_factor,
        width_factor=2.0 * spec.width / WIDTH,
        inner_act=nn.SiLU,  # pytorchvideo's Swish is the same, with a backward pass that torch calls outdated
        head_dim_out=HEAD_FEATURES * spec.width // WIDTH,
    )
    *blocks, theirs = trunk.blocks
    head = ProjectedHead(theirs.pool, spec=spec)
    return finish([*blocks, head], spec=spec, norm=norm, time_stride=1)


build_x3d_l = partial(build_x3d, depth_factor=5.0)  # pytorchvideo models/hub/x3d.py


class ProjectedHead(PositionHead):
    """Widen, average, widen again, drop out, classify every position: (N, C, T', H', W') to (N, P, Q)."""

    def __init__(self, theirs: nn.Module, *, spec: NetSpec) -> None:
        post_conv = theirs.get_submodule("post_conv")
        features = post_conv.get_parameter("weight").shape[0]
        super().__init__(features, spec.num_classes, dropout=spec.dropout, window=spec.window)
        layers = ("pre_conv", "pre_norm", "post_conv")  # pytorchvideo's names, for its weights
        self.pool = nn.ModuleDict({name: theirs.get_submodule(name) for name in layers})

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (N, P, Q) for res5 features."""
        x = self.pool["pre_norm"](self.pool["pre_conv"](x))
        x = x if is_activated(self.pool["pre_norm"]) else F.relu(x)
        x = self.average(x)  # (N, C, 1, H'', W'')
        return self.classify(F.relu(self.pool["post_conv"](x)))
