"""Detectron's recipe: the rate by images per step, the schedule in steps, decay and rate by kind of parameter."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from vidgn.norms import is_norm


@dataclass(frozen=True)
class DetectorOptim:
    """The options `optim.*` of task=detect. The defaults are Detectron's schedule 1x.

    Attributes:
        lr: rate at `lr_images` images per step; it grows linearly with them.
        lr_images: images per step (8 GPUs x 2).
        steps: optimizer steps at `lr_images` images; a run with other batches sees as many images.
        drops: of these steps, where the rate falls.
        drop_factor: what the rate is multiplied by there.
        warmup_steps: steps of the run in which the rate rises linearly.
        warmup_from: share of the rate at the first step.
        momentum: of SGD.
        weight_decay: on kernels and matrices; biases have none.
        decay_norms: weight decay on gamma and beta.
        bias_rate: times the rate, for biases of convolutions and linear layers.

    Raises:
        ValueError: a value is out of its range.
    """

    lr: float = 0.02
    lr_images: int = 16
    steps: int = 90_000
    drops: tuple[int, ...] = (60_000, 80_000)
    drop_factor: float = 0.1
    warmup_steps: int = 500
    warmup_from: float = 1 / 3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay_norms: bool = False
    bias_rate: float = 2.0

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"optim.lr ({self.lr}) must be a positive number; Detectron's is 0.02 at 16 images.")
        for name, least in (("lr_images", 1), ("steps", 1), ("warmup_steps", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"optim.{name} ({getattr(self, name)}) must be at least {least}.")
        if list(self.drops) != sorted(self.drops) or any(not 0 < drop <= self.steps for drop in self.drops):
            raise ValueError(
                f"optim.drops ({list(self.drops)}) must be growing steps up to optim.steps ({self.steps}); set both or "
                "optim.drops=[]."
            )
        if not 0 < self.warmup_from <= 1:
            raise ValueError(f"optim.warmup_from ({self.warmup_from}) must be in (0, 1]; Detectron's is a third.")
        if self.weight_decay < 0 or self.bias_rate < 0:
            raise ValueError(
                f"optim.weight_decay ({self.weight_decay}) and optim.bias_rate ({self.bias_rate}) must be 0 or more."
            )

    def learning_rate(self, images: int) -> float:
        """Return the rate for `images` images per step over all devices: the linear rule.

        >>> DetectorOptim().learning_rate(2)
        0.0025
        """
        return self.lr * images / self.lr_images

    def total_steps(self, images: int) -> int:
        """Return the steps of a run with `images` images per step: as many images as the recipe sees.

        >>> DetectorOptim().total_steps(8)
        180000
        """
        return max(1, round(self.steps * self.lr_images / images))

    def factor(self, step: int, images: int) -> float:
        """Return what the rate is multiplied by at 0-based `step` of a run with `images` images per step.

        >>> [round(DetectorOptim().factor(step, 16), 3) for step in (0, 250, 500, 60000, 80000)]
        [0.333, 0.667, 1.0, 0.1, 0.01]
        """
        scale = self.total_steps(images) / self.steps
        dropped = self.drop_factor ** sum(step >= round(drop * scale) for drop in self.drops)
        if step >= self.warmup_steps:
            return dropped
        share = step / self.warmup_steps
        return dropped * (self.warmup_from * (1 - share) + share)


def detector_optim(options: Mapping[str, Any]) -> DetectorOptim:
    """Return the options `optim.*` as a record.

    Raises:
        ValueError: an unknown option, or a value out of its range.
    """
    known = [field.name for field in fields(DetectorOptim)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(f"unknown option optim.{unknown[0]} with task=detect; use one of {', '.join(known)}.")
    return DetectorOptim(**{**options, "drops": tuple(options["drops"])})


def detector_groups(net: nn.Module, spec: DetectorOptim, *, rate: float) -> list[dict[str, Any]]:
    """Split what learns into kernels, norms and biases (Detectron lib/modeling/optimizer.py:69-121)."""
    kernels: list[nn.Parameter] = []
    norms: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    for module in net.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                (norms if is_norm(module) else biases if name == "bias" else kernels).append(parameter)
    groups = [
        {"params": kernels, "lr": rate, "weight_decay": spec.weight_decay},
        {"params": norms, "lr": rate, "weight_decay": spec.weight_decay if spec.decay_norms else 0.0},
        {"params": biases, "lr": rate * spec.bias_rate, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_detector_optimizer(
    net: nn.Module, spec: DetectorOptim, *, images: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Return the optimizer and its schedule, which is to be advanced once per optimizer step of `images` images."""
    groups = detector_groups(net, spec, rate=spec.learning_rate(images))
    optimizer = torch.optim.SGD(groups, lr=spec.learning_rate(images), momentum=spec.momentum)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: spec.factor(step, images))
