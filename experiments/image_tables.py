"""Write images.md and its pictures from the files of the runs: `python -m experiments.image_tables`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.curves import PERCENTILES
from experiments.images import BATCHES, CURVES, IMAGE_RESULTS, RATES, Cell, chosen_rate
from experiments.stats import interval

NAMES = {"bn": "BN", "gn": "GN", "gn_ws": "GN + weight standardization", "ln": "LN", "in": "IN", "none": "none"}
PAPER = {"bn": (23.6, 23.7, 24.8, 27.3, 34.7), "gn": (24.1, 24.2, 24.0, 24.2, 24.1)}  # Table 2, at 32 to 2 per GPU
Runs = Mapping[str, Sequence[Mapping[str, Any]]]  # of each cell, by name

PAGE = """# Figure 1 and Tables 1 to 3 in miniature

    python -m experiments.images            # every run that has no result yet; stop it and start it again as you like
    python -m experiments.image_tables      # this page and its pictures, from experiments/results-images/

Five classes of drawn pictures (`data=exposures`), a ResNet-50 of an eighth of the width, 32 px, 200 training pictures
per class, 15 epochs in every cell, from random weights. The rate at 32 pictures per step is chosen for each norm from
{rates} by the validation error of a run with a seed of its own, and follows the linear rule below. It says nothing
about ImageNet. Errors are those of the last epoch on 500 test pictures, mean of the seeds and Student's 95 % interval.

{tables}
"""


def write_page(results: Path, *, page: Path) -> None:
    """Write the page and, beside it, figures/images.png and figures/vgg.png."""
    runs = read_runs(results)
    tables = [*_figure1(runs, results), *_table1(runs, results), *_vgg(runs)]
    page.write_text(PAGE.format(rates=", ".join(map(str, RATES)), tables="\n".join(tables)))
    draw_figure1(runs, path=page.parent / "figures" / "images.png")
    draw_percentiles(runs, path=page.parent / "figures" / "vgg.png")


def read_runs(results: Path) -> Runs:
    """Read the runs of the grid, by cell and in the order of their seeds; those that chose the rate are left out."""
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for path in sorted(results.glob("*_s*.json")):
        run = json.loads(path.read_text())
        runs.setdefault(run["cell"], []).append(run)
    return runs


def _entry(runs: Sequence[Mapping[str, Any]], key: str = "test_error") -> str:
    if not runs:
        return "not run"
    mean, half, count = interval([float(run[key]) for run in runs])
    return f"{mean:.1f}" + (f" ± {half:.1f} ({count})" if count > 1 else " (1)")


def _figure1(runs: Runs, results: Path) -> list[str]:
    lines = [
        "## Pictures per step", "", "Test error in percent; in brackets the number of seeds.", "",
        "| norm | rate at 32 | " + " | ".join(map(str, BATCHES)) + " |", "|---" * (len(BATCHES) + 2) + "|",
    ]  # fmt: skip
    for norm in CURVES:
        row = [_entry(runs.get(Cell(norm, batch).name, [])) for batch in BATCHES]
        lines.append(f"| {NAMES[norm]} | {chosen_rate(Cell(norm), results)} | {' | '.join(row)} |")
    for norm, values in PAPER.items():
        lines.append(f"| paper, {NAMES[norm]}, ImageNet, per GPU | | {' | '.join(map(str, values))} |")
    return [*lines, "", "![Test error against pictures per step](figures/images.png)", ""]


def _table1(runs: Runs, results: Path) -> list[str]:
    lines = [
        "## Norms at 32 pictures per step", "",
        "LN has one group and IN one channel per group: the ends of Table 3.", "",
        "| norm | rate | training error of the last epoch | test error |", "|---|---|---|---|",
    ]  # fmt: skip
    for norm in (*CURVES, "ln", "in"):
        found = runs.get(Cell(norm).name, [])
        last = [{"train_error": run["curves"][-1]["train_error"]} for run in found]
        rate = chosen_rate(Cell(norm), results)
        lines.append(f"| {NAMES[norm]} | {rate} | {_entry(last, 'train_error')} | {_entry(found)} |")
    return [*lines, ""]


def _vgg(runs: Runs) -> list[str]:
    lines = [
        "## VGG-16 from random weights", "",
        f"Percentiles ({', '.join(map(str, PERCENTILES))} %) of what the last convolution gives, as in Figure 6.", "",
        "| norm | test error | after the first epoch | after the last epoch |", "|---|---|---|---|",
    ]  # fmt: skip
    for norm in ("none", "bn", "gn"):
        found = runs.get(Cell(norm, 32, "vgg16").name, [])
        shown = [str(found[0]["curves"][epoch]["percentiles"]) for epoch in (0, -1)] if found else ["not run"] * 2
        lines.append(f"| {NAMES[norm]} | {_entry(found)} | {' | '.join(shown)} |")
    return [*lines, "", "![Percentiles of the last convolution](figures/vgg.png)", "", *_machine(runs)]


def _machine(runs: Runs) -> list[str]:
    versions = next((run["versions"] for found in runs.values() for run in found), None)
    return [] if versions is None else [", ".join(f"{name} {value}" for name, value in versions.items()) + "."]


def draw_figure1(runs: Runs, *, path: Path) -> None:
    """Draw the test error against the pictures per step, as Figure 1: mean and interval of the seeds."""
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axis = figure.subplots()
    for norm in CURVES:
        found = {batch: runs[Cell(norm, batch).name] for batch in BATCHES if Cell(norm, batch).name in runs}
        values = [interval([run["test_error"] for run in some]) for some in found.values()]
        axis.errorbar(
            [BATCHES.index(batch) for batch in found], [value.mean for value in values],
            yerr=[value.half if value.runs > 1 else 0 for value in values], marker="o", capsize=3, label=NAMES[norm],
        )  # fmt: skip
    axis.set(xlabel="pictures per step", ylabel="test error in percent")
    axis.set_xticks(range(len(BATCHES)), [str(batch) for batch in BATCHES])
    axis.grid(alpha=0.3)
    if axis.has_data():
        axis.legend(fontsize=8)
    _write(figure, path)


def draw_percentiles(runs: Runs, *, path: Path) -> None:
    """Draw the percentiles of VGG-16's last convolution epoch by epoch, of the first seed of each norm."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axis, norm in zip(figure.subplots(1, 3), ("none", "bn", "gn"), strict=True):
        axis.set(title=f"VGG-16, {NAMES[norm]}", xlabel="epoch", ylabel="response")
        axis.grid(alpha=0.3)
        for run in runs.get(Cell(norm, 32, "vgg16").name, [])[:1]:
            for index, percent in enumerate(PERCENTILES):
                values = [row["percentiles"][index] for row in run["curves"]]
                axis.plot([row["epoch"] for row in run["curves"]], values, label=f"{percent} %")
            axis.legend(fontsize=8)
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_figure(path, dpi=110)


if __name__ == "__main__":
    write_page(IMAGE_RESULTS, page=IMAGE_RESULTS.parent / "images.md")
