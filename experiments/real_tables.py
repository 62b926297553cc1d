"""Tables and curves of the comparison of norms on real video."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments.real_norms import BATCHES, NORMS, RATES, SEEDS, validation_errors
from vidgn.scores.statistics import bootstrap

COLUMNS = tuple((length, batch) for length in ("short", "long") for batch in BATCHES)
ROWS = {"bn": "BN, running averages", "bn precise": "BN, precise statistics"} | {
    norm: name for norm, name in NORMS.items() if norm != "bn"
}
Column = tuple[str, int]  # length of the clips, clips per step


class Estimate(NamedTuple):
    """Points of top-1 with their 95 % interval over recordings, and how many seeds they are the mean of."""

    mean: float
    low: float
    high: float
    seeds: int


class Results:
    """The cells that are done: for each the share of seeds in which a test clip is right.

    Args:
        folder: of a file per cell, and `test.json` with the recording of each test clip.
    """

    def __init__(self, folder: Path) -> None:
        groups = json.loads((folder / "test.json").read_text(encoding="utf-8"))["groups"]
        files = sorted(folder.glob("*_b[0-9]*_s[0-9]*.json"))
        self.runs: list[dict[str, Any]] = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        self._codes = np.unique(groups, return_inverse=True)[1]

    def seeds(self, row: str, column: Column) -> list[int]:
        """Return the seeds that are done."""
        return sorted(run["seed"] for run in self._of(row, column))

    def level(self, row: str, column: Column) -> Estimate | None:
        """Estimate the top-1 of a row; None where no seed is done."""
        return self._estimate([(1.0, row, column)])

    def difference(self, *terms: tuple[float, str, Column]) -> Estimate | None:
        """Estimate a sum of top-1s with signs, from the seeds that all of them have."""
        return self._estimate(terms)

    def curves(self, norm: str, column: Column) -> list[list[dict[str, float]]]:
        """Return the rows of each seed."""
        return [run["curves"] for run in self._of(norm, column)]

    def _of(self, row: str, column: Column) -> list[dict[str, Any]]:
        norm = row.partition(" ")[0]
        return [run for run in self.runs if (run["norm"], run["length"], run["batch"]) == (norm, *column)]

    def _estimate(self, terms: Sequence[tuple[float, str, Column]]) -> Estimate | None:
        seeds = set.intersection(*(set(self.seeds(row, column)) for _, row, column in terms))
        if not seeds:
            return None
        values = np.zeros(len(self._codes))
        for sign, row, column in terms:
            kind = "precise" if row.endswith(" precise") else "plain"
            bits = [run["test"][kind]["right"] for run in self._of(row, column) if run["seed"] in seeds]
            values += sign * np.mean([_parse(text) for text in bits], axis=0)
        ((low, high),) = bootstrap([lambda rows: values[rows].mean()], len(values), groups=self._codes)
        return Estimate(100 * float(values.mean()), 100 * low, 100 * high, len(seeds))


def render(folder: Path, *, figure: Path | None = None) -> str:
    """Return the tables as Markdown, and draw the curves where a file is given."""
    results = Results(folder)
    if figure is not None:
        draw_curves(results, figure)
    return "\n".join([*_tuning(folder), "", *_levels(results), "", *_claims(results)])


def _tuning(folder: Path) -> list[str]:
    """Return the validation errors that the rates were chosen by."""
    lines = ["| validation error at 8 short clips | " + " | ".join(f"rate {rate}" for rate in RATES) + " |"]
    lines.append("|---" * (len(RATES) + 1) + "|")
    for norm, found in validation_errors(folder).items():
        errors = [found.get(rate) for rate in RATES]
        best = min((error for error in errors if error is not None), default=None)
        texts = [
            "missing" if error is None else f"**{error:.1f}**" if error == best else f"{error:.1f}" for error in errors
        ]
        lines.append(f"| {NORMS[norm]} | " + " | ".join(texts) + " |")
    return lines


def _levels(results: Results) -> list[str]:
    """Return top-1 by norm and clips per step."""
    titles = [f"{length}, {batch}" for length, batch in COLUMNS]
    lines = ["| test top-1 in percent | " + " | ".join(titles) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row, name in ROWS.items():
        texts = [_level_text(results.level(row, column)) for column in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return lines


def _claims(results: Results) -> list[str]:
    """Return differences, each of runs with the same seeds and of the same clips."""
    eight, four = ("short", 8), ("short", 4)
    claims: dict[str, list[tuple[float, str, Column]]] = {}
    for row, name in ROWS.items():
        for batch in (4, 2, 1):
            claims[f"{name}: 8 to {batch} clips"] = [(1, row, ("short", batch)), (-1, row, eight)]
    for batch in BATCHES:
        column = ("short", batch)
        for row in [row for row in ROWS if row not in ("bn", "bn precise")]:
            claims[f"{ROWS[row]} - BN at {batch} clips"] = [(1, row, column), (-1, "bn", column)]
    for batch in (4, 2, 1):
        here: Column = ("short", batch)
        claims[f"BN's change less GN's, 8 to {batch} clips"] = [
            (1, "bn", here), (-1, "bn", eight), (-1, "gn", here), (1, "gn", eight)
        ]  # fmt: skip
    for row, name in ROWS.items():
        claims[f"{name}: short to long at 4 clips"] = [(1, row, ("long", 4)), (-1, row, four)]
    lines = ["| difference in points | | 95 % over recordings | seeds |", "|---|---|---|---|"]
    for title, terms in claims.items():
        found = results.difference(*terms)
        text = (
            "missing | | |"
            if found is None
            else f"{found.mean:+.1f} | {found.low:+.1f} to {found.high:+.1f} | {found.seeds} |"
        )
        lines.append(f"| {title} | {text}")
    return lines


def draw_curves(results: Results, file: Path) -> None:
    """Draw training (dashed) and validation error (solid) of short clips, the mean of the seeds, a panel per norm."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "vidgn"}):
        figure = Figure(figsize=(11, 3.4), layout="constrained")
        for axis, (norm, name) in zip(figure.subplots(1, len(NORMS), sharey=True), NORMS.items(), strict=True):
            for number, batch in enumerate(BATCHES):
                runs = results.curves(norm, ("short", batch))
                for key, style in (("val_error", "-"), ("train_error", "--")):
                    if runs:
                        errors = [fmean(run[epoch][key] for run in runs) for epoch in range(len(runs[0]))]
                        label = f"{batch} per step" if style == "-" else None
                        axis.plot(range(1, len(errors) + 1), errors, style, color=f"C{number}", label=label)
            axis.set(title=name, xlabel="epoch")
            axis.grid(alpha=0.3)
            if axis.has_data():
                axis.legend(title="solid: validation, dashed: training", fontsize=7, title_fontsize=7)
        figure.axes[0].set_ylabel("error in percent")
        FigureCanvasAgg(figure).print_figure(file, dpi=110)


def _level_text(found: Estimate | None) -> str:
    if found is None:
        return "missing"
    short = "" if found.seeds == len(SEEDS) else f"; {found.seeds} seed{'s' * (found.seeds > 1)}"
    return f"{found.mean:.1f} ({found.low:.0f} to {found.high:.0f}{short})"


def _parse(bits: str) -> NDArray[np.float64]:
    return np.array([float(bit) for bit in bits])
