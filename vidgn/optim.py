"""Optimizer: parameter groups, the linear learning-rate rule, the schedule of one run."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

import torch
from torch import nn

Schedule = Literal["steps", "cosine", "linear", "constant"]
Optimizer = Literal["sgd", "adamw", "adam", "nadam", "radam", "rmsprop"]
STAGES = ("stem", "res2", "res3", "res4", "res5", "head")  # what `rates` and `layer_decay` tell apart

MAX_ADAPTIVE_RATE = 0.05  # above, an optimizer that divides by the gradient's size only jumps about


@dataclass(frozen=True)
class OptimSpec:
    """A training recipe. The defaults are the paper's (video-nonlocal-net, `optim=paper`).

    Attributes:
        lr: learning rate at `lr_clips` clips per optimizer step; it grows linearly with the clips. Until training
            begins it may be None (it follows from the net) or auto (it is measured).
        lr_clips: clips per step that `lr` was tuned for (8 GPUs x 8 clips).
        momentum: of SGD.
        nesterov: look ahead (video-nonlocal-net; the paper's text is silent).
        weight_decay: on convolutions and the classifier.
        decay_norms: put the weight decay on norm parameters and biases too.
        schedule: `steps` divides the rate at `drops`, `cosine` and `linear` take it to zero, `constant` keeps it.
        drops: fractions of the run at which the rate falls (150k and 300k of 400k iterations).
        drop_factor: what the rate is multiplied by at each drop.
        warmup: fraction of the run in which the rate grows linearly from zero.
        name: the optimizer, of torch.optim.
        betas: decay of the two moments, of adamw, adam, nadam and radam.
        layer_decay: the rate of each stage is this times that of the next one; the head has the full rate.
            "BEiT" (arXiv 2106.08254) fine-tunes so.
        rates: what the rate of a stage is multiplied by, such as {"head": 10.0}.
        agc: largest size of the gradient of a filter, as a share of the filter's; None: no adaptive clipping.
    """

    name: Optimizer = "sgd"
    betas: tuple[float, float] = (0.9, 0.999)
    agc: float | None = None
    layer_decay: float = 1.0
    rates: Mapping[str, float] = field(default_factory=dict)
    lr: float | Literal["auto"] | None = 0.01
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
        is_known = isinstance(self.lr, float | int)
        if (is_known and not 0 < self.peak < math.inf) or not (is_known or self.lr in (None, "auto")):
            raise ValueError(f"optim.lr ({self.lr}) must be a positive number; the paper's is 0.01")
        if self.lr_clips < 1:
            raise ValueError(f"optim.lr_clips ({self.lr_clips}) must be at least 1; the paper's is 64")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"optim.warmup ({self.warmup}) must be a fraction of the run in [0, 1)")
        if any(not 0 < drop < 1 for drop in self.drops) or list(self.drops) != sorted(self.drops):
            raise ValueError(f"optim.drops ({list(self.drops)}) must be growing fractions of the run in (0, 1)")
        if self.name not in get_args(Optimizer):
            raise ValueError(f"optim.name ({self.name}) must be one of {', '.join(get_args(Optimizer))}")
        if self.name == "sgd" and self.nesterov and not 0 < self.momentum < 1:
            raise ValueError(
                f"optim.momentum ({self.momentum}) must lie in (0, 1) with nesterov; set optim.nesterov=false"
            )
        if self.name != "sgd" and is_known and self.peak > MAX_ADAPTIVE_RATE:
            raise ValueError(
                f"optim.lr ({self.lr}) is a rate for sgd and must be at most {MAX_ADAPTIVE_RATE} for "
                f"optim.name={self.name}; use the recipe optim=adamw, or set optim.lr=0.001"
            )
        if len(self.betas) != 2 or any(not 0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optim.betas ({list(self.betas)}) must be two numbers in [0, 1), such as [0.9,0.999]")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"optim.layer_decay ({self.layer_decay}) must be in (0, 1]; 1 has one rate for all stages")
        if self.agc is not None and not 0 < self.agc <= 1:
            raise ValueError(f"optim.agc ({self.agc}) must be a share in (0, 1], such as 0.01, or null for no clipping")
        for stage, rate in self.rates.items():
            if stage not in STAGES:
                raise ValueError(f"optim.rates.{stage} is unknown; the stages are {', '.join(STAGES)}")
            if rate < 0 or not math.isfinite(rate):
                raise ValueError(f"optim.rates.{stage} ({rate}) must be 0 or more; 1 is the rate of the recipe")

    @property
    def peak(self) -> float:
        """The rate at `lr_clips` clips, once it is known."""
        assert isinstance(self.lr, float | int)
        return self.lr

    def learning_rate(self, clips_per_step: int) -> float:
        """Return the peak rate for `clips_per_step` clips (over all devices): the linear rule.

        >>> OptimSpec().learning_rate(32)
        0.005
        """
        return self.peak * clips_per_step / self.lr_clips

    def factor(self, step: int, total_steps: int) -> float:
        """Return what the peak rate is multiplied by at 0-based `step` of `total_steps`.

        >>> [OptimSpec().factor(step, 400) for step in (0, 149, 150, 299, 300)]
        [1.0, 1.0, 0.1, 0.1, 0.01]
        """
        warmup_steps = round(self.warmup * total_steps)
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))
        if self.schedule == "linear":
            return 1 - progress
        if self.schedule == "constant":
            return 1.0
        passed = sum(step >= round(drop * total_steps) for drop in self.drops)
        return round(self.drop_factor**passed, 12)

    def stage_rate(self, stage: str) -> float:
        """Return what the rate is multiplied by in a stage.

        >>> spec = OptimSpec(layer_decay=0.5, rates={"head": 10.0})
        >>> [spec.stage_rate(stage) for stage in STAGES]
        [0.03125, 0.0625, 0.125, 0.25, 0.5, 10.0]
        """
        below_head = len(STAGES) - 1 - STAGES.index(stage)
        return self.layer_decay**below_head * self.rates.get(stage, 1.0)


OPTIM_FIELDS = tuple(entry.name for entry in fields(OptimSpec))


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


AGC_EPS = 1e-3  # what a filter of zeros counts as; sec. 4.1 of the paper below


@torch.no_grad()
def clip_adaptively(parameters: Iterable[nn.Parameter], share: float) -> None:
    """Clip the gradient of each output unit to `share` of the unit's own norm, in place: adaptive gradient clipping.

        G_i  <-  share * max(||W_i||, 1e-3) / ||G_i|| * G_i       where ||G_i|| > share * max(||W_i||, 1e-3)

    A unit is a filter, a row of a linear layer, or a whole vector. The authors leave the classifier out.
    Source: Brock et al., "High-Performance Large-Scale Image Recognition Without Normalization" (arXiv 2102.06171),
    Eq. 3.

    >>> weight = nn.Parameter(torch.ones(1, 4))  # of norm 2
    >>> weight.grad = torch.ones(1, 4)
    >>> clip_adaptively([weight], 0.01)
    >>> weight.grad[0, 0]
    tensor(0.0100)
    """
    for parameter in parameters:
        if parameter.grad is None:
            continue
        axes = list(range(1, parameter.dim())) or None
        largest = torch.linalg.vector_norm(parameter, dim=axes, keepdim=True).clamp_min(AGC_EPS) * share
        size = torch.linalg.vector_norm(parameter.grad, dim=axes, keepdim=True)
        factor = torch.where(size > largest, largest / size, torch.ones_like(size))
        parameter.grad.mul_(factor if parameter.dim() > 1 else factor.reshape(()))


def build_optimizer(
    model: nn.Module,
    spec: OptimSpec,
    *,
    clips_per_step: int,
    total_steps: int,
    is_norm: Callable[[nn.Module], bool],
    stages: Mapping[str, nn.Module] | None = None,
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Build the optimizer and its schedule, which is to be advanced once per optimizer step.

    Args:
        model: the network to train.
        spec: the recipe.
        clips_per_step: clips of one optimizer step over all devices and accumulated batches.
        total_steps: optimizer steps of the whole run.
        is_norm: tells a normalization layer.
        stages: the parts of the model, by the names in `STAGES`, for `layer_decay` and `rates`.

    Raises:
        ValueError: the recipe has rates per stage, but a parameter of the model is in no stage.
    """
    groups = parameter_groups(model, weight_decay=spec.weight_decay, decay_norms=spec.decay_norms, is_norm=is_norm)
    rate = spec.learning_rate(clips_per_step)
    if spec.layer_decay != 1 or any(times != 1 for times in spec.rates.values()):
        groups = _by_stage(groups, stages or {}, spec, rate)
    optimizer = _OPTIMIZERS[spec.name](groups, rate, spec)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: spec.factor(step, total_steps))


def _by_stage(
    groups: list[dict[str, object]], stages: Mapping[str, nn.Module], spec: OptimSpec, rate: float
) -> list[dict[str, object]]:
    """Split each group by stage, each with the rate of its stage; a rate of 0 leaves the stage as it is."""
    stage_of = {parameter: name for name, part in stages.items() for parameter in part.parameters()}
    split: list[dict[str, object]] = []
    for group in groups:
        parameters: Any = group["params"]
        if any(parameter not in stage_of for parameter in parameters):
            raise ValueError(
                "optim.layer_decay and optim.rates need a net of stages, but it has parameters outside of "
                f"{', '.join(stages) or 'any stage'}; leave both out"
            )
        for stage in stages:
            members = [parameter for parameter in parameters if stage_of[parameter] == stage]
            if members:
                split.append({**group, "params": members, "lr": rate * spec.stage_rate(stage)})
    return split


def _sgd(groups: Any, rate: float, spec: OptimSpec) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=rate, momentum=spec.momentum, nesterov=spec.nesterov)


def _moments(kind: Callable[..., torch.optim.Optimizer]) -> Callable[[Any, float, OptimSpec], torch.optim.Optimizer]:
    return lambda groups, rate, spec: kind(groups, lr=rate, betas=spec.betas)


def _rmsprop(groups: Any, rate: float, spec: OptimSpec) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(groups, lr=rate, momentum=spec.momentum)


_OPTIMIZERS: Mapping[str, Callable[[Any, float, OptimSpec], torch.optim.Optimizer]] = {
    "sgd": _sgd,
    "adamw": _moments(torch.optim.AdamW),
    "adam": _moments(torch.optim.Adam),
    "nadam": _moments(torch.optim.NAdam),
    "radam": _moments(torch.optim.RAdam),
    "rmsprop": _rmsprop,
}
