"""What a run left in its folder, as records."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vidgn.callbacks.percentiles import PERCENTILE

Points = Sequence[tuple[int, float]]  # (optimizer step, value)


class Scored(NamedTuple):
    """One row of predictions.csv; `best` is None where the video could not be read."""

    video: str
    label: str
    best: str | None
    score: float
    error: str

    @property
    def right(self) -> bool:
        """Whether the best class is the label."""
        return self.best == self.label


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        folder: where it lies.
        config: the words of the run.
        train: training error in percent by epoch.
        val: 1-clip validation error in percent by epoch.
        metrics: of the final test; empty without one.
        predictions: of the final test.
        loss: of training, by step.
        rate: of learning, by step; of the first group of parameters.
        pace: what was logged of speed and memory (`pace/...`), by step.
        percentiles: of the values of `layer`, by percentile and epoch; empty unless they were recorded.
        layer: the word `log.percentiles`.
    """

    folder: Path
    config: Mapping[str, Any]
    train: Mapping[int, float]
    val: Mapping[int, float]
    metrics: Mapping[str, Any]
    predictions: Sequence[Scored]
    loss: Points = ()
    rate: Points = ()
    pace: Mapping[str, Points] = field(default_factory=dict)
    percentiles: Mapping[int, Mapping[int, float]] = field(default_factory=dict)
    layer: str = ""

    @property
    def norm(self) -> str:
        """The word `norm`."""
        return str(self.config["norm"]["name"])

    @property
    def title(self) -> str:
        """What tells this run from others."""
        words = self.config
        shape = f"{words['clip_len']} frames, batch {words['batch']}, {words['data']['name']}"
        return f"{self.folder.absolute().name}: {self.norm.upper()}, {shape}"


def read_run(folder: str | Path) -> Run:
    """Read a run folder of train.py.

    Raises:
        FileNotFoundError: there is no such folder, or it holds no config.yaml.
        ValueError: its config.yaml is not one that train.py wrote.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder; give run folders of train.py, such as runs/NAME.")
    if not (path / "config.yaml").is_file():
        raise FileNotFoundError(f"{path} holds no config.yaml, so it is no run folder; give one such as runs/NAME.")
    config = _config(path / "config.yaml")
    rows = _rows(path / "metrics.csv")
    file = path / "metrics.json"
    metrics = json.loads(file.read_text()) if file.is_file() else {}
    scored = [_scored(row) for row in _rows(path / "predictions.csv")]
    columns = sorted({name for row in rows[:1] for name in row})
    rates = [name for name in columns if name.startswith("lr-")]
    ranks = [name for name in columns if name.startswith(PERCENTILE)]
    measured = _rows(path / "pace.csv")
    paces = [name for row in measured[:1] for name in row if name.startswith("pace/")]
    return Run(
        path, config, _by_epoch(rows, "train/error"), _by_epoch(rows, "val/error"), metrics, scored,
        loss=_by_step(rows, "train/loss"),
        rate=_by_step(rows, rates[0]) if rates else (),
        pace={name: _by_step(measured, name) for name in paces},
        percentiles={int(name.removeprefix(PERCENTILE)): _by_epoch(rows, name) for name in ranks},
        layer=str((config.get("log") or {}).get("percentiles") or ""),
    )  # fmt: skip


def confusion(predictions: Sequence[Scored]) -> tuple[list[str], list[list[int]]]:
    """Return the class names and counts[label][best]; videos that could not be read are in no column."""
    names = sorted({row.label for row in predictions} | {row.best for row in predictions if row.best})
    index = {name: number for number, name in enumerate(names)}
    counts = [[0] * len(names) for _ in names]
    for row in predictions:
        if row.best:
            counts[index[row.label]][index[row.best]] += 1
    return names, counts


def class_accuracy(predictions: Sequence[Scored]) -> list[tuple[str, float, int]]:
    """Return (class, accuracy in percent, videos), the worst first; failed videos count as wrong."""
    labels: dict[str, list[bool]] = {}
    for row in predictions:
        labels.setdefault(row.label, []).append(row.right)
    found = [(name, 100 * sum(right) / len(right), len(right)) for name, right in labels.items()]
    return sorted(found, key=lambda item: (item[1], item[0]))


class Bin(NamedTuple):
    """Videos whose best score is in one tenth of 0..1: how many, their mean score and accuracy."""

    videos: int
    score: float
    accuracy: float


def reliability(predictions: Sequence[Scored], *, bins: int = 10) -> tuple[list[Bin], float]:
    """Return the filled bins and the expected calibration error (Guo et al. 2017, Eq. 3)."""
    rows = [row for row in predictions if row.best is not None]
    groups: list[list[Scored]] = [[] for _ in range(bins)]
    for row in rows:
        groups[min(int(row.score * bins), bins - 1)].append(row)
    found = [
        Bin(len(group), sum(row.score for row in group) / len(group), sum(row.right for row in group) / len(group))
        for group in groups
        if group
    ]
    gap = sum(item.videos * abs(item.score - item.accuracy) for item in found)
    return found, gap / max(1, len(rows))


def _config(file: Path) -> dict[str, Any]:
    """Read the words of a run as plain values: no tag of YAML makes an object, nothing is looked up."""
    try:
        found = OmegaConf.load(file)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as err:
        reason = " ".join(str(err).split())
        raise ValueError(f"{file} cannot be read as plain words ({reason}); give a run folder of train.py") from err
    words = OmegaConf.to_container(found) if isinstance(found, DictConfig) else {}
    lacking = [name for name in ("clip_len", "batch", "data", "norm") if name not in cast("dict[str, Any]", words)]
    if lacking:
        raise ValueError(f"{file} does not say {', '.join(lacking)}; give a run folder of train.py")
    return cast("dict[str, Any]", words)


def _rows(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def _by_epoch(rows: Sequence[Mapping[str, str]], name: str) -> dict[int, float]:
    """Return the last value of each epoch, epochs counted from 1."""
    return {int(row["epoch"]) + 1: float(row[name]) for row in rows if row.get(name) and row.get("epoch")}


def _by_step(rows: Sequence[Mapping[str, str]], name: str) -> Points:
    """Return the values in the order of their steps, steps counted from 1."""
    return sorted((int(row["step"]) + 1, float(row[name])) for row in rows if row.get(name) and row.get("step"))


def _scored(row: Mapping[str, str]) -> Scored:
    best = row["class1"] or None
    return Scored(row["video"], row["label"], best, float(row["score1"]) if best else 0.0, row["error"])
