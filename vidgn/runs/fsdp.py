"""trainer.strategy=fsdp: weights, gradients and momentum are shared out over the devices while a run trains.

    training       each rank keeps its part of every weight; a stage of the net is whole while it computes
    validation     the whole net is on every rank, since ranks may have unequal numbers of batches
    checkpoints    whole, the same file that ddp writes; either resumes from the other's
    after it       the net is a plain one again, as the test wants it

By torch's `fully_shard` (FSDP2), on the CPU (gloo) as on GPUs (NCCL). Lightning 2.6.6 has two strategies for this;
neither fits: FSDPStrategy needs a GPU, and ModelParallelStrategy goes round the CheckpointIO when it reads.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, cast

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from vidgn.classifier import VideoClassifier
from vidgn.runs.speed import SpeedSpec


class Sharded(DDPStrategy):
    """DDP's launch, ranks and collectives, around a net that is shared out."""

    _plain: nn.Module | None = None  # the net as it was built, for the time after training

    def setup(self, trainer: L.Trainer) -> None:
        """Keep a plain copy of the net in main memory, then share out the net itself."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._plain = copy.deepcopy(self._classifier.net)
        super().setup(trainer)

    def configure_ddp(self) -> None:
        """Share out the net instead of wrapping it; all ranks begin with the first one's, as with DDP."""
        same_everywhere([*self._classifier.net.parameters(), *self._classifier.net.buffers()])
        shard(self._classifier.net, init_device_mesh(self.root_device.type, (self.world_size,)))

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Train with the first rank's running statistics, as DDP does: they are what a checkpoint has."""
        same_everywhere(self._classifier.net.buffers())
        return super().training_step(*args, **kwargs)

    def on_validation_start(self) -> None:
        """Gather the net, for ranks that are not in step.

        Lightning validates within training under `no_grad`: weights gathered in inference mode could not be trained.
        """
        same_everywhere(self._classifier.net.buffers())
        for part in _parts(self._classifier.net):
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()

    def on_validation_end(self) -> None:
        """Share it out again."""
        for part in _parts(self._classifier.net):
            part.reshard()
            part.set_reshard_after_forward(True, recurse=False)

    def on_train_end(self) -> None:
        """Put the plain net back, with the weights there are now; the optimizer's state becomes whole too."""
        assert self._plain is not None
        classifier, plain = self._classifier, self._plain
        plain.load_state_dict(whole(classifier.net.state_dict()))
        classifier.net = plain.to(self.root_device)
        for optimizer in self.optimizers:
            for weight, state in optimizer.state.items():
                optimizer.state[weight] = whole(state)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return whole weights; all ranks must ask."""
        return cast("dict[str, Any]", whole(super().lightning_module_state_dict()))

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return a whole state; all ranks must ask."""
        return cast("dict[str, Any]", whole(super().optimizer_state(optimizer)))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Share out a whole state."""
        super().load_optimizer_state_dict(checkpoint)
        for optimizer in self.optimizers:
            for weight, state in optimizer.state.items():
                optimizer.state[weight] = {name: shared_like(value, weight) for name, value in state.items()}

    @property
    def _classifier(self) -> VideoClassifier:
        return cast("VideoClassifier", self.lightning_module)


def check_sharding(strategy: str, *, precision: object, speed: SpeedSpec) -> None:
    """Refuse what does not go with weights that are shared out.

    Raises:
        ValueError: the strategy is fsdp, and an option asks for compiled or measured layers or for scaled gradients.
    """
    if strategy != "fsdp":
        return
    if str(precision) in ("16-mixed", "16"):
        raise ValueError(
            f"trainer.precision ({precision}) scales gradients, which trainer.strategy=fsdp does not; use bf16-mixed, "
            "or trainer.strategy=ddp."
        )
    for name, value in (("compile", speed.compile), ("cuda_graphs", speed.cuda_graphs), ("fuse", speed.fuse)):
        if value is True:
            raise ValueError(
                f"{name}=true takes whole layers, but with trainer.strategy=fsdp a layer is whole only while it "
                f"computes; leave {name} out, or use trainer.strategy=ddp."
            )


def check_clipping(agc: float | None, *, strategy: str) -> None:
    """Refuse adaptive clipping of filters that are shared out.

    Raises:
        ValueError: the strategy is fsdp and `optim.agc` is set.
    """
    if agc is not None and strategy == "fsdp":
        raise ValueError(
            f"optim.agc ({agc}) needs whole filters, which trainer.strategy=fsdp shares out; use trainer.strategy=ddp,"
            " or leave optim.agc out."
        )


def shard(net: nn.Module, mesh: DeviceMesh) -> None:
    """Share out a net in place: each of its blocks is a unit, gathered while it computes; the rest is one more."""
    for weight in net.parameters():
        weight.data = weight.data.contiguous()  # a fused net's are channels-last, which `fully_shard` does not take
    for block in net.get_submodule("blocks").children():
        if next(block.parameters(), None) is not None:
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(net, mesh=mesh, reshard_after_forward=True)


def whole(state: Any) -> Any:
    """Return a nested state with its tensors whole and in main memory; all ranks must ask."""
    return tree_map(lambda value: value.full_tensor().cpu() if isinstance(value, DTensor) else value, state)


def shared_like(value: Any, weight: Tensor) -> Any:
    """Return this rank's part of a whole tensor that belongs to a weight that is shared out."""
    if not isinstance(weight, DTensor) or not isinstance(value, Tensor) or value.shape != weight.shape:
        return value
    return distribute_tensor(value, weight.device_mesh, weight.placements, src_data_rank=None)


@torch.no_grad()
def same_everywhere(tensors: Iterable[Tensor]) -> None:
    """Give all ranks the first one's tensors, in one message per dtype."""
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_dtype.setdefault(tensor.dtype, []).append(tensor)
    for group in by_dtype.values():
        message = torch.cat([tensor.flatten() for tensor in group])
        dist.broadcast(message, 0)
        for tensor, part in zip(group, torch.split(message, [tensor.numel() for tensor in group]), strict=True):
            tensor.copy_(part.view_as(tensor))


def _parts(net: nn.Module) -> Iterable[FSDPModule]:
    return [module for module in net.modules() if isinstance(module, FSDPModule)]
