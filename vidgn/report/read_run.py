"""What a run left in its folder, as records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vidgn.callbacks.percentiles import PERCENTILE
from vidgn.files.bounds import text
from vidgn.report.run_files import number, parsed, position, read_config, read_metrics, read_run_table
from vidgn.runs.split import SPLIT_FILE

Points = Sequence[tuple[int, float]]  # (optimizer step, value)


class Scored(NamedTuple):
    """One row of predictions.csv; `best` is None where the video could not be read."""

    video: str
    label: str
    best: str | None
    score: float
    error: str
    several: bool = False  # the label is several classes joined by ;

    @property
    def right(self) -> bool:
        """Whether the best class is the label, or one of several."""
        return self.best in self.label.split(";") if self.several else self.best == self.label


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        folder: where it lies.
        config: the options of the run.
        train: training error in percent by epoch.
        val: 1-clip validation error in percent by epoch.
        metrics: of the final test; empty without one.
        predictions: of the final test.
        loss: of training, by step.
        rate: of learning, by step; of the first group of parameters.
        pace: what was logged of speed and memory (`pace/...`), by step.
        parts: train, val or test by video, of a drawn split; empty where it was not drawn.
        percentiles: of the values of `layer`, by percentile and epoch; empty unless they were recorded.
        layer: the option `log.percentiles`.
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
    parts: Mapping[str, str] = field(default_factory=dict)

    @property
    def trained_on(self) -> int:
        """Count the test videos that the weights were trained on, as the test or the split of the run says."""
        counted = self.metrics.get("trained_on") or 0
        return max(counted, sum(self.parts.get(row.video) == "train" for row in self.predictions))

    @property
    def norm(self) -> str:
        """The option `norm`."""
        return str(self.config["norm"]["name"])

    @property
    def title(self) -> str:
        """What tells this run from others."""
        config = self.config
        shape = f"{config['clip_len']} frames, batch {config['batch']}, {config['data']['name']}"
        return f"{self.folder.absolute().name}: {self.norm.upper()}, {shape}"


def read_run(folder: str | Path) -> Run:
    """Read a run folder of train.py.

    Raises:
        FileNotFoundError: the folder is missing, or has no config.yaml.
        ValueError: a file in it is damaged, or not one that train.py wrote.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder; give run folders of train.py, such as runs/NAME.")
    if not (path / "config.yaml").is_file():
        raise FileNotFoundError(f"{path} is not a run folder: it has no config.yaml; give one such as runs/NAME.")
    tables = {name: path / f"{name}.csv" for name in ("metrics", "pace", "predictions")}
    config = read_config(path / "config.yaml")
    rows, measured = read_run_table(tables["metrics"]), read_run_table(tables["pace"])
    answers = read_run_table(tables["predictions"], columns=("video", "label", "class1", "score1", "error"))
    parts = read_run_table(path / SPLIT_FILE, columns=("video", "split"))
    metrics = read_metrics(path / "metrics.json")
    scored = parsed(tables["predictions"], lambda: [_scored(row, several="map" in metrics) for row in answers])
    curves = parsed(tables["metrics"], lambda: _curves(rows))
    pace = parsed(tables["pace"], lambda: _pace(measured))
    layer = str((config.get("log") or {}).get("percentiles") or "")
    return Run(path, config, metrics=metrics, predictions=scored, pace=pace, layer=layer,
               parts={row["video"]: row["split"] for row in parts}, **curves)  # fmt: skip


def _curves(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    columns = sorted(rows[0]) if rows else []
    rates = [name for name in columns if name.startswith("lr-")]
    ranks = [name for name in columns if name.startswith(PERCENTILE)]
    return {
        "train": _by_epoch(rows, "train/error"),
        "val": _by_epoch(rows, "val/error"),
        "loss": _by_step(rows, "train/loss"),
        "rate": _by_step(rows, rates[0]) if rates else (),
        "percentiles": {position(name.removeprefix(PERCENTILE)): _by_epoch(rows, name) for name in ranks},
    }


def _pace(rows: Sequence[Mapping[str, str]]) -> dict[str, Points]:
    names = [name for name in (rows[0] if rows else ()) if name.startswith("pace/")]
    return {name: _by_step(rows, name) for name in names}


def num_names(predictions: Sequence[Scored]) -> int:
    """Return how many class names there are."""
    return len({row.label for row in predictions} | {row.best for row in predictions if row.best})


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
    rows = [(name, 100 * sum(right) / len(right), len(right)) for name, right in labels.items()]
    return sorted(rows, key=lambda item: (item[1], item[0]))


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
    filled = [
        Bin(len(group), sum(row.score for row in group) / len(group), sum(row.right for row in group) / len(group))
        for group in groups
        if group
    ]
    gap = sum(item.videos * abs(item.score - item.accuracy) for item in filled)
    return filled, gap / max(1, len(rows))


def _by_epoch(rows: Sequence[Mapping[str, str]], name: str) -> dict[int, float]:
    """Return the last value of each epoch, epochs counted from 1."""
    filled = [row for row in rows if row.get(name) and row.get("epoch")]
    pairs = [(position(row["epoch"]) + 1, number(row[name])) for row in filled]
    return {epoch: value for epoch, value in pairs if value is not None}


def _by_step(rows: Sequence[Mapping[str, str]], name: str) -> Points:
    """Return the values in the order of their steps, steps counted from 1."""
    filled = [row for row in rows if row.get(name) and row.get("step")]
    pairs = [(position(row["step"]) + 1, number(row[name])) for row in filled]
    return sorted((step, value) for step, value in pairs if value is not None)


def _scored(row: Mapping[str, str], *, several: bool) -> Scored:
    best = text(row["class1"], "class1") or None
    score = float(row["score1"]) if best else 0.0
    if not 0 <= score <= 1:
        raise ValueError(f"has score1 {score}; it must be from 0 to 1")
    return Scored(text(row["video"], "video"), text(row["label"], "label"), best, score, row["error"], several)
