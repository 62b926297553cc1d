"""Optimizer: parameter groups, the linear learning-rate rule, the schedule of one run."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, get_args

import torch
from torch import nn

Schedule = Literal["steps", "cosine"]


@dataclass(frozen=True)
class OptimSpec:
    """A training recipe. The defaults are the paper's (video-nonlocal-net, `optim=paper`).

    Attributes:
        lr: learning rate at `lr_clips` clips per optimizer step; it grows linearly with the clips.
        lr_clips: clips per step that `lr` was tuned for (8 GPUs x 8 clips).
        momentum: of SGD.
        nesterov: look ahead (video-nonlocal-net; the paper's text is silent).
        weight_decay: on convolutions and the classifier.
        decay_norms: put the weight decay on norm parameters and biases too.
        schedule: `steps` divides the rate at `drops`, `cosine` takes it to zero.
        drops: fractions of the run at which the rate falls (150k and 300k of 400k iterations).
        drop_factor: what the rate is multiplied by at each drop.
        warmup: fraction of the run in which the rate grows linearly from zero.
    """

    lr: float = 0.01
    lr_clips: int = 64
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    decay_norms: bool = False
    schedule: Schedule = "steps"
    drops: tuple[float, ...] = (0.375, 0.75)
    drop_factor: float = 0.1
    warmup: float = 0.0

    def __post_init__(self) -> None:
        if self.schedule not in get_args(Schedule):
            raise ValueError(f"optim.schedule ({self.schedule!r}) must be one of {', '.join(get_args(Schedule))}")
        if not self.lr > 0 or not math.isfinite(self.lr):
            raise ValueError(f"optim.lr ({self.lr}) must be a positive number; the paper's is 0.01")
        if self.lr_clips < 1:
            raise ValueError(f"optim.lr_clips ({self.lr_clips}) must be at least 1; the paper's is 64")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"optim.warmup ({self.warmup}) must be a fraction of the run in [0, 1)")
        if any(not 0 < drop < 1 for drop in self.drops) or list(self.drops) != sorted(self.drops):
            raise ValueError(f"optim.drops ({list(self.drops)}) must be growing fractions of the run in (0, 1)")
        if self.nesterov and not 0 < self.momentum < 1:
            raise ValueError(
                f"optim.momentum ({self.momentum}) must lie in (0, 1) with nesterov; set optim.nesterov=false"
            )

    def learning_rate(self, clips_per_step: int) -> float:
        """Return the peak rate for `clips_per_step` clips (over all devices): the linear rule.

        >>> OptimSpec().learning_rate(32)
        0.005
        """
        return self.lr * clips_per_step / self.lr_clips

    def factor(self, step: int, total_steps: int) -> float:
        """Return what the peak rate is multiplied by at 0-based `step` of `total_steps`.

        >>> [OptimSpec().factor(step, 400) for step in (0, 149, 150, 299, 300)]
        [1.0, 1.0, 0.1, 0.1, 0.01]
        """
        warmup_steps = round(self.warmup * total_steps)
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if self.schedule == "cosine":
            progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        passed = sum(step >= round(drop * total_steps) for drop in self.drops)
        return round(self.drop_factor**passed, 12)


OPTIM_FIELDS = tuple(field.name for field in fields(OptimSpec))


def parameter_groups(
    model: nn.Module, *, weight_decay: float, decay_norms: bool, is_norm: Callable[[nn.Module], bool]
) -> list[dict[str, object]]:
    """Split the trainable parameters into those with and those without weight decay.

    Without decay are the parameters of every module for which `is_norm` holds, and every bias, unless
    `decay_norms`. Grouping by the module's kind rather than by `_BatchNorm` or by name finds group norm too,
    which SlowFast/slowfast/models/optimizer.py:42 misses.

    Returns:
        Groups for a torch optimizer; each parameter is in exactly one.
    """
    decay: list[nn.Parameter] = []
    no_decay: list[nn.Parameter] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                exempt = not decay_norms and (is_norm(module) or name == "bias")
                (no_decay if exempt else decay).append(parameter)
    groups: list[dict[str, object]] = [
        {"params": decay, "weight_decay": weight_decay},
        {"params": no_decay, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(
    model: nn.Module,
    spec: OptimSpec,
    *,
    clips_per_step: int,
    total_steps: int,
    is_norm: Callable[[nn.Module], bool],
) -> tuple[torch.optim.SGD, torch.optim.lr_scheduler.LambdaLR]:
    """Build SGD and its schedule, which is to be advanced once per optimizer step.

    Args:
        model: the network to train.
        spec: the recipe.
        clips_per_step: clips of one optimizer step over all devices and accumulated batches.
        total_steps: optimizer steps of the whole run.
        is_norm: tells a normalization layer.
    """
    groups = parameter_groups(model, weight_decay=spec.weight_decay, decay_norms=spec.decay_norms, is_norm=is_norm)
    optimizer = torch.optim.SGD(
        groups, lr=spec.learning_rate(clips_per_step), momentum=spec.momentum, nesterov=spec.nesterov
    )
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: spec.factor(step, total_steps))
