"""Measure what one layer of each norm costs: `python docs/figures/norm_costs.py` prints the table of docs/norms.md.

Parameters and buffers of a layer of C channels; what it keeps for the backward pass beside its input, in bytes per
value of the input; the time of forward and backward relative to `bn`, the best of many rounds in turn.
"""

import time

import torch
from torch import Tensor, nn

from vidgn.norms import NORMS, make_norm

SHAPE = (4, 64, 8, 28, 28)  # N, C, T, H, W
ROUNDS = 60


def main() -> None:
    """Print one line per norm."""
    torch.manual_seed(0)
    x = torch.randn(SHAPE, requires_grad=True)
    layers = {name: make_norm(name)(SHAPE[1]).train() for name in NORMS}
    seconds = dict.fromkeys(layers, float("inf"))
    for _ in range(ROUNDS):
        for name, layer in layers.items():
            seconds[name] = min(seconds[name], _time(layer, x))
    print(f"{SHAPE} float32, torch {torch.__version__}, {torch.get_num_threads()} thread, CPU")
    for name, layer in layers.items():
        parameters = sum(parameter.numel() for parameter in layer.parameters())
        buffers = sum(buffer.numel() for buffer in layer.buffers() if buffer.is_floating_point())
        print(
            f"{name:13} {parameters / SHAPE[1]:4.0f} C {buffers / SHAPE[1]:4.0f} C"
            f" {_kept(layer, x) / x.numel():6.2f} B {seconds[name] / seconds['bn']:6.2f}"
        )


def _time(layer: nn.Module, x: Tensor) -> float:
    began = time.perf_counter()
    layer(x).sum().backward()
    return time.perf_counter() - began


def _kept(layer: nn.Module, x: Tensor) -> int:
    """Count the bytes of the tensors that the backward pass needs beside the input and the parameters."""
    known = {x.data_ptr(), *(parameter.data_ptr() for parameter in layer.parameters())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in known:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x)  # the graph is dropped
    return sum(kept.values())


if __name__ == "__main__":
    main()
