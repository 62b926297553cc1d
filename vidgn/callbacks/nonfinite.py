"""A loss or gradient that is not finite: stop before it reaches the weights, and keep the step for replay."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from vidgn.checkpoints.description import KEY, Description
from vidgn.files.whole_files import write_whole
from vidgn.terminal.escape import printable


class NonFiniteError(ArithmeticError):
    """A loss or gradient was infinite or not a number; the weights are those before the step."""


class Seen(NamedTuple):
    """What one rank saw of a step that is not finite."""

    loss: float
    norm: float
    videos: list[str]
    spoilt: list[str]  # names of buffers that are no longer finite

    @property
    def is_at_fault(self) -> bool:
        """Whether it began here; gradients are those of all ranks together and do not say."""
        return bool(self.spoilt) or not math.isfinite(self.loss)


class NonFiniteGuard(L.Callback):
    """Look at every loss and gradient before the optimizer does.

    All ranks of a run stop together, with one sentence, or leave the step out together.

    torchtitan stops at the same place (torchtitan trainer.py, "non-finite loss"); Lightning trains on and
    overwrites the last checkpoint with weights that are not numbers. With a gradient scaler (16-mixed) infinite
    gradients are ordinary and the scaler skips them; there only the loss is looked at.

    Args:
        folder: where the dump goes.
        video_name: gives the name of a row of the training manifest.
        skip: steps that may be left out (no step, no momentum) before the run stops.

    Raises:
        ValueError: `skip` is negative.
    """

    def __init__(self, folder: Path, *, video_name: Callable[[int], str], skip: int = 0) -> None:
        if skip < 0:
            raise ValueError(f"skip_nonfinite ({skip}) must be 0 or more steps; 0 stops at the first.")
        self.folder = folder
        self.video_name = video_name
        self.skip = skip
        self.skipped = 0
        self._losses: list[Tensor] = []  # of the batches of this step
        self._batch: Any = None
        self._batch_idx = 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the batch."""
        self._batch, self._batch_idx = batch, batch_idx

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Remember the loss; it is looked at together with the gradient, so that the device is waited for once."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Stop, or leave the step out.

        Raises:
            NonFiniteError: with the step, the rate, the videos and the dump.
        """
        loss = torch.stack(self._losses).sum()
        self._losses = []
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None and not scaled]
        norm = gradient_norm(gradients) if gradients else torch.zeros_like(loss)
        loss_value, norm_value = torch.stack([loss.float(), norm.float().to(loss.device)]).tolist()
        bad = not (math.isfinite(loss_value) and math.isfinite(norm_value))
        if trainer.world_size > 1:
            bad = trainer.strategy.reduce_boolean_decision(bad, all=False)
        if bad:
            names = [self.video_name(int(row)) for row in self._batch.videos]
            spoilt = [name for name, buffer in pl_module.named_buffers() if not bool(torch.isfinite(buffer).all())]
            mine = Seen(loss_value, norm_value, names, spoilt)
            self._answer(trainer, pl_module, optimizer, seen=_of_all_ranks(mine, trainer.world_size))

    def state_dict(self) -> dict[str, Any]:
        """Remember how many steps were left out."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue counting."""
        self.skipped = state_dict["skipped"]

    def _answer(
        self, trainer: L.Trainer, module: L.LightningModule, optimizer: torch.optim.Optimizer, *, seen: list[Seen]
    ) -> None:
        """Do what all ranks do at this step; each has what all of them saw."""
        ranks = [rank for rank, one in enumerate(seen) if one.is_at_fault] or list(range(len(seen)))
        first, rate = seen[ranks[0]], optimizer.param_groups[0]["lr"]
        where = f" on rank {', '.join(map(str, ranks))} of {len(seen)}" if len(seen) > 1 else ""
        names = [name for rank in ranks for name in seen[rank].videos]
        what = (
            f"step {trainer.global_step} (epoch {trainer.current_epoch}, batch {self._batch_idx}): loss {first.loss}"
            f"{where}, gradient norm {first.norm}, rate {rate:g}, videos {', '.join(names[:16])}"
        )
        spoilt = [name for one in seen for name in one.spoilt]
        if self.skipped < self.skip and not spoilt:
            self.skipped += 1
            optimizer.zero_grad(set_to_none=True)  # SGD leaves parameters without a gradient as they are
            if trainer.is_global_zero:
                line = f"warning: {what}; left out ({self.skipped} of skip_nonfinite={self.skip})"
                print(printable(line), flush=True)
            return
        dumps = [self.folder / f"nonfinite-step{trainer.global_step}-rank{rank}.pt" for rank in range(len(seen))]
        self._dump(trainer, module, dumps[trainer.global_rank], ranks, seen, rate)
        why = f" and {spoilt[0]} is no longer finite" if spoilt else ""
        raise NonFiniteError(
            f"{what}{why}; the weights are as before it and the last checkpoint stands. Look at the step again with "
            f"vidgn replay {dumps[ranks[0]]}, lower optim.lr, or allow skip_nonfinite=N"
        )

    def _dump(
        self, trainer: L.Trainer, module: L.LightningModule, path: Path, ranks: list[int], seen: list[Seen], rate: float
    ) -> None:
        """Keep the step of the ranks at fault; the others wait, as who starts them ends all when one has ended."""
        mine = seen[trainer.global_rank]
        state = self._state(trainer, module, mine.videos, loss=mine.loss, norm=mine.norm, rate=rate)  # by all ranks
        try:
            if trainer.global_rank in ranks:
                write_whole(path, lambda file: torch.save(state, file))
        finally:
            trainer.strategy.barrier()

    def _state(
        self, trainer: L.Trainer, module: L.LightningModule, names: list[str], **values: float
    ) -> dict[str, Any]:
        description: Description | None = getattr(module, "description", None)
        return {
            KEY: {} if description is None else description.to_plain(),
            "state_dict": {
                name: value.detach().cpu() for name, value in trainer.strategy.lightning_module_state_dict().items()
            },
            "global_step": trainer.global_step,
            "epoch": trainer.current_epoch,
            "replay": {
                "clips": self._batch.clips.cpu(),
                "labels": self._batch.labels.cpu(),
                **_targets(self._batch),
                **_loss(module),
                **_dropped(module),
                "videos": names,
                "batch": self._batch_idx,
                "rank": trainer.global_rank,
                "seed": module.seed,
                **values,
            },
        }


def _targets(batch: Any) -> dict[str, Any]:
    """Return the targets of clips that are mixed or have several classes."""
    targets = getattr(batch, "targets", None)
    return {} if targets is None else {"targets": targets.cpu()}


def _loss(module: L.LightningModule) -> dict[str, Any]:
    """Return what the step minimized, as plain values."""
    loss = getattr(module, "loss", None)
    return {} if loss is None else {"minimized": loss.to_plain(), "teacher": module.teacher is not None}


def _dropped(module: L.LightningModule) -> dict[str, Any]:
    """Return the rate of drop path and what each sum drew, (sums, N); nothing for a net without it.

    A sum is known by its `draws` (vidgn/models/drop_path.py): callbacks do not import models.
    """
    sums: list[Any] = [part for part in module.modules() if isinstance(getattr(part, "draws", None), Tensor)]
    return {"drop_path": {"rate": sums[-1].rate, "draws": torch.stack([s.draws.cpu() for s in sums])}} if sums else {}


def _of_all_ranks(mine: Seen, world_size: int) -> list[Seen]:
    """Return what each rank saw, in the order of ranks."""
    if world_size == 1:
        return [mine]
    seen: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(seen, mine)
    return seen


def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return the norm of all gradients together; where each rank has a part of every one, all ranks must ask."""
    parts = [part.to_local() if isinstance(part, DTensor) else part for part in gradients]
    norm: Tensor = torch.stack(torch._foreach_norm(parts)).norm()
    if not isinstance(gradients[0], DTensor):
        return norm
    squares: Tensor = norm.float().square()
    torch.distributed.all_reduce(squares, group=gradients[0].device_mesh.get_group())
    return squares.sqrt()
