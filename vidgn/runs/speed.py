"""The options that decide how fast a run computes, and nothing else: fuse, compile, cuda_graphs, memory, quantize ...

Results, parameters, their names and checkpoints are those of the plain net, so a run may be resumed or tested with
other options than it began with. The one that rounds more than bfloat16 does, quantize, is for tests alone.
"""

import warnings
from typing import Literal, NamedTuple, cast

import lightning as L
import torch
from torch import nn

from vidgn.classifier import VideoClassifier
from vidgn.models.fuse.choose import choose_kernels
from vidgn.models.fuse.compile import compile_net
from vidgn.models.fuse.conv import ViewConv3d
from vidgn.models.fuse.fold import fold_batch_norms
from vidgn.models.fuse.int8 import check_processor, quantize
from vidgn.models.fuse.rewrite import fuse
from vidgn.models.fuse.tune import tune
from vidgn.norms.fused import GroupNormAct3d
from vidgn.norms.weight_standardization import fold_standardization
from vidgn.runs.allocator import give_back_memory, keep_memory


class SpeedSpec(NamedTuple):
    """These options, checked.

    Args:
        fuse: `auto` rewrites the net (`vidgn.models.fuse`) on a CUDA GPU where `vidgn doctor` found the Triton kernels
            right and faster, on the CPU where it is compiled or computes in less than float32, and on both where it
            keeps little; True does so anywhere and measures, once per machine, which form of each convolution is
            fastest; False never does.
        compile: by torch.compile, as one graph.
        cuda_graphs: replayed as one launch.
        memory: `low` computes what norms give to the next layer again in the backward pass.
        half: whether `trainer.precision` is bfloat16.
        quantize: `int8` convolves in eight-bit integers on a CPU, in a test.
        keep_memory: the process keeps the memory that it frees (`vidgn.runs.allocator`); `auto` where a CPU computes.
    """

    fuse: bool | Literal["auto"] = "auto"
    compile: bool = False
    cuda_graphs: bool = False
    memory: Literal["normal", "low"] = "normal"
    half: bool = False
    quantize: Literal["int8"] | None = None
    keep_memory: bool | Literal["auto"] = "auto"


def check_compilable(norm: str, speed: SpeedSpec) -> None:
    """Refuse to compile what cannot be compiled in training.

    Raises:
        ValueError: norm=mabn, which counts its steps.
    """
    if norm == "mabn" and speed.compile:
        raise ValueError(
            "compile=true cannot compile norm=mabn, which counts its training steps; leave compile out, or use another"
            " norm."
        )


def check_speed(given: SpeedSpec) -> SpeedSpec:
    """Return the options of speed and memory, checked.

    Raises:
        ValueError: a value that is none of the choices, or options that contradict each other.
    """
    if given.fuse not in (True, False, "auto"):
        raise ValueError(f"fuse ({given.fuse}) must be true, false or auto.")
    for name in ("compile", "cuda_graphs"):
        if not isinstance(getattr(given, name), bool):
            raise ValueError(f"{name} ({getattr(given, name)}) must be true or false.")
    if given.memory not in ("normal", "low"):
        raise ValueError(f"memory ({given.memory}) must be normal or low.")
    if given.keep_memory not in (True, False, "auto"):
        raise ValueError(f"keep_memory ({given.keep_memory}) must be true, false or auto.")
    if given.quantize not in (None, "int8"):
        raise ValueError(f"quantize ({given.quantize}) must be int8 or null.")
    if given.quantize and given.fuse is False:
        raise ValueError("quantize=int8 is a property of the fused net, but fuse=false; use fuse=auto.")
    if given.memory == "low" and given.fuse is False:
        raise ValueError("memory=low is a property of the fused net, but fuse=false; use fuse=auto.")
    if given.cuda_graphs and not given.compile:
        raise ValueError("cuda_graphs=true replays compiled graphs, but compile=false; add compile=true.")
    if given.cuda_graphs and not torch.cuda.is_available():
        raise ValueError("cuda_graphs=true needs a CUDA GPU, and there is none here; leave it out.")
    return given


def speed_up(net: nn.Module, spec: SpeedSpec, *, accelerator: str) -> None:
    """Rewrite a net in place, before or after it has its weights.

    Args:
        net: as it was built.
        spec: the options.
        accelerator: the option `trainer.accelerator`.

    Raises:
        ValueError: eight-bit convolutions on another device than a CPU.
        RuntimeError: eight-bit convolutions, which this processor does not have.
    """
    kind = device_type(accelerator)
    if spec.quantize:
        if kind != "cpu":
            raise ValueError(f"quantize=int8 is for a CPU, but the device is {kind}; add trainer.accelerator=cpu.")
        check_processor()
    # On a CPU a step in float32 takes as long fused as not, if it is not compiled (benchmarks/net.md).
    gains = kind == "cpu" and (spec.compile or spec.half or spec.quantize)
    triton = kind == "cuda" and choose_kernels(spec.fuse).triton
    low = spec.memory == "low" and kind in ("cpu", "cuda")
    if spec.fuse is True or (spec.fuse == "auto" and (gains or triton or low)):
        fuse(net, memory=spec.memory)
        for module in net.modules():
            if isinstance(module, GroupNormAct3d):
                module.triton = triton


def kernels_line(spec: SpeedSpec, *, accelerator: str) -> str | None:
    """Return the line that says which kernels a run on a CUDA GPU takes and why; None on other devices."""
    if device_type(accelerator) != "cuda":
        return None
    return f"kernels: {choose_kernels(spec.fuse).reason}"


def device_type(accelerator: str) -> str:
    """Return the type of the device that Lightning will take.

    >>> device_type("cpu")
    'cpu'
    """
    if accelerator in ("auto", "gpu"):
        found = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if found is None else found.type
    return accelerator


def default_precision(accelerator: str) -> Literal["bf16-mixed"] | None:
    """Return the precision of a run that does not say one: bfloat16 on a CUDA GPU that has it, else float32.

    Weights, their gradients and statistics stay float32; a fused net's activations are bfloat16 from end to end.
    """
    if device_type(accelerator) != "cuda" or torch.cuda.get_device_capability() < (8, 0):  # Ampere has bfloat16
        return None
    return "bf16-mixed"


class Speed(L.Callback):
    """Measures forms and compiles, once, when the net is on its device.

    Args:
        spec: the options.
        clip: frames and side of the clips to measure with, and how many at a time.
        frozen: the weights do not change any more.
    """

    def __init__(self, spec: SpeedSpec, *, clip: tuple[int, int, int], frozen: bool = False) -> None:
        self.spec = spec
        self.clip = clip
        self.frozen = frozen
        self._done = False
        self._keeps = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tune for training."""
        self._prepare(trainer, pl_module)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tune for testing, unless the run has trained before."""
        self._prepare(trainer, pl_module)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give memory back that was kept for this run."""
        self._give_back()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give it back where the run fails, too."""
        self._give_back()

    def _give_back(self) -> None:
        if self._keeps:
            self._keeps = not give_back_memory()

    def _prepare(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.spec.keep_memory is True or (self.spec.keep_memory == "auto" and pl_module.device.type == "cpu"):
            self._keeps = keep_memory()
        if self._done:
            return
        self._done = True
        net = cast("VideoClassifier", pl_module).net
        if self.frozen and all(type(parameter) is nn.Parameter for parameter in net.parameters()):  # none is shared out
            fold_standardization(net)
        if self.frozen and any(isinstance(module, ViewConv3d) for module in net.modules()):
            fold_batch_norms(net)
        frames, side, count = self.clip
        if self.spec.fuse is True:
            clip = torch.zeros(count, 3, frames, side, side, device=pl_module.device)
            with trainer.precision_plugin.forward_context():
                tune(net, clip)
        if self.spec.quantize:
            noise = torch.randn(1, 3, frames, side, side, generator=torch.Generator().manual_seed(0))
            quantize(net, noise)
        if self.spec.compile:
            # What torch warns about its compiler is not the user's mistake.
            warnings.filterwarnings("ignore", module=r"torch\._(inductor|dynamo|functorch)")
            compile_net(net, cuda_graphs=self.spec.cuda_graphs, frozen=self.frozen and pl_module.device.type == "cpu")
