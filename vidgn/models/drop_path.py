"""Stochastic depth for any net of residual blocks: "Deep Networks with Stochastic Depth", arXiv 1603.09382.

    training   y = relu(shortcut + b/(1-p) branch),  b = 0 with probability p, else 1, drawn for each clip
    testing    y = relu(shortcut + branch)

p grows linearly from 0 at the first block to `rate` at the last one (eq. 4; timm and SlowFast do the same).
"""

import torch
from torch import Tensor, nn

_SUMS = ("branch_fusion", "mlp_fusion")  # of a residual block, and the second one of an attention block


class DropPathSum(nn.Module):
    """Add a branch to its shortcut; in training the branch of some clips is left out.

    Args:
        rate: probability of leaving a branch out.

    Attributes:
        draws: a number in [0, 1) for each clip (N,): below `rate` the branch is left out. None: from torch's generator.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.draws: Tensor | None = None

    def forward(self, shortcut: Tensor, branch: Tensor) -> Tensor:
        """Return the sum, (N, C, T, H, W)."""
        if not self.training or self.rate == 0:
            return shortcut + branch
        draws = torch.rand(branch.shape[0], device=branch.device) if self.draws is None else self.draws
        mask = (draws >= self.rate).to(branch.dtype) / (1 - self.rate)
        return shortcut + branch * mask.view(-1, *(1 for _ in branch.shape[1:]))

    def extra_repr(self) -> str:
        """Show the rate in print(net)."""
        return f"rate={self.rate:g}"


def add_drop_path(net: nn.Module, rate: float) -> list[DropPathSum]:
    """Give the residual blocks of a net stochastic depth, in place and before the net is fused.

    Parameters and their names stay, so a checkpoint does not know of it.

    Args:
        net: built of pytorchvideo's residual blocks, or of attention blocks, both of whose sums have one rate.
        rate: of the last block; 0 changes nothing.

    Returns:
        The sums that were put in, from the stem to the head.

    Raises:
        ValueError: the rate is not in [0, 1), or the net has no residual block.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"drop_path ({rate}) must be in [0, 1); 0.1 is usual, 0 is none.")
    if rate == 0:
        return []
    blocks = [module for module in net.modules() if hasattr(module, "branch_fusion")]
    if not blocks:
        raise ValueError(f"drop_path ({rate}) needs residual blocks, which this net has not; set drop_path=0.")
    sums = []
    for number, block in enumerate(blocks[1:], start=1):
        for name in _SUMS:
            if hasattr(block, name):
                sums.append(DropPathSum(rate * number / (len(blocks) - 1)))
                setattr(block, name, sums[-1])
    return sums
