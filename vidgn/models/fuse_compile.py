"""Compile a net whole."""

from typing import TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def compile_net(net: ModuleT, *, cuda_graphs: bool = False) -> ModuleT:
    """Compile what a net computes, as one graph each, when it is first used; return the net.

    Its parameters and their names stay. A part that cannot be compiled is an error, not a slower net.

    Args:
        net: a net; `VideoNet`'s `scores` and `features` are compiled as `forward` is.
        cuda_graphs: replay each graph as one launch, for batches so small that launching takes the time.
    """
    mode = "reduce-overhead" if cuda_graphs else "default"
    for name in ("forward", "scores", "features"):
        if hasattr(net, name):
            setattr(net, name, torch.compile(getattr(net, name), fullgraph=True, mode=mode))
    return net
