"""Is one of two runs better, or is it chance? Both are compared on the videos that both tested."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from vidgn.report.run_files import parsed, read_metrics, read_run_table
from vidgn.scores.statistics import Interval, bootstrap, mcnemar

_COLUMNS = ("video", "label", "class1")


@dataclass(frozen=True)
class Comparison:
    """Two tests on the same videos.

    Attributes:
        first: top-1 of the first run in percent, on the shared videos.
        second: top-1 of the second run.
        difference: second minus first, in points.
        interval: of the difference, 95 %, by the bootstrap over videos, or over groups where the runs have groups.
        p: of McNemar's exact test that both are right equally often.
        videos: shared.
        only_first: videos that the first run alone has right.
        only_second: videos that the second run alone has right.
        left_out: videos that only one of the runs tested.
        groups: of the shared videos, drawn as a whole for the interval; None: there are none.
    """

    first: float
    second: float
    difference: float
    interval: Interval
    p: float
    videos: int
    only_first: int
    only_second: int
    left_out: int
    groups: int | None = None


def compare_runs(first: str | Path, second: str | Path) -> Comparison:
    """Compare the tests of two run folders, of train.py or eval.py.

    Raises:
        FileNotFoundError: a folder has no predictions.csv.
        ValueError: a file is damaged, the runs have no video in common, or they label one differently.
    """
    ours, theirs = _answers(Path(first)), _answers(Path(second))
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        raise ValueError(f"{first} and {second} have no test video in common; give two runs on the same test.")
    other = [video for video in shared if ours[video].label != theirs[video].label]
    if other:
        raise ValueError(
            f"{len(other)} videos, such as {other[0]}, have another label in {second} than in {first}; "
            "give two runs with the same classes."
        )
    right = np.array([[ours[video].right, theirs[video].right] for video in shared])  # (N, 2)
    groups = _groups([ours[video].group for video in shared])
    gain = right[:, 1].astype(np.float64) - right[:, 0]
    (interval,) = bootstrap([lambda rows: 100 * float(gain[rows].mean())], len(shared), groups=groups)
    only_first, only_second = int((gain < 0).sum()), int((gain > 0).sum())
    one, two = (100 * float(right[:, run].mean()) for run in (0, 1))
    return Comparison(
        first=one,
        second=two,
        difference=two - one,
        interval=interval,
        p=mcnemar(only_first, only_second),
        videos=len(shared),
        only_first=only_first,
        only_second=only_second,
        left_out=len(ours.keys() ^ theirs.keys()),
        groups=None if groups is None else len(np.unique(groups)),
    )


def run_compare(first: str, second: str, *, out: TextIO, as_json: bool = False) -> int:
    """Print the comparison; return 0."""
    result = compare_runs(first, second)
    if as_json:
        print(json.dumps(asdict(result)), file=out)
        return 0
    low, high = result.interval
    over = "" if result.groups is None else f" over {result.groups} groups"
    print(
        f"{first}: {result.first:.2f} % top-1\n{second}: {result.second:.2f} % top-1\n"
        f"difference {result.difference:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}{over}\n"
        f"McNemar's exact test: {result.only_first} videos right in the first alone, {result.only_second} in the "
        f"second alone, p = {result.p:.3g}\n{result.videos} videos that both tested"
        f"{f'; {result.left_out} that only one did are left out' if result.left_out else ''}",
        file=out,
    )
    return 0


class _Answer(NamedTuple):
    """Label of a video, whether the best class is right, and its group."""

    label: str
    right: bool
    group: str | None


def _answers(folder: Path) -> Mapping[str, _Answer]:
    """Return what a run says of each video."""
    file = folder / "predictions.csv"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has no predictions.csv; give a run folder with a finished test.")
    rows = read_run_table(file, columns=_COLUMNS)
    several = "map" in read_metrics(folder / "metrics.json")  # a label is several classes
    answers: Mapping[str, _Answer] = parsed(file, lambda: {row["video"]: _answer(row, several=several) for row in rows})
    return answers


def _answer(row: Mapping[str, str], *, several: bool) -> _Answer:
    label, best = row["label"], row["class1"]
    return _Answer(label, best in label.split(";") if several else best == label, row.get("group") or None)


def _groups(names: Sequence[str | None]) -> NDArray[np.int64] | None:
    """Return the group of each video as a number; None where some have none, or there is only one."""
    if None in names or len(set(names)) < 2:
        return None
    return np.unique(np.array(names, dtype=str), return_inverse=True)[1].astype(np.int64)
