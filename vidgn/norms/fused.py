"""Group norm, residual and ReLU as one layer."""

from torch import Tensor

from vidgn.norms.kernels.operation import group_norm_act
from vidgn.norms.layers import GroupNorm3d


class GroupNormAct3d(GroupNorm3d):
    """Normalize groups of channels over (T, H, W), add a residual, apply ReLU, in one operation.

    Parameters and their names are those of `GroupNorm3d`. Input and output have one shape, dtype and layout; under
    autocast bfloat16 stays bfloat16.

    >>> import torch
    >>> layer = GroupNormAct3d(64)
    >>> layer(torch.zeros(2, 64, 8, 7, 7), residual=-torch.ones(2, 64, 8, 7, 7)).max()
    tensor(0., grad_fn=<MaxBackward1>)
    """

    relu = True  # whether the ReLU is part of the layer
    triton = True  # whether CUDA may run the Triton kernels; else torch's operations

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        """Give relu(norm(input) + residual), or without the ReLU if `relu` is off."""
        return group_norm_act(
            input, self.weight, self.bias, self.num_groups, self.eps, residual, self.relu, triton=self.triton
        )

    def extra_repr(self) -> str:
        """Say what `nn.GroupNorm` says, and whether the ReLU is included."""
        return f"{super().extra_repr()}, relu={self.relu}"
