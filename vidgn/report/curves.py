"""The curves of a run: errors, loss, pace, percentiles of features; for the report and for `curves.png`."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vidgn.report.read_run import Points, Run, read_run
from vidgn.report.theme import FAINT, INK, MARKS, PANEL, TRAIN, VAL, as_png, legend, new_figure
from vidgn.terminal.escape import plot_label

_MARKERS = ("o", "s", "^", "D", "v", "P")
_BINS = 200  # points of a curve by step: what is more is averaged


def write_curves(folder: Path) -> None:
    """Draw what a run has logged so far into `curves.png` of its folder; the picture is whole or the one before.

    Raises:
        OSError: the folder cannot be read or written.
    """
    figure = overview(read_run(folder))
    part = folder / "curves.png.part"
    part.write_bytes(as_png(figure))
    os.replace(part, folder / "curves.png")


def overview(run: Run) -> Figure:
    """Draw one run on one picture: error, loss, rate of learning, and throughput and percentiles if recorded."""
    panels: list[Callable[[Any], None]] = [
        lambda axes: draw_errors(axes, [run], top=None),
        lambda axes: draw_steps(axes, run.loss, label="training loss (nats)"),
        lambda axes: draw_steps(axes, run.rate, label="learning rate (per step)"),
    ]
    speed, label = next(iter(PACE.items()))
    if run.pace.get(speed):
        panels.append(lambda axes: draw_steps(axes, run.pace[speed], label=label))
    if run.percentiles:
        panels.append(lambda axes: draw_percentiles(axes, run))
    columns = 2 if len(panels) == 4 else 3
    rows = -(-len(panels) // columns)
    figure, axes = new_figure((11.2, 0.3 + 3.7 * rows), rows=rows, columns=columns)
    figure.suptitle(plot_label(run.title), color=INK, fontsize=11)
    for panel, draw in zip(axes, panels, strict=False):
        draw(panel)
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    return figure


def curves(runs: Sequence[Run], *, top: float) -> Figure:
    """Draw training (dashed) and 1-clip validation error (solid) per epoch, as in Figures 5 and 7.

    `top` is the end of the error axis, the same for every norm.
    """
    figure, (axes,) = new_figure(PANEL)
    draw_errors(axes, runs, top=top)
    axes.set_title(plot_label(runs[0].norm.upper()))
    return figure


def pace(points: Points, *, label: str) -> Figure:
    """Draw one measure of speed over the steps of a run."""
    figure, (axes,) = new_figure((PANEL[0], 2.6))
    draw_steps(axes, points, label=label)
    return figure


def percentiles(run: Run) -> Figure:
    """Draw the percentiles of a layer's values over the epochs, as in Figure 6."""
    figure, (axes,) = new_figure(PANEL)
    draw_percentiles(axes, run)
    return figure


def draw_errors(axes: Any, runs: Sequence[Run], *, top: float | None) -> None:
    """Draw the errors of runs by epoch; `top` None: to the highest."""
    for number, run in enumerate(runs):
        mark = {"marker": _MARKERS[number % len(_MARKERS)], "markersize": 4, "markevery": max(1, len(run.val) // 8)}
        name = plot_label(run.folder.absolute().name)
        label = f" {name} ({run.config['clip_len']} frames, batch {run.config['batch']})"
        label = label if len(runs) > 1 or top is not None else ""
        train, val = (TRAIN, VAL) if len(runs) == 1 else 2 * (MARKS[number % len(MARKS)],)
        if run.train:
            axes.plot(*zip(*run.train.items(), strict=True), "--", color=train, label=f"train{label}", **mark)
        if run.val:
            axes.plot(*zip(*run.val.items(), strict=True), "-", color=val, label=f"val 1-clip{label}", **mark)
    axes.set(xlabel="epoch", ylabel="error (%)", ylim=(0, top))
    _count_epochs(axes)
    _finish(axes, any(run.train or run.val for run in runs))


def draw_steps(axes: Any, points: Points, *, label: str) -> None:
    """Draw a value by optimizer step, averaged where there are more points than pixels."""
    steps, values = _thinned(points)
    axes.plot(steps, values, color=TRAIN, linewidth=1.2)
    axes.set(xlabel="optimizer step", ylabel=label)
    if len(values):
        axes.set_ylim(bottom=min(0.0, float(np.nanmin(values))))
    axes.set_xlim(left=0)
    _finish(axes, bool(points))


def draw_percentiles(axes: Any, run: Run) -> None:
    """Draw one line per percentile by epoch, the outer ones dashed."""
    for colour, (rank, values) in zip(MARKS, sorted(run.percentiles.items()), strict=False):
        style = "--" if rank in (min(run.percentiles), max(run.percentiles)) else "-"
        axes.plot(*zip(*values.items(), strict=True), style, color=colour, marker="o", markersize=3, label=f"{rank} %")
    axes.set(xlabel="epoch", ylabel="value before the norm (no unit)", title=f"percentiles of {plot_label(run.layer)}")
    _count_epochs(axes)
    _finish(axes, bool(run.percentiles))


# What vidgn logs of its speed, and how an axis calls it.
PACE: Mapping[str, str] = {
    "pace/clips_per_second": "throughput (clips/s)",
    "pace/memory_gb": "memory (GB)",
    "pace/data_share": "waiting for data (%)",
}
PACE_GPU: Mapping[str, str] = {"pace/gpu_peak_gb": "peak GPU memory (GB)"}  # on a GPU only


def _count_epochs(axes: Any) -> None:
    axes.set_xlim(left=0)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _finish(axes: Any, filled: bool) -> None:
    axes.grid(color=FAINT, linewidth=0.6)
    if filled:
        legend(axes)
    else:
        axes.text(0.5, 0.5, "not recorded", color=INK, ha="center", va="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])


def _thinned(points: Points) -> tuple[Any, Any]:
    """Return steps and values as arrays; more than `_BINS` become means of equal shares."""
    steps, values = np.array([point[0] for point in points], float), np.array([point[1] for point in points], float)
    if len(points) <= _BINS:
        return steps, values
    parts = [np.array_split(array, _BINS) for array in (steps, values)]
    return tuple(np.array([part.mean() for part in side]) for side in parts)  # type: ignore[return-value]
