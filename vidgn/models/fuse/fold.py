"""Fold batch norms into the convolutions before them, for a net that only tests.

gamma (w x + b - mean) / std + beta = (gamma w / std) x + (gamma (b - mean) / std + beta)
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn
from torch.nn.utils import fuse_conv_bn_weights

from vidgn.norms.batch import FrozenBatchNorm3d
from vidgn.norms.sync import SyncBatchNorm3d
from vidgn.norms.weight_standardization import fold_standardization

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def fold_batch_norms(net: ModuleT) -> ModuleT:
    """Fold every batch norm that follows a convolution, in place, and return the net.

    Convolutions gain a bias and the norms are gone, so checkpoints are loaded before and the net is not trained
    after. Standardized kernels become plain ones. Group norms do not fold: their statistics are the clip's own.

    Raises:
        ValueError: the net is training, where batch norm is not constant.
    """
    if net.training:
        raise ValueError("The net is training, and its batch norms still change; call net.eval() first.")
    fold_standardization(net)
    for module in list(net.modules()):
        for conv_name, norm_name in _PAIRS.get(type(module).__name__, ()):
            conv, norm = _last_convolution(getattr(module, conv_name)), getattr(module, norm_name)
            if isinstance(norm, nn.Sequential) and len(norm) and conv is not None and _folds(norm[0]):
                _fold(conv, norm[0])  # X3D: norm, then squeeze and excitation
                norm[0] = nn.Identity()
            elif conv is not None and _folds(norm):
                _fold(conv, norm)
                setattr(module, norm_name, None)  # the blocks skip what is None
    return net


# pytorchvideo's blocks, and the fused one: which norm follows which convolution.
_BRANCH = (("branch1_conv", "branch1_norm"),)
_PAIRS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "ResNetBasicStem": (("conv", "norm"),),
    "BottleneckBlock": (("conv_a", "norm_a"), ("conv_b", "norm_b"), ("conv_c", "norm_c")),
    "ResBlock": _BRANCH,
    "FusedResBlock": _BRANCH,
    "Conv2plus1d": (("conv_t", "norm"),),
    "FuseFastToSlow": (("conv_fast_to_slow", "norm"),),
}


def _last_convolution(module: object) -> nn.Conv3d | None:
    """The convolution whose output `module` gives: itself, or the second of a (2+1)-D pair."""
    if isinstance(module, nn.Module) and type(module).__name__ == "Conv2plus1d":
        return _last_convolution(module.conv_t if module.conv_xy_first else module.conv_xy)
    return module if isinstance(module, nn.Conv3d) else None


def _folds(norm: object) -> bool:
    return isinstance(norm, nn.BatchNorm3d | nn.SyncBatchNorm | SyncBatchNorm3d | FrozenBatchNorm3d)


def _fold(conv: nn.Conv3d, norm: Any) -> None:
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
