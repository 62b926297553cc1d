"""Choose the learning rate of a run: `optim.lr=auto`, a short range test before the first step.

A copy of the net and a new optimizer take steps at rates that grow geometrically. The loss, smoothed, first falls, then
rises; the choice is a tenth of the rate at which it was lowest (Smith, "Cyclical Learning Rates", arXiv 1506.01186,
sec. 3.3; the rule is fastai's `minimum`), with two digits. The run itself then starts as if this rate had been typed:
neither its weights nor its random numbers have changed.
"""

import copy
import csv
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.data.batches import ClipBatch
from vidgn.data.module import VideoDataModule
from vidgn.models.net import VideoNet
from vidgn.models.stages import freeze_stages, frozen_names, stages
from vidgn.norms import is_norm
from vidgn.optim import MAX_ADAPTIVE_RATE, OptimSpec, build_optimizer
from vidgn.report.theme import FAINT, PANEL, TRAIN, VAL, as_png, legend, new_figure
from vidgn.runs.config import RunConfig
from vidgn.runs.speed import default_precision, device_type
from vidgn.terminal.console import say

STEPS = 40
CURVE = "lr_range"  # .csv and .png, of a run folder
_SGD = (1e-3, 10.0)  # of optim.lr, at lr_clips clips
_ADAPTIVE = (1e-6, MAX_ADAPTIVE_RATE)
_MEMORY = 0.8  # of the smoothed loss
_RISEN = 3.0  # times the lowest smoothed loss, where the test ends
_SHARE = 0.1  # of the rate at the lowest loss


class Point(NamedTuple):
    """A step: `optim.lr`, the loss before it, and the smoothed loss."""

    lr: float
    loss: float
    smoothed: float


@dataclass(frozen=True)
class Trial:
    """What takes the steps.

    Attributes:
        net: left as it is; a copy is trained.
        normalize: from uint8 clips to the floats of the net.
        loss: of logits and targets.
        device: where.
        clips: of a step.
        frozen: stages that stay as they are.
        clip: largest norm of the gradient; None: any.
        bfloat16: the forward pass computes in it.
    """

    net: VideoNet
    normalize: nn.Module
    loss: nn.Module
    device: torch.device
    clips: int
    frozen: Sequence[str] = ()
    clip: float | None = None
    bfloat16: bool = False


def range_test(trial: Trial, spec: OptimSpec, batches: Iterator[ClipBatch], *, accumulate: int = 1) -> list[Point]:
    """Take up to `STEPS` steps, each at a higher rate, until the loss has risen; random numbers are as before it.

    Args:
        trial: the net and its loss.
        spec: the recipe; its schedule and warm-up do not matter, and its rate is the highest one.
        batches: of training, `accumulate` for each step; none are left: the test ends.
        accumulate: batches of a step.
    """
    low, high = rates_of(spec.name)
    points: list[Point] = []
    mean = 0.0
    with torch.random.fork_rng(devices=[trial.device] if trial.device.type == "cuda" else []):
        torch.manual_seed(0)  # of dropout
        step = _Steps(trial, spec)
        for number in range(STEPS):
            lr = low * (high / low) ** (number / (STEPS - 1))
            group = [batch for _, batch in zip(range(accumulate), batches, strict=False)]
            if not group:
                break
            value = step(group, lr)
            if not math.isfinite(value):
                break
            mean = _MEMORY * mean + (1 - _MEMORY) * value
            points.append(Point(lr, value, mean / (1 - _MEMORY ** (number + 1))))
            if points[-1].smoothed > _RISEN * min(point.smoothed for point in points):
                break
    return points


def rates_of(optimizer: str) -> tuple[float, float]:
    """Return the lowest and the highest `optim.lr` that are tried with an optimizer."""
    return _SGD if optimizer == "sgd" else _ADAPTIVE


def choose_rate(points: Sequence[Point]) -> float:
    """Return a tenth of the rate with the lowest smoothed loss, with two digits.

    >>> choose_rate([Point(0.1, 3.0, 3.0), Point(0.2, 1.0, 2.0), Point(0.4, 9.0, 5.0)])
    0.02

    Raises:
        ValueError: fewer than three steps had a finite loss.
    """
    if len(points) < 3:
        raise ValueError(
            f"optim.lr (auto) took {len(points)} steps with a finite loss, and needs 3 or more; set optim.lr to a "
            "number, such as 0.01."
        )
    best = min(points, key=lambda point: point.smoothed)
    return float(f"{_SHARE * best.lr:.2g}")


def write_curve(points: Sequence[Point], chosen: float, folder: Path) -> None:
    """Write `lr_range.csv` and `lr_range.png` into the run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{CURVE}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Point._fields)
        writer.writerows([f"{value:.6g}" for value in point] for point in points)
    figure, (axes,) = new_figure(PANEL)
    rates = [point.lr for point in points]
    axes.plot(rates, [point.loss for point in points], color=FAINT, label="loss")
    axes.plot(rates, [point.smoothed for point in points], color=TRAIN, label="smoothed")
    axes.axvline(chosen, color=VAL, linestyle="--", label=f"optim.lr {chosen:g}")
    axes.set(xscale="log", xlabel="optim.lr", ylabel="training loss", title="range test")
    legend(axes)
    (folder / f"{CURVE}.png").write_bytes(as_png(figure))


def keep_rate(config: RunConfig, first: Path | None) -> RunConfig:
    """Set `optim.lr=auto` to the rate of the checkpoint that a run resumes from.

    Raises:
        ValueError: several processes would measure the rate, or the checkpoint does not say its rate.
    """
    if config.optim.lr != "auto":
        return config
    trainer = config.trainer
    several = device_type(trainer.accelerator) != "cpu" and torch.cuda.device_count() > 1
    if str(trainer.devices) != "1" and (str(trainer.devices) != "auto" or several):
        raise ValueError(
            f"optim.lr (auto) is measured by one process, but trainer.devices is {trainer.devices}; measure with "
            "trainer.devices=1 test=false trainer.max_steps=1, then give the rate that it prints."
        )
    if first is None:
        return config
    recorded = ((read_checkpoint(first).description.job or {}).get("optim") or {}).get("lr")
    if not isinstance(recorded, float | int):
        raise ValueError(f"optim.lr (auto) is not recorded in {first}; give the rate of the run as optim.lr=NUMBER.")
    return replace(config, optim=replace(config.optim, lr=recorded))


def measure_rate(
    config: RunConfig, net: VideoNet, normalize: nn.Module, loss: nn.Module, data: VideoDataModule, *, folder: Path
) -> float:
    """Run the range test of `optim.lr=auto`, write its curve into the run folder, print the choice and return it."""
    _, high = rates_of(config.optim.name)
    accelerator, accumulate = config.trainer.accelerator, config.trainer.accumulate_grad_batches
    precision = str(config.trainer.precision or default_precision(accelerator) or "32")
    trial = Trial(
        net, normalize, loss, device=torch.device(device_type(accelerator)), clips=config.batch * accumulate,
        frozen=frozen_names(config.freeze, config.train_only), clip=config.trainer.gradient_clip_val,
        bfloat16=precision.startswith("bf16"),
    )  # fmt: skip
    batches = data.first_batches(STEPS * accumulate)
    points = range_test(trial, replace(config.optim, lr=high), batches, accumulate=accumulate)
    rate = choose_rate(points)
    write_curve(points, rate, folder)
    lowest = min(points, key=lambda point: point.smoothed)
    say(
        f"optim.lr=auto: {len(points)} steps at optim.lr {points[0].lr:.2g} to {points[-1].lr:.2g}; the loss was "
        f"lowest ({lowest.smoothed:.3g}) at {lowest.lr:.2g}, so the run takes optim.lr={rate:g}. "
        f"{folder / CURVE}.png shows it"
    )
    return rate


class _Steps:
    """The copy of the net and its optimizer."""

    def __init__(self, trial: Trial, spec: OptimSpec) -> None:
        self.trial = trial
        self.net = copy.deepcopy(trial.net).to(trial.device).train()
        self.normalize = copy.deepcopy(trial.normalize).to(trial.device)
        self.loss = copy.deepcopy(trial.loss).to(trial.device)
        for stage in freeze_stages(self.net, trial.frozen):
            stage.eval()
        self.optimizer, _ = build_optimizer(
            self.net, spec, clips_per_step=trial.clips, total_steps=1, is_norm=is_norm, stages=stages(self.net)
        )
        self.rates = [group["lr"] / spec.peak for group in self.optimizer.param_groups]  # of optim.lr 1

    def __call__(self, batches: Sequence[ClipBatch], rate: float) -> float:
        """Take a step at this rate; return the loss before it."""
        for group, share in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for batch in batches:
            loss = self._loss(batch.to(self.trial.device)) / len(batches)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if self.trial.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.trial.clip)
        self.optimizer.step()
        return total

    def _loss(self, batch: ClipBatch) -> Tensor:
        targets = batch.targets
        labels = batch.labels.repeat_interleave(batch.clips.shape[1]) if targets is None else targets.flatten(0, 1)
        device = self.trial.device.type
        context: Any = torch.autocast(device, torch.bfloat16) if self.trial.bfloat16 else nullcontext()
        with context:
            loss: Tensor = self.loss(self.net(self.normalize(batch.clips.flatten(0, 1))), labels)
        return loss
