"""The baseline in a process of its own, as its users run it, for `net.py`: our settings of the process are not its."""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, Self

import torch
from net_rounds import Elsewhere, group_norm_of, randomized, step
from torch import Tensor

from vidgn.models.builders import I3DSpec, build_i3d


class Peer:
    """A process that holds pytorchvideo's net with nn.GroupNorm and runs it when asked.

    Args:
        spec: the net.
        groups: of its norms.
        threads: it computes with.
        cpu: count its CPU seconds, not those of the clock.
    """

    def __init__(self, spec: I3DSpec, *, groups: int, threads: int, cpu: bool = False) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, spec, groups, threads, cpu), daemon=True)
        self._process.start()
        theirs.close()

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Give it weights."""
        self._ask("load", {name: tensor.numpy() for name, tensor in weights.items()})

    def evaluate(self, clip: Tensor) -> Callable[[], Elsewhere]:
        """Return a run of a clip (1, 3, T, H, W), which returns logits."""
        self._ask("clip", clip.numpy())
        return lambda: self._ask("evaluate", None)

    def train(self, clips: Tensor, labels: Tensor) -> Callable[[], Elsewhere]:
        """Return a training step, which returns the loss."""
        self._ask("train", (clips.numpy(), labels.numpy()))
        return lambda: self._ask("step", None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def _ask(self, what: str, value: Any) -> Elsewhere:
        self._pipe.send((what, value))
        seconds, result = self._pipe.recv()
        return Elsewhere(seconds, result)


def _serve(pipe: Connection, spec: I3DSpec, groups: int, threads: int, cpu: bool) -> None:
    torch.set_num_threads(threads)
    clock = time.process_time if cpu else time.perf_counter
    net = randomized(build_i3d(spec, norm=group_norm_of(groups))).eval()
    steps: list[Callable[[], float]] = []
    clips: list[Tensor] = []
    while True:
        what, value = pipe.recv()
        if what == "load":
            net.load_state_dict({name: torch.from_numpy(array) for name, array in value.items()})
        elif what == "clip":
            clips = [torch.from_numpy(value)]
        elif what == "train":
            steps = [step(net.train(), *map(torch.from_numpy, value))]
        start = clock()
        if what == "evaluate":
            with torch.inference_mode():
                result: Any = net(clips[0]).numpy()
        else:
            result = steps[0]() if what == "step" else None
        pipe.send((clock() - start, result))
