"""The picture of a passport: sizes, rates, lengths and bit rates of its videos."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vidgn.data.passports.passport import TOO_SHORT, VideoFacts
from vidgn.files.outputs import replacing

_BARS = 12  # distinct values that get a bar each; where there are more, neighbours share one
_COLOUR, _INK, _FAINT = "#3b6ea8", "#222222", "#dddddd"


def draw_histograms(rows: Sequence[VideoFacts], file: Path) -> Path:
    """Write four histograms of the videos that are ok as a PNG and return where.

    Short side (px), frames per second, duration (s) and bit rate (Mbit/s).
    """
    good = [row for row in rows if row.status == "ok"]
    figure = Figure(figsize=(9.6, 6.0), layout="constrained")
    panels = figure.subplots(2, 2)
    _draw(panels[0, 0], [min(row.width, row.height) for row in good], "short side (px)")
    _draw(panels[0, 1], [round(row.fps, 2) for row in good if row.fps], "frames per second")
    _draw(panels[1, 0], [row.duration for row in good if row.duration], "duration (s)", bars=False)
    rates = [8e-6 * row.bytes / row.duration for row in good if row.duration]
    _draw(panels[1, 1], rates, "bit rate of the file (Mbit/s)", bars=False)
    short = sum(row.frames < TOO_SHORT for row in good)
    figure.suptitle(
        f"{len(good):,} of {len(rows):,} videos are ok; {short:,} are shorter than {TOO_SHORT} frames",
        color=_INK, fontsize=11,
    )  # fmt: skip
    with replacing(file) as part:
        figure.savefig(part, dpi=110, format="png")
    return file


def _draw(axes: Any, values: Sequence[float], title: str, *, bars: bool = True) -> None:
    """Draw one bar per value where they are few and `bars`, otherwise a histogram."""
    distinct = sorted(set(values))
    if not distinct:
        axes.text(0.5, 0.5, "no video", ha="center", va="center", transform=axes.transAxes, color=_INK)
        axes.set(xticks=[], yticks=[])
    elif bars and len(distinct) <= _BARS:
        counts = [sum(value == wanted for value in values) for wanted in distinct]
        axes.bar(range(len(distinct)), counts, color=_COLOUR, width=0.7)
        turned = 45 if len(distinct) > 7 else 0
        axes.set_xticks(range(len(distinct)), [f"{value:g}" for value in distinct], rotation=turned)
        axes.set_xlim(-0.9, max(len(distinct), 4) - 0.1)
        for position, count in enumerate(counts):
            axes.annotate(f"{count:,}", (position, count), (0, 2), textcoords="offset points", ha="center", fontsize=8)
        axes.margins(y=0.15)
    else:
        axes.hist(values, bins=np.linspace(0, distinct[-1], 31), color=_COLOUR)
    axes.set(xlabel=title, ylabel="videos")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
