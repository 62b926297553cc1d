"""Does a recipe beat plain fine-tuning on a few real videos? Chosen on recordings of the training part alone.

    python -m experiments.real --cache DIR features --weights FILE --videos DIR [--stride-1x1]      once
    python -m experiments.small_data search --cache DIR --weights FILE [--stride-1x1]   resumes; sees no test clip
    python -m experiments.small_data test --cache DIR --weights FILE [--stride-1x1]     resumes
    python -m experiments.small_data table

Settings, written down before any accuracy was seen (a larger grid, and training two blocks, were given up for their
cost after the first three runs):

    net        that of experiments/real_norms.py: an I3D R50 up to res4, all but the last block of res4 frozen for every
               recipe and computed once; that block and a fresh classifier trained; batch norm, 8 clips per step, short
               clips of 80 px, 4 epochs for every recipe
    plain      `optim=finetune` as it is shipped; and "tuned", the same with its rate chosen by the search
    folds      the training recordings in three parts of whole recordings; a recipe is trained on two and validated on
               the third. 647 clips are validated in all, one seed each
    round 1    fold 0: rates of sgd and adamw, the classifier's rate 1 or 10 times that of the blocks, and the
               classifier alone (`FIRST`)
    round 2    all folds: the two lowest errors of round 1, plain fine-tuning, and its best rate of round 1
    round 3    all folds: the best so far with one regularizer each (`REGULARIZERS`). The average of `ema` changes
               nothing in a training, so that one run scores both kinds of weights
    round 4    all folds: the best so far with every regularizer that had a lower error in round 3
    chosen     the lowest validation error over all folds of rounds 2 to 4; of equal ones, the lower loss without
               label smoothing. "tuned" is the best of plain fine-tuning in round 2
    test       trained on all 647 training clips, and on 10 clips per class; seeds 0 to 4, as many as were run:
               classifier, order, views, and which 10. Every test clip once, after the last epoch
    interval   95 % of the difference to plain fine-tuning of the mean over seeds: 10000 bootstrap samples of test
               recordings, both recipes on the same ones
"""

import argparse
import copy
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments import real_features, real_norms
from experiments.real import draw
from experiments.real_features import Clips
from experiments.ship import processor
from vidgn.callbacks.averaging import ema_share, move_average
from vidgn.norms import is_norm
from vidgn.objective.losses import ClipLoss, LossSpec
from vidgn.optim import OptimSpec, build_optimizer
from vidgn.scores.statistics import bootstrap

RESULTS = Path(__file__).parent / "results" / "small_data"
FINETUNE = Path(__file__).parents[1] / "configs" / "optim" / "finetune.yaml"
EPOCHS, BATCH, FOLDS, SEARCH_SEED = 4, 8, 3, 100
SEEDS = (0, 1, 2, 3, 4)
SIZES: tuple[int | None, ...] = (None, 10)  # training clips per class; None: all
_SAMPLES = 10_000
_EVAL_BATCH = 64


class Recipe(NamedTuple):
    """Options of a training, as `vidgn train` has them, beside `optim=finetune`.

    Attributes:
        optim: options of the group optim.
        label_smoothing, dropout, ema: those of the same names.
        head_only: `train_only=head`.
    """

    optim: Mapping[str, Any]
    label_smoothing: float = 0.0
    dropout: float = 0.0
    ema: float | None = None
    head_only: bool = False

    @property
    def name(self) -> str:
        """Return what it is, as a file name."""
        plain = {key: f"{value['head']:g}" if key == "rates" else value for key, value in self.optim.items()}
        rest = self._asdict()
        shown = {**plain, **{key: rest[key] for key in ("label_smoothing", "dropout", "ema", "head_only") if rest[key]}}
        return ",".join(f"{key}={value}" for key, value in shown.items()) or "finetune"


def _sgd(head_rate: float, ratio: float) -> Recipe:
    rates = {} if ratio == 1 else {"rates": {"head": ratio}}
    return Recipe({"lr": round(head_rate / ratio, 6), **rates})


def _adamw(head_rate: float, ratio: float) -> Recipe:
    recipe = _sgd(head_rate, ratio)
    return recipe._replace(optim={"name": "adamw", "weight_decay": 0.05, "nesterov": False, **recipe.optim})


PLAIN = tuple(_sgd(rate, 1) for rate in (0.04, 0.08, 0.16))  # at 64 clips; the last one is shipped
FIRST = (
    *PLAIN,
    *(_sgd(rate, 10) for rate in (0.08, 0.16, 0.32)),
    *(_adamw(0.004, ratio) for ratio in (1, 10)),
    *(_sgd(rate, 1)._replace(head_only=True) for rate in (0.04, 0.16)),
)
EMA = 0.99
REGULARIZERS: Mapping[str, Mapping[str, Any]] = {
    "ema": {"ema": EMA},
    "label_smoothing": {"label_smoothing": 0.2},
    "dropout": {"dropout": 0.5},
}


class Setting(NamedTuple):
    """The start of a training, the training clips, and the folder of the results."""

    tail: nn.Module
    clips: Clips
    out: Path


def main(options: Sequence[str] | None = None) -> None:
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", choices=("search", "test", "table"))
    parser.add_argument("--cache", type=Path, default=Path("real-descriptors"), help="folder of the features")
    parser.add_argument("--weights", type=Path, help="ImageNet weights")
    parser.add_argument("--stride-1x1", action="store_true", help="as the weights were trained")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of a file per run")
    given = parser.parse_args(options)
    if given.command == "table":
        print(table(given.results))
        return
    net, _ = real_features.load_i3d(given.weights, norm="bn", stride_1x1=given.stride_1x1)
    frozen, trained = real_features.split_res4(net)[1]
    clips = pass_on(frozen, real_features.read_features(given.cache, "train", "short"))
    setting = Setting(nn.Sequential(trained), clips, given.results)
    if given.command == "search":
        search(setting)
    else:
        test(setting, pass_on(frozen, real_features.read_features(given.cache, "val", "short")))


@torch.no_grad()
def pass_on(block: nn.Module, clips: Clips) -> Clips:
    """Return what a frozen block makes of the features, which keep their shape."""
    passed = np.empty_like(clips.features)
    block.eval()
    for row, views in enumerate(clips.features):
        passed[row] = block(torch.from_numpy(np.array(views)).float()).numpy()
    return clips._replace(features=passed)


def search(setting: Setting) -> None:
    """Run the four rounds and write `chosen.json`; runs that have a file are not repeated."""
    first = sorted(FIRST, key=lambda recipe: validated(setting, recipe, folds=1))
    plain = sorted(PLAIN, key=lambda recipe: validated(setting, recipe, folds=1))
    second = list({recipe.name: recipe for recipe in (*first[:2], PLAIN[-1], plain[0])}.values())
    best = min(second, key=lambda recipe: validated(setting, recipe))
    single = {name: best._replace(**change) for name, change in REGULARIZERS.items()}
    better = [name for name in single if validated(setting, single[name])[0] < validated(setting, best)[0]]
    together = best
    for name in better:
        together = together._replace(**REGULARIZERS[name])
    candidates = [*second, *single.values(), together]
    chosen = min(candidates, key=lambda recipe: validated(setting, recipe))
    tuned = min((PLAIN[-1], plain[0]), key=lambda recipe: validated(setting, recipe))
    recipes = {"plain": PLAIN[-1]._asdict(), "tuned": tuned._asdict(), "small_data": chosen._asdict()}
    screened = {recipe.name: validated(setting, recipe, folds=1) for recipe in FIRST}
    rows = {recipe.name: validated(setting, recipe) for recipe in candidates}
    real_norms.write_result(setting.out / "chosen.json", {**recipes, "round_1": screened, "validated": rows})


def validated(setting: Setting, recipe: Recipe, *, folds: int = FOLDS) -> tuple[float, float]:
    """Return error in percent and loss over the first folds; what has no file is trained."""
    scored = []
    parts = fold_of(setting.clips.groups)
    for fold in range(folds):
        file = setting.out / "search" / f"{recipe._replace(ema=None).name}_f{fold}.json"
        if not file.is_file():
            kept, held = (setting.clips.take(np.flatnonzero(rows)) for rows in (parts != fold, parts == fold))
            real_norms.write_result(file, train(setting.tail, kept, held, recipe=recipe, seed=SEARCH_SEED))
        scored.append(json.loads(file.read_text(encoding="utf-8"))["trained" if recipe.ema is None else "ema"])
    wrong = sum(score["right"].count("0") for score in scored)
    count = sum(len(score["right"]) for score in scored)
    loss = sum(score["loss"] * len(score["right"]) for score in scored) / count
    return round(100 * wrong / count, 2), round(loss, 4)


def fold_of(groups: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the fold of each clip: recordings in a drawn order, each to the fold with the fewest clips so far."""
    names = np.unique(groups)
    sizes = np.zeros(FOLDS)
    fold: dict[str, int] = {}
    for name in np.random.default_rng(0).permutation(names):
        fold[str(name)] = int(sizes.argmin())
        sizes[fold[str(name)]] += int((groups == name).sum())
    return np.array([fold[str(name)] for name in groups])


def test(setting: Setting, test_clips: Clips) -> None:
    """Train and test every cell that has no file, seed by seed."""
    chosen = json.loads((setting.out / "chosen.json").read_text(encoding="utf-8"))
    real_norms.write_result(setting.out / "test.json", {"groups": test_clips.groups.tolist()})
    for seed in SEEDS:
        for size in SIZES:
            rows = draw(setting.clips, clips=size, seed=seed).numpy()
            for method in ("plain", "small_data", "tuned"):
                file = setting.out / "test" / f"{method}_{size or 'all'}_s{seed}.json"
                recipe = Recipe(**chosen[method])
                if file.is_file() or (method == "tuned" and chosen["tuned"] == chosen["plain"]):
                    continue
                run = train(setting.tail, setting.clips.take(rows), test_clips, recipe=recipe, seed=seed)
                result = run.pop("ema" if recipe.ema is not None else "trained")
                real_norms.write_result(file, {"method": method, "size": size, **run, **result})


def finetune() -> OptimSpec:
    """Return `optim=finetune`."""
    options = yaml.safe_load(FINETUNE.read_text(encoding="utf-8"))
    return OptimSpec(**{**options, "drops": (), "weight_decay": float(options["weight_decay"])})


def train(start: nn.Module, clips: Clips, scored: Clips, *, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Train a copy of the blocks with a fresh classifier and score other clips, one view each."""
    torch.manual_seed(seed)
    began, generator = time.process_time(), np.random.default_rng(seed)
    num_classes = int(max(clips.labels.max(), scored.labels.max())) + 1
    net = real_norms.Classifier(copy.deepcopy(start), channels=clips.features.shape[2], num_classes=num_classes)
    dropout = nn.Dropout(recipe.dropout)
    head = net.head
    net.head = nn.Sequential(dropout, head)  # type: ignore[assignment]  # the dropout of vidgn's own heads
    net.tail.requires_grad_(not recipe.head_only)
    steps = EPOCHS * (len(clips.labels) // BATCH)
    spec = dataclasses.replace(finetune(), **recipe.optim)
    parts = {"res4": net.tail, "head": head}
    optimizer, schedule = build_optimizer(
        net, spec, clips_per_step=BATCH, total_steps=steps, is_norm=is_norm, stages=parts
    )
    loss_of = ClipLoss(LossSpec(label_smoothing=recipe.label_smoothing))
    average = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
    losses: list[float] = []
    for _ in range(EPOCHS):
        net.train()
        net.tail.train(not recipe.head_only)
        views = generator.integers(clips.features.shape[1], size=len(clips.labels))
        for rows in real_features.batches(generator.permutation(len(clips.labels)), batch=BATCH):
            features = torch.from_numpy(clips.features[rows, views[rows]]).float()
            loss = loss_of(net(features), clips.labels[torch.from_numpy(rows)])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            move_average(average, net.state_dict(), share=ema_share(EMA, len(losses)))
    trained = score(net, scored)
    net.load_state_dict(average)
    return {
        "recipe": recipe._asdict(), "seed": seed, "epochs": EPOCHS, "steps": steps, "train_clips": len(clips.labels),
        "train_loss": round(float(np.mean(losses[-(steps // EPOCHS) :])), 4),
        "trained": trained, "ema": score(net, scored),
        "cpu_seconds": round(time.process_time() - began, 1), **real_norms.machine(), "processor": processor(),
    }  # fmt: skip


@torch.no_grad()
def score(net: nn.Module, clips: Clips) -> dict[str, Any]:
    """Return top-1 in percent, the mean loss without smoothing, and for each clip 1 where it is right."""
    net.eval()
    parts = np.array_split(np.arange(len(clips.labels)), max(1, len(clips.labels) // _EVAL_BATCH))
    logits = torch.cat([net(torch.from_numpy(clips.features[rows, 0]).float()) for rows in parts])
    right: Tensor = logits.argmax(1) == clips.labels
    return {
        "top1": round(100 * float(right.float().mean()), 2),
        "loss": round(float(nn.functional.cross_entropy(logits, clips.labels)), 4),
        "right": "".join(map(str, right.int().tolist())),
    }


def table(out: Path) -> str:
    """Return the test as a Markdown table.

    Raises:
        ValueError: no cell was tested.
    """
    if not (out / "test.json").is_file():
        raise ValueError(f"--results {out} has no tests; run `python -m experiments.small_data test`.")
    groups = np.array(json.loads((out / "test.json").read_text(encoding="utf-8"))["groups"])
    lines = ["| clips per class | recipe | top-1 of each seed | mean | minus plain | 95 % interval |", "|---" * 6 + "|"]
    for size in SIZES:
        plain = read_right(out, "plain", size)
        for method in ("plain", "tuned", "small_data"):
            right = read_right(out, method, size)
            if not len(right):
                continue
            seeds = min(len(plain), len(right))
            texts = ["", ""]
            if method != "plain" and seeds:
                mean, low, high = difference(right[:seeds].mean(0) - plain[:seeds].mean(0), groups)
                texts = [f"{mean:+.1f}", f"{low:+.1f} to {high:+.1f}"]
            each = " ".join(f"{100 * row.mean():.1f}" for row in right)
            lines.append(f"| {size or 'all'} | {method} | {each} | {100 * right.mean():.1f} | {' | '.join(texts)} |")
    return "\n".join(lines)


def read_right(out: Path, method: str, size: int | None) -> NDArray[np.float64]:
    """Return 1 where a test clip is right, (seeds, clips), of the seeds that were run."""
    files = [out / "test" / f"{method}_{size or 'all'}_s{seed}.json" for seed in SEEDS]
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
    return np.array([[float(bit) for bit in run["right"]] for run in runs])


def difference(gains: NDArray[np.float64], groups: NDArray[np.str_]) -> tuple[float, float, float]:
    """Return the mean gain in points and the ends of its interval over recordings.

    >>> difference(np.array([1.0, 1.0, 0.0]), np.array(["a", "a", "a"]))
    (66.67, 66.67, 66.67)
    """
    codes = np.unique(groups, return_inverse=True)[1]
    ((low, high),) = bootstrap([lambda rows: gains[rows].mean()], len(gains), groups=codes, resamples=_SAMPLES)
    return round(100 * float(gains.mean()), 2), round(100 * low, 2), round(100 * high, 2)


if __name__ == "__main__":
    main()
