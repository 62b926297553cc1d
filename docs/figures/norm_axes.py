"""Draw which values share a mean and a variance: `python docs/figures/norm_axes.py` writes norm_axes.svg beside it.

A cube is the features of one layer for N clips: channels C to the right, clips N backwards, T x H x W upwards
(video has four axes beside N; the last three always go together). Filled cells share one mean and one variance.
Drawn like Figure 2 of "Group Normalization" (arXiv 1803.08494), with a time axis and batch norm's relatives.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

Point = tuple[float, float]


class Panel(NamedTuple):
    """One norm: a title, the values in words, and which of the 6 channels and 6 clips share a mean.

    With `devices` the clips stand on two of them.
    """

    name: str
    words: str
    channels: frozenset[int]
    clips: frozenset[int]
    devices: bool = False


ALL = frozenset(range(6))
LAST = frozenset({5})
PANELS = (
    Panel("bn", "one channel, all clips of a device", LAST, ALL),
    Panel("sync_bn", "one channel, all clips of all devices", LAST, ALL, devices=True),
    Panel("sub_bn", "one channel, every second clip", LAST, frozenset({0, 2, 4})),
    Panel("ln", "all channels, one clip", ALL, frozenset({0})),
    Panel("in", "one channel, one clip", LAST, frozenset({0})),
    Panel("gn", "one group of channels, one clip", frozenset({4, 5}), frozenset({0})),
)

CELL = 24.0  # px of a channel and of a step upwards
DEPTH = (11.0, -8.5)  # px of a clip backwards
GAP = (14.0, -10.8)  # px between two devices
HEIGHT = 4  # steps upwards
PANEL = (320.0, 290.0)  # px
FILLED, EMPTY, LINE, INK = "#e8743b", "#ffffff", "#5b6770", "#1f2a30"


def draw() -> str:
    """Give the picture as SVG."""
    width, height = 3 * PANEL[0], 2 * PANEL[1] + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" font-family="sans-serif">',
        "<title>Which values share a mean and a variance</title>",
        f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>',
    ]
    for place, panel in enumerate(PANELS):
        left, top = PANEL[0] * (place % 3), PANEL[1] * (place // 3)
        parts += [f'<g transform="translate({left:g} {top:g})">', *_panel(panel), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel) -> Iterator[str]:
    yield f'<text x="30" y="34" font-size="21" font-weight="bold" fill="{INK}">{panel.name}</text>'
    yield f'<text x="30" y="55" font-size="14" fill="{INK}">{panel.words}</text>'
    for clip in reversed(range(6)):  # the farthest first
        yield from _slice(panel, clip)
    yield from _axes(panel)


def _slice(panel: Panel, clip: int) -> Iterator[str]:
    """Draw one clip's channels: top and right face, and the front where no clip stands before it."""
    steps = [(step / HEIGHT, (step + 1) / HEIGHT) for step in range(HEIGHT)]
    colors = [FILLED if channel in panel.channels and clip in panel.clips else EMPTY for channel in range(6)]
    for channel, color in enumerate(colors):
        left, right = channel, channel + 1
        yield _face(panel, color, clip, [(left, 1, 0), (right, 1, 0), (right, 1, 1), (left, 1, 1)])
    for low, high in steps:
        yield _face(panel, colors[5], clip, [(6, low, 0), (6, high, 0), (6, high, 1), (6, low, 1)])
    for channel, color in enumerate(colors if clip == 0 or (panel.devices and clip == 3) else ()):
        left, right = channel, channel + 1
        for low, high in steps:
            yield _face(panel, color, clip, [(left, low, 0), (right, low, 0), (right, high, 0), (left, high, 0)])


def _face(panel: Panel, color: str, clip: int, corners: list[tuple[float, float, int]]) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (_place(panel, clip, corner) for corner in corners))
    return f'<polygon points="{points}" fill="{color}" stroke="{LINE}" stroke-width="0.9" stroke-linejoin="round"/>'


def _place(panel: Panel, clip: int, corner: tuple[float, float, int]) -> Point:
    """Put a corner on paper: channel, height 0..1, and 0 for the clip's front or 1 for its back."""
    channel, height, back = corner
    beyond = 1 if panel.devices and clip >= 3 else 0
    x = 58 + CELL * channel + DEPTH[0] * (clip + back) + GAP[0] * beyond
    y = 250 - CELL * HEIGHT * height + DEPTH[1] * (clip + back) + GAP[1] * beyond
    return x, y


def _axes(panel: Panel) -> Iterator[str]:
    style = f'font-size="14" font-style="italic" fill="{INK}"'
    yield f'<text x="{58 + 3 * CELL:g}" y="270" text-anchor="middle" {style}>C</text>'
    x, y = _place(panel, 3, (6, 0, 0))
    yield f'<text x="{x + 12:.1f}" y="{y + 10:.1f}" {style}>N</text>'
    middle = 250 - CELL * HEIGHT / 2
    yield (
        f'<text x="44" y="{middle:g}" text-anchor="middle" transform="rotate(-90 44 {middle:g})" {style}>T, H, W</text>'
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(draw())
