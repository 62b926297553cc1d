"""The paper's comparison of norms on real video: the last blocks of a real ResNet-50 I3D, by clips per step.

    python -m experiments.real features --weights FILE --videos DIR [--stride-1x1]     once
    python -m experiments.real tune --weights FILE [--stride-1x1]
    python -m experiments.real norms --weights FILE [--stride-1x1]     cells that are done stay
    python -m experiments.real norms-table

Settings, written down before the first compared run:

    net        I3D R50 of full width, ImageNet batch-norm weights inflated, no dropout. Stem to the fourth block of res4
               are frozen batch norm, the same for all cells; what they give is computed once, in bfloat16.
    trained    the last two blocks of res4 (2.8 million weights, six norms, one kernel of 3 frames), from the real
               weights, and a fresh linear classifier of their mean; in bfloat16 where its gradients are right. There is
               no res5: its weights are not at hand, and 15 million fresh ones are too many to update at every clip.
    norms      BN; frozen BN; GN, weight and bias fitted to what BN gave (vidgn.norms.convert_norm with calibrate);
               GN with standardized kernels, fitted in the same way. GN has the groups of `norm=gn`.
    clips      32 consecutive raw frames, all ("long") or every second one ("short"); 80 px out of a short side of 88
    views      a training clip has two: its centre, and a random crop, flipped; an epoch draws one of them
    steps      8, 4, 2 or 1 clips; BN's statistics are those of the step, its running averages have momentum 0.1
    recipe     SGD, Nesterov momentum 0.9, weight decay 1e-4, none on norms and biases; cosine to 0; 4 epochs
    rate       chosen per norm at 8 short clips from RATES, by the validation error at the end, seed 100, one run each;
               in proportion to the clips per step at all other sizes (linear rule)
    training   the training clips less a validation part of whole recordings, about a fifth (`split_validation`)
    test       the centre of every test clip, once, after the last epoch. Nothing is chosen on it.
    BN         is tested with its running averages, and with precise statistics of all training clips
    seeds      0, 1, 2: classifier, order and views
    interval   95 %, 1000 bootstrap samples of test recordings, of the mean over seeds; differences in pairs

Why so: a training step of the whole net takes 0.7 s per clip of 8 frames of 112 px, or 39 hours of a core for 96 cells
of 4 epochs; with the two blocks it takes 8 ms (8 clips per step) to 25 ms (1). One block costs half of that and has
three norms; 96 px cost 1.4 times as much. Only costs were measured before the choice; no accuracy was known.
"""

import copy
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.real_features import Clips, batches, load_i3d, read_features, split_res4, split_validation
from vidgn.norms.calibrate import calibrate_net
from vidgn.norms.convert import convert_norm
from vidgn.norms.precise import Moments, statistics_layers

RESULTS = Path(__file__).parent / "results" / "real"
NORMS = {"bn": "BN", "frozen_bn": "frozen BN", "gn": "GN", "gn_ws": "GN + WS"}
BATCHES = (8, 4, 2, 1)
SEEDS = (0, 1, 2)
RATES = (0.01, 0.03, 0.1)  # at 8 clips per step
TUNE_SEED = 100
EPOCHS = 4
AUTOCAST = True  # compute the blocks in bfloat16
_CALIBRATION_CLIPS, _EVAL_BATCH = 96, 16
_MOMENTUM, _WEIGHT_DECAY = 0.9, 1e-4


class Cell(NamedTuple):
    """One run of the grid; its name is that of its file."""

    norm: str
    length: str
    batch: int
    seed: int

    @property
    def name(self) -> str:
        """Return the name."""
        return f"{self.norm}_{self.length}_b{self.batch}_s{self.seed}"


class Parts(NamedTuple):
    """Clips to train on, of the validation part, and of the test; None: not asked for."""

    train: Clips
    val: Clips | None
    test: Clips | None


class Float32(nn.Module):
    """A layer that computes in float32: torch 2.15's bfloat16 gradient of 3x1x1 kernels was nan here, on a CPU."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer without autocast."""
        with torch.autocast("cpu", enabled=False):
            result: Tensor = self.layer(x.float())
        return result


class Classifier(nn.Module):
    """The trained blocks and a fresh linear layer on the mean of their output."""

    def __init__(self, tail: nn.Module, *, channels: int, num_classes: int) -> None:
        super().__init__()
        self.tail = tail
        for name, module in list(tail.named_modules()):
            if isinstance(module, nn.Conv3d) and module.kernel_size[0] > 1:
                tail.set_submodule(name, Float32(module))
        self.head = nn.Linear(channels, num_classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (N, Q) of features (N, C, T, H, W); the blocks compute in bfloat16 where they can."""
        with torch.autocast("cpu", torch.bfloat16, enabled=AUTOCAST):
            x = self.tail(x)
        logits: Tensor = self.head(x.float().mean((2, 3, 4)))
        return logits


def grid() -> list[Cell]:
    """List the cells, seed by seed; those that the paper's Table 8 does not have are last."""
    both = [("short", batch) for batch in BATCHES] + [("long", 4)]
    rest = [("long", batch) for batch in BATCHES if batch != 4]
    return [
        Cell(norm, *column, seed) for columns in (both, rest) for seed in SEEDS for column in columns for norm in NORMS
    ]


def make_tails(weights: Path, clips: Clips, *, stride_1x1: bool) -> dict[str, nn.Module]:
    """Return the last two blocks of res4 with each norm; what is fitted is fitted to training clips."""
    tails = {
        norm: split_res4(load_i3d(weights, norm=norm, stride_1x1=stride_1x1)[0])[1] for norm in ("bn", "frozen_bn")
    }
    rows = np.random.default_rng(0).permutation(len(clips.labels))[:_CALIBRATION_CLIPS]
    features = torch.from_numpy(clips.features[np.sort(rows), 0]).float()
    return {**tails, **convert_tails(tails["bn"], list(features.split(8)))}


def convert_tails(tail: nn.Module, features: list[Tensor]) -> dict[str, nn.Module]:
    """Return the group-norm blocks, with the kernels as they are and with standardized ones."""
    plain, standardized = copy.deepcopy(tail), copy.deepcopy(tail)
    convert_norm(plain, "gn", calibrate=features)
    report = convert_norm(standardized, "gn", weight_standardization=True)
    calibrate_net(tail, standardized, [change.name for change in report.changed], features)
    return {"gn": plain, "gn_ws": standardized}


def read_parts(cache: Path, length: str) -> Parts:
    """Read the cached features of one length of clips."""
    clips = read_features(cache, "train", length)
    train, val = (clips.take(rows) for rows in split_validation(clips.labels, clips.groups))
    return Parts(train, val, read_features(cache, "val", length))


def run_grid(
    tails: Mapping[str, nn.Module],
    parts: Mapping[str, Parts],
    *,
    rates: Mapping[str, float],
    out: Path,
    seeds: Sequence[int] = SEEDS,
) -> None:
    """Run every cell of these seeds and of the lengths of `parts` that has no file."""
    test = next(iter(parts.values())).test
    assert test is not None
    write_result(out / "test.json", {"groups": test.groups.tolist()})
    for cell in grid():
        file = out / f"{cell.name}.json"
        if cell.seed in seeds and cell.length in parts and not file.is_file():
            settings = {
                "batch": cell.batch,
                "rate": rates[cell.norm] * cell.batch / 8,
                "seed": cell.seed,
                "epochs": EPOCHS,
            }
            write_result(file, {**cell._asdict(), **train(tails[cell.norm], parts[cell.length], **settings)})


def tune(tails: Mapping[str, nn.Module], parts: Parts, *, out: Path, norms: Sequence[str] = tuple(NORMS)) -> None:
    """Run every rate at 8 clips that has no file, without a look at the test."""
    for norm in norms:
        for rate in RATES:
            file = out / f"tune_{norm}_r{rate}.json"
            if not file.is_file():
                run = train(tails[norm], parts._replace(test=None), batch=8, rate=rate, seed=TUNE_SEED, epochs=EPOCHS)
                write_result(file, {"norm": norm, **run})


def validation_errors(out: Path) -> dict[str, dict[float, float]]:
    """Return the validation error at the end of each run of `tune`, by norm and rate.

    Raises:
        ValueError: a norm has no run.
    """
    errors: dict[str, dict[float, float]] = {norm: {} for norm in NORMS}
    for file in sorted(out.glob("tune_*.json")):
        run = json.loads(file.read_text(encoding="utf-8"))
        errors[run["norm"]][run["rate"]] = run["curves"][-1]["val_error"]
    missing = [norm for norm, found in errors.items() if not found]
    if missing:
        raise ValueError(
            f"--results {out} has no results of tune for {', '.join(missing)}; run `python -m experiments.real tune`."
        )
    return errors


def chosen_rates(out: Path) -> dict[str, float]:
    """Return the rate of each norm that has the lowest validation error, the lower one of two."""
    return {norm: min(found, key=lambda rate: (found[rate], rate)) for norm, found in validation_errors(out).items()}


def best_of_tuning(out: Path) -> tuple[str, float]:
    """Return the norm and the rate with the lowest validation error of all."""
    errors, rates = validation_errors(out), chosen_rates(out)
    norm = min(NORMS, key=lambda norm: errors[norm][rates[norm]])
    return norm, rates[norm]


def train(start: nn.Module, parts: Parts, *, batch: int, rate: float, seed: int, epochs: int) -> dict[str, Any]:
    """Train a copy of the blocks with a fresh classifier and test it."""
    torch.manual_seed(seed)
    began, generator = time.process_time(), np.random.default_rng(seed)
    clips = parts.train
    num_classes = int(clips.labels.max()) + 1
    net = Classifier(copy.deepcopy(start), channels=clips.features.shape[2], num_classes=num_classes)
    optimizer = torch.optim.SGD(_parameter_groups(net), lr=rate, momentum=_MOMENTUM, nesterov=True)
    steps = epochs * (len(clips.labels) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    curves = []
    for epoch in range(epochs):
        row = _train_epoch(net, clips, batch=batch, optimizer=optimizer, schedule=schedule, generator=generator)
        if parts.val is not None:
            row["val_error"] = _error(predict(net, parts.val), parts.val.labels)
        curves.append({"epoch": epoch + 1, **row})
    result = {"batch": batch, "rate": rate, "seed": seed, "steps": steps, "curves": curves}
    if parts.test is not None:
        result["test"] = {"plain": _bits(predict(net, parts.test), parts.test.labels)}
        if statistics_layers(net):
            set_precise_statistics(net, clips)
            result["test"]["precise"] = _bits(predict(net, parts.test), parts.test.labels)
    return {
        **result,
        "train_clips": len(clips.labels),
        "cpu_seconds": round(time.process_time() - began, 1),
        **machine(),
    }


def _train_epoch(
    net: nn.Module,
    clips: Clips,
    *,
    batch: int,
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    generator: np.random.Generator,
) -> dict[str, float]:
    net.train()
    losses, wrong = [], 0
    views = generator.integers(clips.features.shape[1], size=len(clips.labels))
    order = generator.permutation(len(clips.labels))
    for rows in batches(order, batch=batch):
        features = torch.from_numpy(clips.features[rows, views[rows]]).float()
        labels = clips.labels[torch.from_numpy(rows)]
        logits = net(features)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        wrong += int((logits.argmax(1) != labels).sum())
    return {
        "train_loss": round(float(np.mean(losses)), 4),
        "train_error": round(100 * wrong / (len(losses) * batch), 2),
    }


@torch.no_grad()
def predict(net: nn.Module, clips: Clips) -> Tensor:
    """Return the class of each clip's centre, (N,)."""
    net.eval()
    parts = [net(torch.from_numpy(clips.features[rows, 0]).float()).argmax(1) for rows in _chunks(len(clips.labels))]
    return torch.cat(parts)


@torch.no_grad()
def set_precise_statistics(net: nn.Module, clips: Clips) -> None:
    """Replace the running averages by the statistics of all clips' centres."""
    net.train()
    moments = Moments(statistics_layers(net))
    with moments.watch():
        for rows in batches(np.arange(len(clips.labels)), batch=8):
            net(torch.from_numpy(clips.features[rows, 0]).float())
    net.load_state_dict(moments.statistics(), strict=False)


def machine() -> dict[str, Any]:
    """Return what the figures depend on beside the settings."""
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": versions,
    }


def write_result(file: Path, result: Mapping[str, Any]) -> None:
    """Write a file that is whole or not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, file)


def _parameter_groups(net: nn.Module) -> list[dict[str, Any]]:
    """Decay kernels alone, as the paper's code does with norms."""
    learned = [parameter for parameter in net.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in learned if parameter.dim() > 1], "weight_decay": _WEIGHT_DECAY},
        {"params": [parameter for parameter in learned if parameter.dim() <= 1], "weight_decay": 0.0},
    ]


def _chunks(count: int) -> list[NDArray[np.int64]]:
    return np.array_split(np.arange(count), max(1, count // _EVAL_BATCH))


def _error(predicted: Tensor, labels: Tensor) -> float:
    return round(100 * float((predicted != labels).float().mean()), 2)


def _bits(predicted: Tensor, labels: Tensor) -> dict[str, Any]:
    """Return top-1 in percent, and for each clip, in the order of the files, 1 where it is right."""
    right = (predicted == labels).int().tolist()
    return {"top1": round(100 * sum(right) / len(right), 2), "right": "".join(map(str, right))}
