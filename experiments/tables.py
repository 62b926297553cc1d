"""Write the tables of README.md from the files of the runs: `python -m experiments.tables`."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.grid import RESULTS, read_results, read_starts
from experiments.stats import interval, paired

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- tables: written by python -m experiments.tables -->\n", "<!-- end of tables -->\n"

COLUMNS = (("t32_b8", "32 frames, 8 clips"), ("t32_b4", "32, 4"), ("t64_b4", "64, 4"), ("t32_b2", "32, 2"))
PAPER = {"bn": (73.3, 72.1, 73.3), "gn": (73.0, 72.8, 74.5)}  # Table 8, top-1 of Kinetics-400
NORMS = ("sync_bn", "batch_renorm", "frozen_bn", "ln", "in")
OWN_AVERAGES = "batch_renorm"  # what it is trained towards; the first runs were tested with precise statistics, too

Score = Callable[[Mapping[str, Any]], float]
Runs = Mapping[tuple[str, int], Mapping[str, Any]]  # by cell and seed


def main() -> None:
    """Put the tables between their marks in README.md, and draw the pictures."""
    from experiments.pictures import draw_all

    results = read_results(RESULTS)
    README.write_text(place(README.read_text(), render(results, read_starts(RESULTS))))
    draw_all(results, folder=README.parent / "figures")


def place(text: str, tables: str) -> str:
    """Return the text with other tables between its marks.

    Raises:
        ValueError: the marks are not there.
    """
    if BEGIN not in text or END not in text:
        raise ValueError(f"README.md has no place for the tables; put the lines {BEGIN!r} and {END!r} into it.")
    before, rest = text.split(BEGIN, 1)
    return before + BEGIN + tables + END + rest.split(END, 1)[1]


def render(results: Sequence[Mapping[str, Any]], starts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return all tables as Markdown; what has no run is said to have none."""
    runs = {(run["cell"], run["seed"]): run for run in results}
    parts = (_table8, _comparisons, _relatives, _precise, _groups, _effort)
    return "\n".join([*_starts(starts), *(line for part in parts for line in part(runs))]) + "\n"


def top1(run: Mapping[str, Any]) -> float:
    """Return the video top-1, with precise statistics where the norm has such."""
    if run.get("cell", "").startswith(OWN_AVERAGES):
        return plain_top1(run)
    return precise_top1(run)


def precise_top1(run: Mapping[str, Any]) -> float:
    """Return the video top-1 with precise statistics, also of a norm that these do not suit."""
    return float(run["test"].get("precise", run["test"]["plain"])["video_top1"])


def plain_top1(run: Mapping[str, Any]) -> float:
    """Return the video top-1 with the running averages of training."""
    return float(run["test"]["plain"]["video_top1"])


def scores(runs: Runs, cell: str, score: Score = top1) -> dict[int, float]:
    """Return the score of each seed of a cell."""
    return {seed: score(run) for (name, seed), run in sorted(runs.items()) if name == cell}


def _table8(runs: Runs) -> list[str]:
    lines = ["### Table 8 in miniature: video top-1 in percent", ""]
    lines += ["| norm | " + " | ".join(title for _, title in COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for norm, score, title in (
        ("bn", top1, "BN, precise statistics"),
        ("bn", plain_top1, "BN, running averages"),
        ("gn", top1, "GN"),
    ):
        cells = [_mean(scores(runs, f"{norm}_{column}", score)) for column, _ in COLUMNS]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    for norm, values in PAPER.items():
        lines.append(f"| {norm.upper()}, paper (Kinetics-400) | " + " | ".join(f"{v:.1f}" for v in values) + " | |")
    return [*lines, ""]


def _comparisons(runs: Runs) -> list[str]:
    lines = [
        "### The claims: differences of runs with the same seed, in points",
        "",
        "| claim | difference | 95 % interval | p | seeds | paper |",
        "|---|---|---|---|---|---|",
    ]
    for title, one, other, paper in (
        ("BN, 8 to 4 clips", "bn_t32_b4", "bn_t32_b8", "-1.2"),
        ("BN, 8 to 2 clips", "bn_t32_b2", "bn_t32_b8", ""),
        ("GN, 8 to 4 clips", "gn_t32_b4", "gn_t32_b8", "-0.2"),
        ("GN, 8 to 2 clips", "gn_t32_b2", "gn_t32_b8", ""),
        ("BN, 32 frames at 8 clips to 64 at 4", "bn_t64_b4", "bn_t32_b8", "0.0"),
        ("GN, 32 frames at 8 clips to 64 at 4", "gn_t64_b4", "gn_t32_b8", "+1.5"),
        ("BN, 32 to 64 frames at 4 clips", "bn_t64_b4", "bn_t32_b4", "+1.2"),
        ("GN, 32 to 64 frames at 4 clips", "gn_t64_b4", "gn_t32_b4", "+1.7"),
        ("GN - BN, 32 frames, 8 clips", "gn_t32_b8", "bn_t32_b8", "-0.3"),
        ("GN - BN, 32 frames, 4 clips", "gn_t32_b4", "bn_t32_b4", "+0.7"),
        ("GN - BN, 64 frames, 4 clips", "gn_t64_b4", "bn_t64_b4", "+1.2"),
        ("GN - BN, 32 frames, 2 clips", "gn_t32_b2", "bn_t32_b2", ""),
    ):
        lines.append(_difference(title, scores(runs, one), scores(runs, other), paper))
    for clips, paper in ((4, "-1.0"), (2, "")):
        title = f"BN's change less GN's, 8 to {clips} clips"
        lines.append(_difference(title, _change(runs, "bn", clips), _change(runs, "gn", clips), paper))
    return [*lines, ""]


def _change(runs: Runs, norm: str, clips: int) -> dict[int, float]:
    """Return how top-1 changes from 8 clips per device to fewer, seed by seed."""
    small, large = scores(runs, f"{norm}_t32_b{clips}"), scores(runs, f"{norm}_t32_b8")
    return {seed: small[seed] - large[seed] for seed in small.keys() & large.keys()}


def _relatives(runs: Runs) -> list[str]:
    lines = ["### Relatives, 32 frames: video top-1, and the difference to BN at the same batch", ""]
    lines += ["| norm | clips | top-1 | minus BN | p | seeds |", "|---|---|---|---|---|---|"]
    for norm in NORMS:
        for clips in (4, 2):
            values, base = scores(runs, f"{norm}_t32_b{clips}"), scores(runs, f"bn_t32_b{clips}")
            if values:
                difference, half, p, count = _paired(values, base)
                change = f"{_signed(difference)} ± {_short(half)}"
                lines.append(f"| {norm} | {clips} | {_mean(values)} | {change} | {_p(p)} | {count} |")
    return [*lines, ""]


def _precise(runs: Runs) -> list[str]:
    lines = ["### Precise statistics minus running averages, the same weights, in points of video top-1", ""]
    lines += ["| cell | difference | 95 % interval | p | seeds | paper |", "|---|---|---|---|---|---|"]
    for cell in ("bn_t32_b8", "bn_t32_b4", "bn_t64_b4", "bn_t32_b2", "sync_bn_t32_b2", "batch_renorm_t32_b2"):
        lines.append(_difference(cell, scores(runs, cell, precise_top1), scores(runs, cell, plain_top1), ""))
    return [*lines, ""]


def _groups(runs: Runs) -> list[str]:
    lines = ["### Table 3 in miniature: groups, 32 frames at 4 clips, video top-1", ""]
    rows = (
        ("groups G", ("gn_g8", "8"), ("gn", "4"), ("gn_g2", "2"), ("ln", "1 (LN)")),
        ("channels per group", ("gn_c8", "8"), ("gn_c4", "4"), ("gn_c2", "2"), ("in", "1 (IN)")),
    )
    for title, *cells in rows:
        lines += [f"| {title} | " + " | ".join(name for _, name in cells) + " |", "|---" * (len(cells) + 1) + "|"]
        lines += ["| top-1 | " + " | ".join(_mean(scores(runs, f"{cell}_t32_b4")) for cell, _ in cells) + " |", ""]
    return lines


def _starts(starts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = ["### Starting weights: top-1 on the source videos", "", "| weights | top-1 |", "|---|---|"]
    return [*lines, *(f"| {name} | {top1(numbers):.1f} |" for name, numbers in starts.items()), ""]


def _effort(runs: Runs) -> list[str]:
    timed = [run for run in runs.values() if "cpu_seconds" in run]
    hours = sum(run["cpu_seconds"] for run in timed) / 3600
    versions = sorted({" ".join(f"{name} {value}" for name, value in run["versions"].items()) for run in timed})
    return ["### Effort", "", f"{len(runs)} runs, {hours:.2f} CPU hours on one thread each; {'; '.join(versions)}.", ""]


def _difference(title: str, one: Mapping[int, float], other: Mapping[int, float], paper: str) -> str:
    if not one.keys() & other.keys():
        return f"| {title} | not run | | | 0 | {paper} |"
    mean, half, p, count = _paired(one, other)
    between = f"{_signed(mean - half)} to {_signed(mean + half)}"
    return f"| {title} | {_signed(mean)} | {between} | {_p(p)} | {count} | {paper} |"


def _paired(one: Mapping[int, float], other: Mapping[int, float]) -> tuple[float, float, float, int]:
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        return math.nan, math.nan, math.nan, 0
    return paired([one[seed] for seed in seeds], [other[seed] for seed in seeds])


def _mean(values: Mapping[int, float]) -> str:
    if not values:
        return "not run"
    mean, half, count = interval(list(values.values()))
    return f"{mean:.1f} ± {_short(half)} ({count})"


def _short(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:.1f}"


def _signed(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:+.1f}"


def _p(value: float) -> str:
    return "?" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


if __name__ == "__main__":
    main()
