"""What a report says of the figures of a test beside its accuracies: intervals, heads, average precision by class."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidgn.files.bounds import finite_number, mapping, text
from vidgn.report.page import html_table
from vidgn.report.run_files import parsed, read_run_table

_SHOWN = 20  # classes with the lowest average precision
_NAMES = {"video_top1": "top-1", "map": "mean average precision", "mean_class": "mean-class accuracy"}


def figure_text(metrics: Mapping[str, Any]) -> list[str]:
    """Return sentences about the figures of a test, each with its interval where there is one.

    Raises:
        ValueError: a figure is no number.

    >>> figure_text({"map": 41.5, "intervals": {"map": [38, 45.0]}, "intervals_over": "groups"})
    ['mean average precision 41.50 %', '95 % intervals over groups: mean average precision 38.00 to 45.00 %']
    """
    lines = [f"{_NAMES['map']} {finite_number(metrics['map'], 'map'):.2f} %"] if "map" in metrics else []
    for name, head in mapping(metrics.get("heads", {}), "heads").items():
        top = [finite_number(mapping(head, "heads").get(key), key) for key in ("top1", "top5")]
        lines.append(f"{name}: top-1 {top[0]:.2f} %, top-5 {top[1]:.2f} %")
    spans = []
    for name, pair in mapping(metrics.get("intervals", {}), "intervals").items():
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"has an interval of {name[:50]} that is not two numbers")
        low, high = (finite_number(value, "an interval") for value in pair)
        spans.append(f"{_NAMES.get(name, name)} {low:.2f} to {high:.2f} %")
    if spans:
        over = text(metrics.get("intervals_over", "videos"), "intervals_over", longest=20)
        lines.append(f"95 % intervals over {over}: {', '.join(spans)}")
    return lines


def class_precision(file: Path) -> str:
    """Return a table of the classes with the lowest average precision, as HTML.

    Raises:
        ValueError: the file is damaged.
    """
    rows = read_run_table(file, columns=("class", "videos", "average_precision"))
    pairs = parsed(file, lambda: [(float(row["average_precision"]), row) for row in rows if row["average_precision"]])
    lowest = sorted(pairs, key=lambda pair: pair[0])[:_SHOWN]
    cells = [[row["class"], row["videos"], f"{value:.2f}"] for value, row in lowest]
    return html_table(("class (lowest first)", "videos", "average precision %"), cells)
