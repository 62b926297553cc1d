"""How the pictures of a report look: light and dark pages, colours from Okabe and Ito, safe for the colour-blind."""

import io
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.text import Text


class Theme(NamedTuple):
    """Colours of one kind of page; `marks` tells lines apart where there are several."""

    name: str
    paper: str
    ink: str
    faint: str
    train: str
    val: str
    heat: str  # a colour map of matplotlib
    marks: tuple[str, ...]


LIGHT = Theme(
    "light",
    "#ffffff",
    "#1b1f24",
    "#d0d7de",
    "#0072B2",
    "#D55E00",
    "Blues",
    ("#0072B2", "#D55E00", "#009E73", "#CC79A7"),
)
DARK = Theme(
    "dark",
    "#0d1117",
    "#e6edf3",
    "#30363d",
    "#56B4E9",
    "#E69F00",
    "cividis",
    ("#56B4E9", "#E69F00", "#009E73", "#CC79A7"),
)
THEMES = (LIGHT, DARK)
PANEL = (5.6, 3.9)  # inches at 100 dpi: two beside one another at 1280 px, one at 420 px


def new_figure(theme: Theme, size: tuple[float, float], *, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Any]]:
    """Return a figure in the colours of the theme, and its axes row by row."""
    figure = Figure(figsize=size, dpi=100, facecolor=theme.paper, layout="constrained")
    found: list[Any] = []
    for place in range(rows * columns):
        axes: Any = figure.add_subplot(rows, columns, place + 1)
        axes.set_facecolor(theme.paper)
        axes.tick_params(colors=theme.ink)
        for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
            text.set_color(theme.ink)
        for spine in axes.spines.values():
            spine.set_color(theme.faint)
        found.append(axes)
    return figure, found


def legend(axes: Any, theme: Theme) -> None:
    """Draw the legend, if there is anything to name."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(handles, labels, facecolor=theme.paper, edgecolor=theme.faint, labelcolor=theme.ink, fontsize=8)


def as_png(figure: Figure) -> bytes:
    """Return the picture as a PNG file; a `$` in a name is a character, and begins no formula."""
    buffer = io.BytesIO()
    with mpl.rc_context({"text.parse_math": False}):  # for texts that drawing makes
        for text in figure.findobj(Text):
            text.set_parse_math(False)
        figure.savefig(buffer, format="png", facecolor=figure.get_facecolor())
    return buffer.getvalue()
