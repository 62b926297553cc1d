"""Is one of two runs better, or is it chance? Both are compared on the videos that both tested."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from vidgn.report.run_files import parsed, read_run_table
from vidgn.statistics import Interval, bootstrap, mcnemar

_COLUMNS = ("video", "label", "class1")


@dataclass(frozen=True)
class Comparison:
    """Two tests on the same videos.

    Attributes:
        first: top-1 of the first run in percent, on the shared videos.
        second: top-1 of the second run.
        difference: second minus first, in points.
        interval: of the difference, 95 %, by the bootstrap over videos.
        p: of McNemar's exact test that both are right equally often.
        videos: shared.
        only_first: videos that the first run alone has right.
        only_second: videos that the second run alone has right.
        left_out: videos that only one of the runs tested.
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
    other = [video for video in shared if ours[video][0] != theirs[video][0]]
    if other:
        raise ValueError(
            f"{len(other)} videos, such as {other[0]}, have another label in {second} than in {first}; "
            "give two runs with the same classes."
        )
    right = np.array([[label == best for label, best in (ours[v], theirs[v])] for v in shared])  # (N, 2)
    gain = right[:, 1].astype(np.float64) - right[:, 0]
    (interval,) = bootstrap([lambda rows: 100 * float(gain[rows].mean())], len(shared))
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
    )


def run_compare(first: str, second: str, *, out: TextIO, as_json: bool = False) -> int:
    """Print the comparison; return 0."""
    result = compare_runs(first, second)
    if as_json:
        print(json.dumps(asdict(result)), file=out)
        return 0
    low, high = result.interval
    print(
        f"{first}: {result.first:.2f} % top-1\n{second}: {result.second:.2f} % top-1\n"
        f"difference {result.difference:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}\n"
        f"McNemar's exact test: {result.only_first} videos right in the first alone, {result.only_second} in the "
        f"second alone, p = {result.p:.3g}\n{result.videos} videos that both tested"
        f"{f'; {result.left_out} that only one did are left out' if result.left_out else ''}",
        file=out,
    )
    return 0


def _answers(folder: Path) -> Mapping[str, tuple[str, str]]:
    """Return label and best class by video."""
    file = folder / "predictions.csv"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has no predictions.csv; give a run folder with a finished test.")
    rows = read_run_table(file, columns=_COLUMNS)
    answers: Mapping[str, tuple[str, str]] = parsed(
        file, lambda: {row["video"]: (row["label"], row["class1"]) for row in rows}
    )
    return answers
