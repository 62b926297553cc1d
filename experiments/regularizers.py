"""The paper's open question (sec. 4.1): does group norm, with a suitable regularizer, generalize as batch norm does?

    python -m experiments.regularizers --rates bn=0.48 gn=0.12 gn_ws=0.48   # runs what has no result; stop it any time
    python -m experiments.regularizers --table                              # what there is so far, as Markdown
    python -m experiments.regularizers --picture FILE.png

Chosen before the comparison. Each method has the rate at 64 clips that `experiments.small_batches` tuned for it on
other videos, without any regularizer, and keeps it under all of them. The strength of a regularizer is the usual one,
the same for all methods and batches. There are so few training videos that the nets learn them by heart. The training
error is that of the final weights on the training videos without augmentation; nothing is chosen on the validation
videos, whose error is the result. Seeds 0 to 2, each with training videos of its own. One JSON file per run.
"""

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch.utils.data import DataLoader

from experiments.clips import ClipForm, MemoryClips
from experiments.grid import results_parser, write_json
from experiments.run import CROP, make_trainer
from experiments.ship import processor
from experiments.small_batches import METHODS, Method
from experiments.stats import paired
from experiments.videos import Videos, VideoSpec, make_videos
from vidgn.callbacks.averaging import WeightAverage
from vidgn.classifier import VideoClassifier
from vidgn.data.augment import AUGMENT_DRAWS, AugmentSpec, augment_clip
from vidgn.data.batches import ClipBatch, ClipSample, MixingCollate
from vidgn.data.clips import random_draws
from vidgn.data.loading.sampler import EpochSampler
from vidgn.data.synthetic.motions import CLASSES
from vidgn.data.transforms import Normalize
from vidgn.models.drop_path import add_drop_path
from vidgn.models.registry import build_net
from vidgn.objective.losses import ClipLoss, LossSpec
from vidgn.optim import OptimSpec
from vidgn.runs.environment import versions
from vidgn.training.drop_path import DropPathDraws

RESULTS = Path(__file__).parent / "results" / "regularizers"
VAL_SEED = 30_000  # of the videos whose error is the result
COMPARED = tuple(method for method in METHODS if method.name in ("bn", "gn", "gn_ws"))
BATCHES = (8, 2)
_AUGMENT_VIEW = 1 << 22  # draws that no clip's start and crop come from


@dataclass(frozen=True)
class Regularizer:
    """What is added to the plain recipe; 0 and None are off."""

    augment: AugmentSpec = field(default_factory=AugmentSpec)
    label_smoothing: float = 0.0
    drop_path: float = 0.0
    dropout: float = 0.0
    ema: float | None = None


REGULARIZERS = {
    "none": Regularizer(),
    "label_smoothing": Regularizer(label_smoothing=0.1),
    "mixup": Regularizer(AugmentSpec(mixup=0.8)),
    "cutmix": Regularizer(AugmentSpec(cutmix=1.0)),
    "randaugment": Regularizer(AugmentSpec(randaugment=9.0)),
    "erasing": Regularizer(AugmentSpec(erasing=0.25)),
    "drop_path": Regularizer(drop_path=0.1),
    "dropout": Regularizer(dropout=0.5),
    "ema": Regularizer(ema=0.99),
    "mixup+drop_path": Regularizer(AugmentSpec(mixup=0.8), drop_path=0.1),
    "label_smoothing+erasing": Regularizer(AugmentSpec(erasing=0.25), label_smoothing=0.1),
}


_VIDEOS = VideoSpec(classes=CLASSES, train=8, val=20, test=0, noise=15.0)


@dataclass(frozen=True)
class Setup:
    """Sizes and lengths, the same for every run."""

    videos: VideoSpec = _VIDEOS
    width: int = 8
    clip_len: int = 16
    span: int = 64
    epochs: int = 30
    seeds: tuple[int, ...] = (0, 1, 2)


SETUP = Setup()


class Run(NamedTuple):
    """One training."""

    method: Method
    regularizer: str
    batch: int
    seed: int
    rate: float

    @property
    def file_name(self) -> str:
        """The file of its numbers."""
        return f"{self.method.name}_{self.regularizer}_b{self.batch}_s{self.seed}.json"


def main() -> None:
    """Run what has no result yet, or show what there is."""
    parser = results_parser(__doc__, RESULTS)
    parser.add_argument("--rates", nargs="+", default=[], metavar="METHOD=RATE", help="of bn, gn and gn_ws")
    parsed = parser.parse_args()
    if parsed.picture:
        draw(read_all(parsed.results), parsed.picture)
    elif parsed.table:
        print(table(read_all(parsed.results)))
    else:
        for run in runs(SETUP, read_rates(parsed.rates)):
            do(run, setup=SETUP, folder=parsed.results)


def read_rates(texts: Sequence[str]) -> dict[str, float]:
    """Read `bn=0.48 gn=0.12 gn_ws=0.48`.

    Raises:
        ValueError: not one rate for each method.
    """
    rates = {name: float(rate) for name, _, rate in (text.partition("=") for text in texts)}
    wanted = {method.name for method in COMPARED}
    if set(rates) != wanted:
        raise ValueError(f"--rates {' '.join(texts)} must give one rate for each of {', '.join(sorted(wanted))}.")
    return rates


def runs(setup: Setup, rates: Mapping[str, float]) -> Iterator[Run]:
    """Yield all runs, seed by seed."""
    for seed in setup.seeds:
        for batch in BATCHES:
            for regularizer in REGULARIZERS:
                for method in COMPARED:
                    yield Run(method, regularizer, batch, seed, rates[method.name])


def do(run: Run, *, setup: Setup, folder: Path) -> None:
    """Train one net and write its numbers, unless they are there."""
    path = folder / run.file_name
    if path.exists():
        return
    began = time.process_time()
    numbers = train(run, setup=setup)
    write_json(
        path,
        {
            "method": run.method.name, "regularizer": run.regularizer, "batch": run.batch, "seed": run.seed,
            "rate": run.rate, **numbers, "cpu_seconds": round(time.process_time() - began, 1),
            "processor": processor(), "threads": torch.get_num_threads(), "versions": versions(),
            "setup": json.loads(json.dumps(asdict(setup))), "strength": plain_regularizer(run.regularizer),
        },
    )  # fmt: skip
    print(f"{run.file_name}: training {numbers['train_error']} %, validation {numbers['val_error']} %", flush=True)


def plain_regularizer(name: str) -> dict[str, Any]:
    """Return what is on in a regularizer, by the names of the options."""
    spec = asdict(REGULARIZERS[name])
    return {key: value for key, value in {**spec.pop("augment"), **spec}.items() if value}


def train(run: Run, *, setup: Setup) -> dict[str, Any]:
    """Return training and validation error in percent and the loss of each epoch's last step."""
    spec = REGULARIZERS[run.regularizer]
    training = make_videos(setup.videos, seed=run.seed, split="train")
    val = make_videos(setup.videos, seed=VAL_SEED, split="val")
    torch.manual_seed(run.seed)
    model = {"name": "i3d_r50", "width": setup.width, "dropout": spec.dropout}
    model["weight_standardization"] = run.method.standardized
    net = build_net(model=model, norm={"name": run.method.norm}, crop=CROP, num_classes=len(CLASSES))
    paths = add_drop_path(net, spec.drop_path)
    classifier = VideoClassifier(
        net, normalize=Normalize(), classes=CLASSES, batch=run.batch, seed=run.seed,
        optim=OptimSpec(lr=run.rate, lr_clips=64, schedule="cosine", drops=(), warmup=0.1),
        loss=ClipLoss(LossSpec(label_smoothing=spec.label_smoothing)),
    )  # fmt: skip
    form = ClipForm(setup.clip_len, (setup.span,), CROP)
    fixed = MemoryClips(training, form=form, seed=run.seed, fixed=True)
    errors = FinalErrors(fixed)  # before the average, which puts the trained weights back after a validation
    callbacks: list[L.Callback] = [errors]
    callbacks += [WeightAverage(net, decay=spec.ema)] if spec.ema else []
    callbacks += [DropPathDraws(paths, seed=run.seed)] if paths else []
    trainer = make_trainer(setup.epochs, 1, callbacks)
    trainer.check_val_every_n_epoch = setup.epochs
    validation = MemoryClips(val, form=form, seed=run.seed, fixed=True)
    trainer.fit(classifier, training_loader(training, run=run, form=form), _loader(validation))
    return {"train_error": errors.train_error, "val_error": errors.val_error}


class FinalErrors(L.Callback):
    """Measure both errors of the last epoch, with the weights that are validated.

    Args:
        clips: of the training videos, without augmentation.
    """

    def __init__(self, clips: MemoryClips) -> None:
        self._loader = _loader(clips)
        self.train_error = self.val_error = float("nan")

    @torch.no_grad()
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Classify the training clips with the weights in place."""
        self.val_error = round(float(trainer.callback_metrics["val/error"]), 2)
        wrong = [(pl_module(batch.clips.flatten(0, 1)).argmax(1) != batch.labels).double() for batch in self._loader]
        self.train_error = round(100 * float(torch.cat(wrong).mean()), 2)


class AugmentedMemoryClips(MemoryClips):
    """Training clips with augmentation, a function of (seed, epoch, video)."""

    def __init__(self, videos: Videos, *, form: ClipForm, seed: int, augment: AugmentSpec) -> None:
        super().__init__(videos, form=form, seed=seed, fixed=False)
        self.augment = augment

    def __getitem__(self, item: tuple[int, int]) -> ClipSample:
        """Cut the clip of `(epoch, video)`, (1, 3, T, S, S), and change its pixels."""
        sample = super().__getitem__(item)
        draws = random_draws(self.seed, epoch=item[0], video=item[1], view=_AUGMENT_VIEW, count=AUGMENT_DRAWS)
        clip = augment_clip(sample.clips[0], draws, self.augment)
        return sample._replace(clips=clip[None], draws=torch.from_numpy(np.asarray(draws))[None])


def training_loader(videos: Videos, *, run: Run, form: ClipForm) -> "DataLoader[ClipBatch]":
    """Load training clips as the regularizer has them."""
    augment = REGULARIZERS[run.regularizer].augment
    sampler = EpochSampler(len(videos.labels), batch=run.batch, seed=run.seed, shuffle=True, drop_last=True)
    clips = AugmentedMemoryClips(videos, form=form, seed=run.seed, augment=augment)
    collate = MixingCollate(augment, num_classes=len(CLASSES)) if augment.mixes else ClipBatch.collate
    return DataLoader(clips, batch_sampler=sampler, collate_fn=collate)  # type: ignore[arg-type]


def _loader(clips: MemoryClips) -> "DataLoader[ClipBatch]":
    sampler = EpochSampler(len(clips), batch=32, seed=0, shuffle=False, drop_last=False)
    return DataLoader(clips, batch_sampler=sampler, collate_fn=ClipBatch.collate)  # type: ignore[arg-type]


Results = Mapping[tuple[str, str, int], Mapping[int, Mapping[str, Any]]]  # by (method, regularizer, batch), then seed


def read_all(folder: Path) -> Results:
    """Read the results that there are."""
    results: dict[tuple[str, str, int], dict[int, Mapping[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        numbers = json.loads(path.read_text("utf-8"))
        key = numbers["method"], numbers["regularizer"], numbers["batch"]
        results.setdefault(key, {})[numbers["seed"]] = numbers
    return results


def table(results: Results) -> str:
    """Return training / validation error as Markdown, and how the validation error differs from that without."""
    lines = []
    for batch in BATCHES:
        heads = [f"{method.name}: training, validation | change" for method in COMPARED]
        lines += [f"| {batch} clips per step | " + " | ".join(heads) + " |", "|---" * (2 * len(COMPARED) + 1) + "|"]
        for name in REGULARIZERS:
            cells = [_cell(results, method.name, name, batch) for method in COMPARED]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines[:-1])


def _cell(results: Results, method: str, regularizer: str, batch: int) -> str:
    runs = results.get((method, regularizer, batch), {})
    if not runs:
        return "- | -"
    errors = [statistics.mean(run[name] for run in runs.values()) for name in ("train_error", "val_error")]
    shown = f"{errors[0]:.1f}, {errors[1]:.1f} ({len(runs)})"
    without = results.get((method, "none", batch), {})
    seeds = sorted(set(runs) & set(without))
    if regularizer == "none" or len(seeds) < 2:
        return f"{shown} | "
    change = paired([runs[s]["val_error"] for s in seeds], [without[s]["val_error"] for s in seeds])
    return f"{shown} | {change.mean:+.1f} ± {change.half:.1f}"


def draw(results: Results, path: Path) -> None:
    """Draw the validation error of each regularizer, a colour per method, a panel per batch."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    for axis, batch in zip(figure.subplots(1, len(BATCHES), sharey=True, sharex=True), BATCHES, strict=True):
        for number, method in enumerate(COMPARED):
            axis.plot([], [], "o", color=f"C{number}", label=method.name)
            for row, name in enumerate(REGULARIZERS):
                values = [run["val_error"] for run in results.get((method.name, name, batch), {}).values()]
                height = row + 0.2 * (number - 1)
                axis.plot(values, [height] * len(values), ".", color=f"C{number}", alpha=0.5, markersize=4)
                axis.plot([statistics.mean(values)] if values else [], [height] * bool(values), "o", color=f"C{number}")
        axis.set(title=f"{batch} clips per step", xlabel="validation error in percent")
        axis.set_yticks(range(len(REGULARIZERS)), list(REGULARIZERS))
        axis.grid(alpha=0.3)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper right", ncols=len(COMPARED))
    axis.invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_figure(path, dpi=110)


if __name__ == "__main__":
    main()
