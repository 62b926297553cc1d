"""How the figures of a report look: colours from Okabe and Ito, safe for the colour-blind.

Figures are drawn once, on white. On a dark page the style sheet of page.py inverts them and keeps their hues.
"""

import io
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.text import Text

PAPER = "#ffffff"
INK = "#1b1f24"
FAINT = "#d0d7de"
TRAIN = "#0072B2"
VAL = "#D55E00"
HEAT = "Blues"  # a colour map of matplotlib
MARKS = (TRAIN, VAL, "#009E73", "#CC79A7")  # tell lines apart where there are several
MIDDLE = "#757c84"  # 4.3:1 on white and on the dark page alike
PANEL = (5.6, 3.9)  # inches at 100 dpi: two beside one another at 1280 px, one at 420 px


def new_figure(size: tuple[float, float], *, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Any]]:
    """Return a figure and its axes row by row."""
    figure = Figure(figsize=size, dpi=100, facecolor=PAPER, layout="constrained")
    axes_by_row: list[Any] = []
    for position in range(rows * columns):
        axes: Any = figure.add_subplot(rows, columns, position + 1)
        axes.set_facecolor(PAPER)
        axes.tick_params(colors=INK)
        for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
            text.set_color(INK)
        for spine in axes.spines.values():
            spine.set_color(FAINT)
        axes_by_row.append(axes)
    return figure, axes_by_row


def legend(axes: Any) -> None:
    """Draw the legend, if there is anything to name."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(handles, labels, facecolor=PAPER, edgecolor=FAINT, labelcolor=INK, fontsize=8)


def as_png(figure: Figure) -> bytes:
    """Return the picture as a PNG file; a `$` in a name is a character, and begins no formula."""
    buffer = io.BytesIO()
    with mpl.rc_context({"text.parse_math": False}):  # for texts that drawing makes
        for text in figure.findobj(Text):
            text.set_parse_math(False)
        figure.savefig(buffer, format="png", facecolor=figure.get_facecolor())
    return buffer.getvalue()
