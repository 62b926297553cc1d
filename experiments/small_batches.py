"""Batch norm, group norm, and both with standardized kernels from random weights at 8, 4, 2 and 1 clips per step.

    python -m experiments.small_batches             # runs what has no result yet; stop it at any time
    python -m experiments.small_batches --table     # what there is so far, as Markdown
    python -m experiments.small_batches --picture FILE.png

Chosen before the comparison: equal epochs; the rate at 64 clips follows the linear rule and is tuned for each method on
videos and seeds of its own (seed 100, 8 clips, the same rates for all, least validation error, then the lower rate);
then seeds 0 to 4, each with training videos of its own, tested on the same videos. One JSON file per run.
"""

import json
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.clips import ClipForm, clip_loader, cut_test_clips
from experiments.curves import Curves
from experiments.grid import results_parser, write_json
from experiments.run import CROP, make_trainer, score_videos
from experiments.ship import processor
from experiments.stats import interval, paired
from experiments.videos import VideoSpec, make_videos
from vidgn.classifier import VideoClassifier
from vidgn.data.synthetic.motions import CLASSES
from vidgn.data.transforms import Normalize
from vidgn.models.registry import build_net
from vidgn.optim import OptimSpec
from vidgn.runs.environment import versions

RESULTS = Path(__file__).parent / "results" / "small_batches"
TEST_SEED = 20_000  # of the test and validation videos


class Method(NamedTuple):
    """A norm, with standardized kernels or without."""

    norm: str
    standardized: bool

    @property
    def name(self) -> str:
        """As files and tables have it."""
        return self.norm + ("_ws" if self.standardized else "")


METHODS = (Method("bn", False), Method("gn", False), Method("gn", True), Method("bcn", True))
BATCHES = (8, 4, 2, 1)


_VIDEOS = VideoSpec(classes=CLASSES, train=48, val=8, test=10, noise=15.0)


@dataclass(frozen=True)
class Setup:
    """Sizes and lengths, the same for every method."""

    videos: VideoSpec = _VIDEOS
    width: int = 8
    clip_len: int = 16
    span: int = 64
    epochs: int = 8
    rates: tuple[float, ...] = (0.06, 0.12, 0.24, 0.48, 0.96)
    tuning_seeds: tuple[int, ...] = (100,)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    test_clips: int = 4


SETUP = Setup()


class Run(NamedTuple):
    """One training."""

    method: Method
    batch: int
    seed: int
    rate: float

    @property
    def file_name(self) -> str:
        """The file of its numbers."""
        return f"{self.method.name}_b{self.batch}_lr{self.rate:g}_s{self.seed}.json"


def main() -> None:
    """Run what has no result yet, or print the table."""
    parsed = results_parser(__doc__, RESULTS).parse_args()
    if parsed.picture:
        draw(read_accuracies(parsed.results, SETUP), parsed.picture)
        return
    if parsed.table:
        print(table(parsed.results, SETUP))
        return
    for run in tuning_runs(SETUP):
        do(run, setup=SETUP, folder=parsed.results)
    rates = tuned_rates(parsed.results, SETUP)
    for run in compared_runs(SETUP, rates):
        do(run, setup=SETUP, folder=parsed.results)
    print(table(parsed.results, SETUP))


def tuning_runs(setup: Setup) -> Iterator[Run]:
    """Yield the runs that choose the rates."""
    for seed in setup.tuning_seeds:
        for rate in setup.rates:
            for method in METHODS:
                yield Run(method, BATCHES[0], seed, rate)


def compared_runs(setup: Setup, rates: Mapping[str, float]) -> Iterator[Run]:
    """Yield the runs that are compared, seed by seed."""
    for seed in setup.seeds:
        for batch in BATCHES:
            for method in METHODS:
                yield Run(method, batch, seed, rates[method.name])


def tuned_rates(folder: Path, setup: Setup) -> dict[str, float]:
    """Return the rate of each method: the least mean validation error, of equal ones the lower rate."""
    errors: dict[tuple[str, float], list[float]] = {}
    for run in tuning_runs(setup):
        errors.setdefault((run.method.name, run.rate), []).append(read(run, folder)["val_error"])
    return {
        method.name: min(setup.rates, key=lambda rate: (statistics.mean(errors[method.name, rate]), rate))
        for method in METHODS
    }


def do(run: Run, *, setup: Setup, folder: Path) -> None:
    """Train and test one net, and write its numbers, unless they are there.

    Raises:
        ValueError: they are of another setup.
    """
    path = folder / run.file_name
    if path.exists():
        if read(run, folder)["setup"] != plain(setup):
            raise ValueError(f"{path} was made with another setup; give another folder as --results.")
        return
    began = time.process_time()
    numbers = train_and_test(run, setup=setup)
    write_json(
        path,
        {
            "method": run.method.name, "batch": run.batch, "seed": run.seed, "rate": run.rate, **numbers,
            "cpu_seconds": round(time.process_time() - began, 1), "processor": processor(),
            "threads": torch.get_num_threads(), "versions": versions(), "setup": plain(setup),
        },
    )  # fmt: skip
    print(f"{run.file_name}: {numbers['video_top1']} %", flush=True)


def train_and_test(run: Run, *, setup: Setup) -> dict[str, Any]:
    """Return the last errors and the accuracy on the test videos, in percent."""
    training = make_videos(setup.videos, seed=run.seed, split="train")
    val, test = (make_videos(setup.videos, seed=TEST_SEED, split=split) for split in ("val", "test"))
    torch.manual_seed(run.seed)
    model = {"name": "i3d_r50", "width": setup.width, "dropout": 0.0, "weight_standardization": run.method.standardized}
    net = build_net(model=model, norm={"name": run.method.norm}, crop=CROP, num_classes=len(CLASSES))
    optim = OptimSpec(lr=run.rate, lr_clips=64, schedule="cosine", drops=(), warmup=0.1)
    classifier = VideoClassifier(
        net, normalize=Normalize(), optim=optim, classes=CLASSES, batch=run.batch, seed=run.seed
    )
    form = ClipForm(setup.clip_len, (setup.span,), CROP)
    loader = clip_loader(val, form=form, batch=32, seed=run.seed, training=False)
    curves = Curves(loader)
    make_trainer(setup.epochs, 1, [curves]).fit(
        classifier, clip_loader(training, form=form, batch=run.batch, seed=run.seed, training=True), loader
    )
    scored = score_videos(net, cut_test_clips(test, form=form, num_clips=setup.test_clips), test.labels)
    return {**scored, "val_error": curves.rows[-1]["val_error"], "curves": curves.rows}


def read(run: Run, folder: Path) -> dict[str, Any]:
    """Read the numbers of a run."""
    numbers: dict[str, Any] = json.loads((folder / run.file_name).read_text("utf-8"))
    return numbers


def plain(setup: Setup) -> dict[str, Any]:
    """Return a setup as JSON gives it back."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(setup)))
    return values


Accuracies = Mapping[tuple[str, int], Mapping[int, float]]  # by (method, clips per step), then by seed


def read_accuracies(folder: Path, setup: Setup) -> Accuracies:
    """Read video top-1 in percent of the compared runs that there are."""
    accuracies: dict[tuple[str, int], dict[int, float]] = {}
    for path in sorted(folder.glob("*.json")):
        numbers = json.loads(path.read_text("utf-8"))
        if numbers["seed"] in setup.seeds:
            accuracies.setdefault((numbers["method"], numbers["batch"]), {})[numbers["seed"]] = numbers["video_top1"]
    return accuracies


def table(folder: Path, setup: Setup) -> str:
    """Return video top-1 as Markdown: mean, 95 % interval and number of seeds; then the differences to batch norm."""
    accuracies = read_accuracies(folder, setup)
    heads = " | ".join(f"{batch}" for batch in BATCHES)
    lines = [f"| clips per step | {heads} |", "|---" * (len(BATCHES) + 1) + "|"]
    for method in METHODS:
        cells = (_cell(accuracies.get((method.name, batch), {})) for batch in BATCHES)
        lines.append(f"| {method.name} | " + " | ".join(cells) + " |")
    for method in METHODS[1:]:
        pairs = ((accuracies.get((name, batch), {}) for name in (method.name, "bn")) for batch in BATCHES)
        lines.append(f"| {method.name} minus bn | " + " | ".join(_difference(*pair) for pair in pairs) + " |")
    return "\n".join(lines)


def _cell(seeds: Mapping[int, float]) -> str:
    if not seeds:
        return "-"
    mean, half, count = interval(list(seeds.values()))
    return f"{mean:.1f} ± {half:.1f} ({count})" if count > 1 else f"{mean:.1f} (1)"


def _difference(one: Mapping[int, float], other: Mapping[int, float]) -> str:
    seeds = sorted(set(one) & set(other))
    if len(seeds) < 2:
        return "-"
    change = paired([one[seed] for seed in seeds], [other[seed] for seed in seeds])
    return f"{change.mean:+.1f} ± {change.half:.1f}"


def draw(accuracies: Accuracies, path: Path) -> None:
    """Draw video top-1 over the clips per step, a line per method with its 95 % intervals."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axis = figure.subplots()
    for method in METHODS:
        points = [(batch, interval(list(accuracies[method.name, batch].values()))) for batch in BATCHES
                  if (method.name, batch) in accuracies]  # fmt: skip
        means, halves = [point.mean for _, point in points], [point.half for _, point in points]
        axis.errorbar([batch for batch, _ in points], means, halves, marker="o", capsize=3, label=_LABELS[method.name])
    axis.set(xlabel="clips per step", ylabel="video top-1 in percent", ylim=(0, 100))
    axis.set_xscale("log", base=2)
    axis.set_xticks(BATCHES, [str(batch) for batch in BATCHES])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_figure(path, dpi=110)


_LABELS = {
    "bn": "batch norm", "gn": "group norm", "gn_ws": "group norm, standardized kernels",
    "bcn_ws": "batch-channel norm, standardized kernels",
}  # fmt: skip


if __name__ == "__main__":
    main()
