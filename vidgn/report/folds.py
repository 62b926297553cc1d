"""The folds of a cross-validation together: the mean over their tests and its interval."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vidgn.files.bounds import finite_number, mapping
from vidgn.report.run_files import parsed, read_config, read_metrics
from vidgn.runs.command_line import with_followers
from vidgn.scores.statistics import mean_interval


class FoldRun(NamedTuple):
    """A run folder of one fold: its options and the metrics of its test."""

    folder: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]


class FoldSummary(NamedTuple):
    """Runs that differ in `data.fold` alone.

    Attributes:
        title: what they have in common, for people.
        figure: which figure of the tests it is.
        values: of it in percent, by fold.
        expected: how many folds there are; None where each group is one.
    """

    title: str
    figure: str
    values: Mapping[int, float]
    expected: int | None

    @property
    def text(self) -> str:
        """Mean, interval and the worst and the best fold, in one sentence."""
        mean, low, high = mean_interval(list(self.values.values()))
        num_folds = len(self.values)
        count = f"{num_folds} folds" if self.expected in (None, num_folds) else f"{num_folds} of {self.expected} folds"
        worst, best = (end(self.values, key=lambda fold: (self.values[fold], fold)) for end in (min, max))
        return (
            f"{self.figure} {mean:.2f} % is the mean over {count} (95 % interval of the mean, over folds: "
            f"{max(0.0, low):.2f} to {min(100.0, high):.2f}); lowest {self.values[worst]:.2f} % in fold {worst}, "
            f"highest {self.values[best]:.2f} % in fold {best}"
        )

    def record(self) -> dict[str, Any]:
        """Return it as plain values."""
        mean, low, high = mean_interval(list(self.values.values()))
        return {"title": self.title, "figure": self.figure, "mean": mean, "interval": [low, high],
                "values": dict(self.values)}  # fmt: skip


def summarize_folds(runs: Sequence[FoldRun]) -> list[FoldSummary]:
    """Return a summary of each set of two or more tested runs that differ in `data.fold` alone.

    Of several runs of one fold the last one counts.

    Raises:
        ValueError: a run's figure is no number.
    """
    sets: dict[str, list[FoldRun]] = {}
    for run in runs:
        if run.metrics and type(run.config["data"].get("fold")) is int:
            sets.setdefault(_but_for_the_fold(run.config), []).append(run)
    summaries = [_summary(members) for members in sets.values()]
    return [summary for summary in summaries if len(summary.values) > 1]


def _summary(members: Sequence[FoldRun]) -> FoldSummary:
    name, figure = ("map", "mean average precision") if "map" in members[0].metrics else ("video_top1", "top-1")
    values: dict[int, float] = {}
    for run in sorted(members, key=lambda run: int(run.config["data"]["fold"])):
        fold = int(run.config["data"]["fold"])
        values[fold] = parsed(run.folder / "metrics.json", partial(finite_number, run.metrics.get(name), name))
    config = members[0].config
    folds = config["data"].get("folds")
    title = f"{config['data']['name']}, {config['norm']['name']}, seed {config.get('seed', 0)}"
    return FoldSummary(title, figure, values, folds if type(folds) is int else None)


def _but_for_the_fold(config: Mapping[str, Any]) -> str:
    """Return the options of a run as text, without the fold, the run folder, and what was chosen from the data."""
    plain = json.loads(json.dumps(config, default=str))
    chosen = mapping(plain.get("chosen") or {}, "chosen")
    for name in ("data.fold", "trainer.default_root_dir", "chosen", *with_followers(chosen)):
        plain = _without(plain, name)
    return json.dumps(plain, sort_keys=True)


def _without(options: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return options without one of them, such as `data.fold`."""
    group, _, rest = name.partition(".")
    if rest and group in options:
        return {**options, group: _without(mapping(options[group] or {}, group), rest)}
    return {key: value for key, value in options.items() if key != name}


def read_fold_runs(folder: Path) -> list[FoldRun]:
    """Read the run folders below a folder.

    Raises:
        ValueError: a file in one of them is damaged.
    """
    below = sorted(file.parent for file in folder.glob("*/config.yaml"))
    return [FoldRun(run, read_config(run / "config.yaml"), read_metrics(run / "metrics.json")) for run in below]
