"""Draw the curves of the runs: the errors as in Figures 5 and 7, the percentiles as in Figure 6."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.curves import PERCENTILES

_COLUMNS = (("t32_b8", "32 frames, 8 clips"), ("t32_b4", "32 frames, 4 clips"), ("t32_b2", "32 frames, 2 clips"))
Runs = Sequence[Mapping[str, Any]]


def draw_all(runs: Runs, *, folder: Path) -> list[Path]:
    """Write errors.png, length.png and percentiles.png, of what there is."""
    folder.mkdir(parents=True, exist_ok=True)
    lengths = (("t32_b4", "32 frames, 4 clips"), ("t64_b4", "64 frames, 4 clips"))
    return [
        draw_errors(runs, _COLUMNS, path=folder / "errors.png"),
        draw_errors(runs, lengths, path=folder / "length.png"),
        draw_percentiles(runs, path=folder / "percentiles.png"),
    ]


def draw_errors(runs: Runs, columns: Sequence[tuple[str, str]], *, path: Path) -> Path:
    """Draw training (dashed) and 1-clip validation error (solid), the mean of the seeds, BN beside GN."""
    with rc_context({"svg.hashsalt": "vidgn"}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for axis, norm in zip(axes, ("bn", "gn"), strict=True):
            for number, (column, title) in enumerate(columns):
                found = [run["curves"] for run in runs if run["cell"] == f"{norm}_{column}"]
                if found:
                    _draw(axis, found, title=f"{title} ({len(found)} seeds)", colour=f"C{number}")
            axis.set(title=f"{norm.upper()}", xlabel="epoch")
            axis.grid(alpha=0.3)
            if axis.has_data():
                axis.legend(title="solid: validation, dashed: training", fontsize=8, title_fontsize=8)
        axes[0].set_ylabel("error in percent, 1 clip")
        FigureCanvasAgg(figure).print_figure(path, dpi=110)
    return path


def draw_percentiles(runs: Runs, *, path: Path) -> Path:
    """Draw the percentiles of what a norm of res5 is given, epoch by epoch, seed 0."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots(1, 4, sharey=True)
    for axis, cell in zip(axes, ("bn_t32_b8", "gn_t32_b8", "bn_t32_b2", "gn_t32_b2"), strict=True):
        found = [run["curves"] for run in runs if run["cell"] == cell and run["seed"] == 0]
        axis.set(title=cell, xlabel="epoch")
        axis.grid(alpha=0.3)
        for rows in found:
            epochs = [row["epoch"] for row in rows]
            for place, percent in enumerate(PERCENTILES):
                axis.plot(epochs, [row["percentiles"][place] for row in rows], label=f"{percent} %")
    axes[0].set_ylabel("response before the norm")
    if axes[0].has_data():
        axes[0].legend(fontsize=8)
    FigureCanvasAgg(figure).print_figure(path, dpi=110)
    return path


def _draw(axis: Axes, found: Sequence[Sequence[Mapping[str, float]]], *, title: str, colour: str) -> None:
    epochs = [row["epoch"] for row in found[0]]
    for kind, style, label in (("val_error", "-", title), ("train_error", "--", None)):
        rows = [[row[kind] for row in rows] for rows in found]
        means = [fmean(values) for values in zip(*rows, strict=True)]
        axis.plot(epochs, means, style, color=colour, label=label)
