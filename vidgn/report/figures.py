"""The pictures of a test in a report: which classes, how sure, which frames."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vidgn.report.read_run import Bin
from vidgn.report.theme import FAINT, HEAT, INK, MIDDLE, PANEL, PAPER, TRAIN, VAL, legend, new_figure
from vidgn.terminal.escape import plot_label


def confusion_matrix(names: Sequence[str], counts: Sequence[Sequence[int]]) -> Figure:
    """Draw which class is taken for which, in percent of the label's videos."""
    many = len(names) > 30
    side = 5.6 if many else min(8.0, 3.2 + 0.32 * len(names))
    figure, (axes,) = new_figure((side, 0.86 * side))
    table = np.array(counts, float)
    shares = 100 * table / np.maximum(table.sum(1, keepdims=True), 1)
    image = axes.imshow(shares, vmin=0, vmax=100, cmap=HEAT)
    if not many:
        shown = [plot_label(name, longest=24) for name in names]
        axes.set_xticks(range(len(names)), shown, rotation=90)
        axes.set_yticks(range(len(names)), shown)
        _write_shares(axes, shares)
    bar = figure.colorbar(image, ax=axes, label="% of the label's videos")
    bar.ax.tick_params(colors=INK)
    bar.ax.yaxis.label.set_color(INK)
    axes.set(xlabel="predicted class", ylabel="label")
    return figure


def worst_classes(accuracies: Sequence[tuple[str, float, int]]) -> Figure:
    """Draw the accuracy of the ten classes with the lowest."""
    shown = list(accuracies[:10])[::-1]
    figure, (axes,) = new_figure((PANEL[0], 1.1 + 0.3 * len(shown)))
    names = [f"{plot_label(name, longest=32)} ({count})" for name, _, count in shown]
    axes.barh(range(len(shown)), [value for _, value, _ in shown], color=TRAIN)
    axes.set_yticks(range(len(shown)), names)
    for row, (_, value, _) in enumerate(shown):
        inside = value > 85
        colour = PAPER if inside else INK
        axes.text(value + (-1 if inside else 1), row, f"{value:.0f}", va="center", ha="right" if inside else "left",
                  color=colour)  # fmt: skip
    axes.set(xlim=(0, 100), xlabel="top-1 accuracy (%)", ylabel="class (videos)")
    return figure


def reliability_diagram(bins: Sequence[Bin], error: float) -> Figure:
    """Draw accuracy over score: on the diagonal, a score of 80 % is right in 80 % of cases."""
    figure, (axes,) = new_figure(PANEL)
    axes.plot([0, 1], [0, 1], ":", color=INK, label="calibrated")
    sizes = [20 + 180 * item.videos / max(item.videos for item in bins) for item in bins]
    axes.plot([item.score for item in bins], [item.accuracy for item in bins], color=VAL, linewidth=1)
    axes.scatter([item.score for item in bins], [item.accuracy for item in bins], sizes, color=VAL, alpha=0.8,
                 label="videos (area: number)")  # fmt: skip
    axes.set(
        xlim=(0, 1.03), ylim=(0, 1.03), xlabel="score of the best class (0..1)", ylabel="share that is right (0..1)"
    )
    axes.set_title(f"expected calibration error {100 * error:.1f} %")
    axes.grid(color=FAINT, linewidth=0.6)
    legend(axes)
    return figure


def film_strip(frames: NDArray[np.uint8], times: Sequence[str]) -> Figure:
    """Lay frames uint8 (T, H, W, 3) side by side, each with its time below; two rows of four for a narrow page."""
    columns, rows = 4, -(-len(frames) // 4)
    height = 1.36 * rows * frames.shape[1] / frames.shape[2] + 0.24 * rows
    figure = Figure(figsize=(PANEL[0], height), dpi=100, facecolor="none", layout="constrained")
    for index, (frame, time) in enumerate(zip(frames, times, strict=True)):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(frame)
        axes.set_axis_off()
        axes.set_title(time, fontsize=9, color=MIDDLE, pad=2)
    return figure


def _write_shares(axes: Any, shares: NDArray[np.float64]) -> None:
    colours = mpl.colormaps[HEAT]
    for row, column in np.argwhere(shares >= 0.5):
        red, green, blue, _ = colours(shares[row, column] / 100)
        ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
        axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", fontsize=7, color=ink)
