"""Compile a net whole."""

# mypy: allow-untyped-calls

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import nn

from vidgn.norms.kernels.torch_ops import channels_last_norm

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def compile_net(net: ModuleT, *, cuda_graphs: bool = False, frozen: bool = False) -> ModuleT:
    """Compile what a net computes, as one graph each, when it is first used; return the net.

    Its parameters and their names stay. A part that cannot be compiled is an error, not a slower net.

    Args:
        net: a net; `VideoNet`'s `scores` and `features` are compiled as `forward` is.
        cuda_graphs: replay each graph as one launch, for batches so small that launching takes the time.
        frozen: take the weights for constants where no gradient is asked for: they are laid out once, as the
            processor's convolutions want them, and later changes of them are not seen. Each shape of clips is then
            compiled for itself.
    """
    # Else Dynamo reads the layer and its derivative again at each of 53 places: much of the time of compiling.
    torch.compiler.allow_in_graph(channels_last_norm)
    mode = "reduce-overhead" if cuda_graphs else "default"
    for name in ("forward", "scores", "features"):
        if hasattr(net, name):
            # Frozen convolutions of any size would be laid out otherwise than torch 2.15's compiler believes.
            dynamic = False if frozen else None
            compiled = torch.compile(getattr(net, name), fullgraph=True, mode=mode, dynamic=dynamic)
            setattr(net, name, _frozen(compiled) if frozen else compiled)
    return net


def _frozen(function: Callable[..., Any]) -> Callable[..., Any]:
    from torch._inductor import config

    @wraps(function)
    def call(*inputs: Any) -> Any:
        with config.patch(freezing=True):  # looked at when the graph is made, which is when it is first called
            return function(*inputs)

    return call
