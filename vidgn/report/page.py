"""The page of a report: one HTML file with its pictures inside, for wide and narrow screens, light and dark."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from vidgn.report.read_run import Run

# Table 8 of "Group Normalization": (norm, frames, clips per GPU) -> top-1, top-5 in percent, Kinetics-400.
TABLE_8: Mapping[tuple[str, int, int], tuple[float, float]] = {
    ("bn", 32, 8): (73.3, 90.7),
    ("bn", 32, 4): (72.1, 90.0),
    ("bn", 64, 4): (73.3, 90.8),
    ("gn", 32, 8): (73.0, 90.6),
    ("gn", 32, 4): (72.8, 90.6),
    ("gn", 64, 4): (74.5, 91.7),
}


GENERATOR = '<meta name="generator" content="vidgn report">'  # tells a page that a report wrote
_NONE = "\N{EN DASH}"


class PageFigure(NamedTuple):
    """One figure.

    Attributes:
        alt: what it shows, as text.
        png: the file.
        has_frames: it shows frames of videos, whose colours a dark page must not change.
    """

    alt: str
    png: bytes
    has_frames: bool = False


class Section(NamedTuple):
    """A heading with HTML and pictures below."""

    title: str
    parts: Sequence[str | PageFigure]


def page(sections: Sequence[Section]) -> str:
    """Return the whole page."""
    body = "".join(
        f"<section><h2>{escape(section.title)}</h2>{''.join(_block(run) for run in _grouped(section.parts))}</section>"
        for section in sections
    )
    return _PAGE.replace("{style}", _STYLE).replace("{body}", body)


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(text)}</p>" if text else ""


def runs_table(runs: Sequence[Run]) -> str:
    """Return what was run and what came out, with the protocol and the number of videos."""
    head = ("run", "data", "norm", "frames", "batch", "top-1 %", "top-5 %", "clip top-1 %", "n", "protocol")
    rows = []
    for run in runs:
        test = run.metrics
        numbers = [f"{test[name]:.2f}" if test else _NONE for name in ("video_top1", "video_top5", "clip_top1")]
        counted = f"{test['videos_scored']} / {test['videos_expected']}" if test else _NONE
        config = run.config
        shape = (config["data"]["name"], run.norm, config["clip_len"], config["batch"])
        rows.append([run.folder.absolute().name, *shape, *numbers, counted, test.get("protocol", "not tested")])
    return html_table(head, rows)


def table_8(runs: Sequence[Run]) -> str:
    """Return Table 8, the paper's numbers beside those of the runs; nothing where no run is on Kinetics-400."""
    if not any(run.config["data"]["name"] == "kinetics400" for run in runs):
        return ""
    cells = [("32 frames, batch 8", 32, 8), ("32 frames, batch 4", 32, 4), ("64 frames, batch 4", 64, 4)]
    rows = [[norm.upper(), *(_cell(runs, norm, *size) for _, *size in cells)] for norm in ("bn", "gn")]
    note = (
        "Kinetics-400 validation, top-1 / top-5 in percent, mean of 10 clips. Ours is a dash where no run of that "
        "cell on Kinetics-400 was given."
    )
    return f"<h3>Table 8</h3>{paragraph(note)}{html_table(('norm', *(name for name, *_ in cells)), rows)}"


def _cell(runs: Sequence[Run], norm: str, frames: int, batch: int) -> str:
    paper = "{:.1f} / {:.1f}".format(*TABLE_8[norm, frames, batch])
    ours = _NONE
    for run in runs:
        config = run.config
        if run.metrics and (run.norm, config["clip_len"], config["batch"], config["data"]["name"]) == (
            norm, frames, batch, "kinetics400",
        ):  # fmt: skip
            test = run.metrics
            ours = f"{test['video_top1']:.1f} / {test['video_top5']:.1f} (n = {test['videos_scored']})"
    return f"paper {paper}; ours {ours}"


def html_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table whose cells carry their column's name, which a narrow screen shows beside them."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-name="{escape(name)}">{escape(str(cell))}</td>' for name, cell in zip(head, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _grouped(parts: Sequence[str | PageFigure]) -> list[list[str | PageFigure]]:
    """Put pictures after one another into one row."""
    groups: list[list[str | PageFigure]] = []
    for part in parts:
        if groups and isinstance(part, PageFigure) and isinstance(groups[-1][0], PageFigure):
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


def _block(parts: Sequence[str | PageFigure]) -> str:
    pictures = [part for part in parts if isinstance(part, PageFigure)]
    if not pictures:
        return "".join(str(part) for part in parts)
    return f'<div class="row">{"".join(_figure(picture) for picture in pictures)}</div>'


def _figure(picture: PageFigure) -> str:
    source = f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"
    alt = escape(picture.alt, quote=True)
    kind = "frames" if picture.has_frames else "plot"
    return f'<figure><img class="{kind}" src="{source}" alt="{alt}"><figcaption>{alt}</figcaption></figure>'


_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --faint: #d0d7de; --soft: #57606a; }
@media (prefers-color-scheme: dark) { :root { --paper: #0d1117; --ink: #e6edf3; --faint: #30363d; --soft: #9aa4af; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; border-bottom: 1px solid var(--faint); margin-top: 2rem; }
h3 { font-size: 1rem; } p { color: var(--soft); max-width: 70ch; }
.row { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
figure { margin: 0; max-width: 100%; } img { max-width: 100%; height: auto; display: block; }
@media (prefers-color-scheme: dark) { img.plot { filter: invert(.93) hue-rotate(180deg); } }
figcaption { color: var(--soft); font-size: .85rem; max-width: 560px; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--faint); vertical-align: top; }
@media (max-width: 760px) {
  thead { display: none; } tr { display: block; border-bottom: 2px solid var(--faint); padding: .5rem 0; }
  td { display: grid; grid-template-columns: 8rem 1fr; border: 0; padding: .15rem 0; overflow-wrap: anywhere; }
  td::before { content: attr(data-name); color: var(--soft); }
}
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="vidgn report"><title>vidgn report</title><style>{style}</style></head>
<body><h1>vidgn report</h1>{body}</body></html>
"""
