"""Write a net's weights as other code bases name them."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vidgn.models.net import VideoNet
from vidgn.norms.batch import FrozenBatchNorm3d
from vidgn.norms.sync import SyncBatchNorm3d
from vidgn.norms.weight_standardization import folded_state_dict


def export_weights(net: VideoNet, path: str | Path, *, names: Literal["pytorchvideo", "mmaction2"]) -> None:
    """Write the tensors of a net, as they are, into a file that pytorchvideo or mmaction2 loads.

    Standardized kernels are written as the plain ones that give the same outputs.

    `pytorchvideo` has our names, under `model_state`. `mmaction2` takes an I3D with batch or group norm, under
    `state_dict`; build it there with `norm_cfg=dict(type='BN3d')` or `'GN'`. Equal names do not make equal
    nets: the stems of the I3Ds differ (`I3DSpec.pool1`).

    Args:
        net: an I3D for `mmaction2`, any net for `pytorchvideo`.
        path: the file to write.
        names: whose.

    Raises:
        ValueError: `names` is unknown, or it has no names for a part of this net.
    """
    if names not in _EXPORTS:
        raise ValueError(f"names={names} is unknown; use {' or '.join(_EXPORTS)}.")
    torch.save(_EXPORTS[names](net), path)


def _to_pytorchvideo(net: nn.Module) -> dict[str, Any]:
    return {"model_state": _plain(folded_state_dict(net))}


def _to_mmaction(net: nn.Module) -> dict[str, Any]:
    kinds = {name: _norm_kind(layer) for name, layer in net.named_modules()}
    state, homeless = {}, []
    for name, tensor in folded_state_dict(net).items():
        renamed = _mmaction_name(name, kinds)
        if renamed is None:
            homeless.append(name)
        else:
            state[renamed] = tensor
    if homeless:
        raise ValueError(
            f"mmaction2's I3D has no place for {len(homeless)} tensors of this net: {', '.join(homeless)}; export an"
            " i3d_r50 or i3d_r101 with norm=bn or norm=gn, or use names=pytorchvideo."
        )
    return {"meta": {}, "state_dict": _plain(state)}


def _mmaction_name(name: str, kinds: Mapping[str, str | None]) -> str | None:
    match = re.fullmatch(_OUR_LAYER, name)
    if match is None:
        head = re.fullmatch(r"blocks\.6\.proj\.(weight|bias)", name)
        return f"cls_head.fc_cls.{head[1]}" if head else None
    stage, block, shortcut, conv, what, tensor = match.groups()
    part = "conv" if what == "conv" else kinds[name.rpartition(".")[0]]
    if part is None or (what == "conv" and tensor != "weight"):
        return None
    if stage is None:
        return f"backbone.conv1.{part}.{tensor}"
    branch = "downsample" if shortcut else f"conv{'abc'.index(conv) + 1}"
    return f"backbone.layer{_LAYER[stage]}.{block}.{branch}.{part}.{tensor}"


# The stem, or: stage, block, then the shortcut or one of its three convolutions.
_OUR_LAYER = (
    r"blocks\.(?:0|([1345])\.res_blocks\.(\d+))\.(?:(branch1)_|branch2\.(?=\w+_([abc])\.))?"
    r"(conv|norm)(?:_[abc])?\.(\w+)"
)
_LAYER = {"1": 1, "3": 2, "4": 3, "5": 4}


def _norm_kind(layer: nn.Module) -> str | None:
    """Name a norm as mmcv names it in a state dict, where its tensors mean what they mean there."""
    if isinstance(layer, nn.GroupNorm):
        return "gn"
    batch_norms = (nn.BatchNorm3d, nn.SyncBatchNorm, SyncBatchNorm3d, FrozenBatchNorm3d)
    return "bn" if isinstance(layer, batch_norms) else None


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


_EXPORTS: Mapping[str, Callable[[nn.Module], dict[str, Any]]] = {
    "pytorchvideo": _to_pytorchvideo,
    "mmaction2": _to_mmaction,
}
