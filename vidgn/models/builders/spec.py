"""The description of the nets beside I3D, and the last steps of building one."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from vidgn.models.net import VideoNet, check_sizes, zero_last_gammas
from vidgn.norms.layers import NormFactory, finish_net


@dataclass(frozen=True)
class NetSpec:
    """Describe a net of the table.

    Args:
        name: its row.
        num_classes: classes Q.
        width: channels of the stem.
        dropout: probability before the classifier, in training.
        window: side of the head's spatial mean, in positions: the training crop / 32.

    Raises:
        ValueError: a number out of its range.
    """

    name: str
    num_classes: int
    width: int
    dropout: float
    window: int

    def __post_init__(self) -> None:
        check_sizes(self)


def finish(
    blocks: Sequence[nn.Module],
    *,
    spec: NetSpec,
    norm: NormFactory,
    time_stride: int,
    adapter: nn.Module | None = None,
    pictures: bool = False,
    kind: type[VideoNet] = VideoNet,
) -> VideoNet:
    """Do what the norm needs beyond its layers, start every block as its shortcut, and put the net together.

    The classifier, `proj` of the last block, keeps plain weights.
    """
    *trunk, head = blocks
    finish_net(nn.ModuleList([*trunk, *(part for name, part in head.named_children() if name != "proj")]), norm)
    zero_last_gammas(nn.ModuleList(trunk))
    return kind(nn.ModuleList(blocks), spec=spec, time_stride=time_stride, adapter=adapter, pictures=pictures)
