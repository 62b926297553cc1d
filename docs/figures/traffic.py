"""Draw the bytes that norm, sum and ReLU move: `python docs/figures/traffic.py` writes traffic.svg beside it.

Counted from what each kernel reads and writes once, per value of the features, with nothing found in a cache.
A bfloat16 value has 2 bytes, a float32 one 4. The kernels are those of torch 2.11 to 2.13 (aten/native/cuda/
group_norm_kernel.cu; group_norm is on autocast's float32 list, ATen/autocast_mode.h) and of `vidgn/norms`.
"""

from pathlib import Path
from typing import NamedTuple


class Way(NamedTuple):
    """One way to compute it: a name, and the bytes of each kernel, forward and backward."""

    name: str
    forward: tuple[int, ...]
    backward: tuple[int, ...]


# Forward under autocast: to float32, moments, normalize, (add,) ReLU, back to bfloat16 for the next convolution.
# Backward: back to float32, through the ReLU, sums, dx, back. Channels-last adds a copy wherever the layout changes.
RELU = (
    Way("torch, autocast, channels-last", (6, 4, 8, 8, 6, 8, 4), (6, 12, 20, 6, 16, 4)),
    Way("torch, autocast", (6, 4, 8, 8, 6), (6, 12, 20, 6)),
    Way("torch, bfloat16", (2, 4, 4), (6, 4, 6)),
    Way("torch.compile, autocast", (2, 5), (5, 7)),
    Way("torch.compile, bfloat16", (2, 4), (6, 8)),
    Way("vidgn", (2, 4), (4, 6)),
)
ADD_RELU = (
    Way("torch, autocast, channels-last", (6, 4, 8, 12, 8, 6, 8, 4), (6, 12, 20, 6, 16, 4)),
    Way("torch, autocast", (6, 4, 8, 12, 8, 6), (6, 12, 20, 6)),
    Way("torch, bfloat16", (2, 4, 6, 4), (6, 4, 6)),
    Way("torch.compile, autocast", (2, 13), (7, 13)),
    Way("torch.compile, bfloat16", (2, 6), (6, 10)),
    Way("vidgn", (2, 6), (8, 6)),
)

WIDTH, BAR, ROW, LEFT = 560, 17, 48, 14  # px
SCALE = 3.45  # px per byte
FORWARD, BACKWARD, INK, LINE = "#2b7bba", "#e8743b", "#1f2a30", "#ffffff"


def draw() -> str:
    """Give the picture as SVG."""
    panels = [("norm, ReLU", RELU), ("norm, sum, ReLU", ADD_RELU)]
    height = 66 + sum(52 + ROW * len(rows) for _, rows in panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        "<title>Bytes moved per value by group norm, sum and ReLU</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(LEFT, 26, "bytes moved per value", size=17, bold=True),
    ]
    for place, (color, words) in enumerate(((FORWARD, "forward"), (BACKWARD, "backward"))):
        left = LEFT + 110 * place
        parts.append(f'<rect x="{left}" y="38" width="13" height="13" fill="{color}"/>')
        parts.append(_text(left + 19, 50, words, size=15))
    parts.append(_text(LEFT + 235, 50, "each piece is one kernel", size=15))
    top = 66
    for title, rows in panels:
        parts.append(_text(LEFT, top + 28, title, size=17, bold=True))
        top += 40
        for row in rows:
            parts += _row(row, top)
            top += ROW
        top += 12
    return "\n".join([*parts, "</svg>", ""])


def _row(row: Way, top: int) -> list[str]:
    total = sum(row.forward) + sum(row.backward)
    parts = [_text(LEFT, top + 16, row.name, size=15, bold=row.name == "vidgn")]
    left = float(LEFT)
    for color, kernels in ((FORWARD, row.forward), (BACKWARD, row.backward)):
        for size in kernels:
            parts.append(
                f'<rect x="{left:.1f}" y="{top + 22}" width="{size * SCALE:.1f}" height="{BAR}" fill="{color}"'
                f' stroke="{LINE}"/>'
            )
            left += size * SCALE
    parts.append(_text(left + 7, top + 36, f"{sum(row.forward)} + {sum(row.backward)} = {total}", size=15))
    return parts


def _text(x: float, y: float, words: str, *, size: int, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y}" font-size="{size}" fill="{INK}"{weight}>{words}</text>'


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(draw())
