"""What in a copy of Kinetics-400 makes its accuracy another than the paper's: `vidgn reproduce --check data.root=DIR`.

Each finding says by how much top-1 may move, in points, or that this is unknown. Without `--check` it prints the six
commands of Table 8 and what to expect of them.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TextIO

from vidgn.curation.kinetics_sample import sample_facts
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.passports.passport import VideoFacts, read_passport
from vidgn.data.spec import DataSpec, Split
from vidgn.data.splits import read_manifests

ANNOTATED: Mapping[str, int] = {"train": 246_535, "val": 19_907}  # rows of the official files
SCORED = 19_761  # validation videos that video-nonlocal-net had in December 2017 (DATASET.md:7)
TRAIN_LOSS = (234_643, 0.5)  # it lost less than 0.5 points with so many of the training videos (same place)
SHORT_SIDE = 256  # px
SPAN = 64  # raw frames of a clip
TOLERANCE = 0.3  # points between two runs of one recipe: 73.3 in the paper, 73.6 in its code's README


class Cell(NamedTuple):
    """A cell of Table 8: top-1 and top-5 in percent."""

    top1: float
    top5: float


TABLE8: Mapping[str, Cell] = {
    "bn_t32_b8": Cell(73.3, 90.7),
    "bn_t32_b4": Cell(72.1, 90.0),
    "bn_t64_b4": Cell(73.3, 90.8),
    "gn_t32_b8": Cell(73.0, 90.6),
    "gn_t32_b4": Cell(72.8, 90.6),
    "gn_t64_b4": Cell(74.5, 91.7),
}


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        about: what.
        found: what the check saw, as a sentence.
        points: by how much top-1 may be off because of it, at most; None: it was never measured; 0.0: it is as it
            should be.
        advice: what to do or to report; empty where all is well.
    """

    about: str
    found: str
    points: float | None
    advice: str = ""


def run_reproduce(overrides: Sequence[str], *, check: bool, sample: int, out: TextIO, as_json: bool = False) -> int:
    """Print the commands, or with `check` the findings; return 1 where a number would not be comparable.

    Args:
        overrides: data.root=DIR and, as for train.py, data.train, data.val, data.classes, data.passport.
        check: look at the data.
        sample: videos of each split to open where there is no passport.
        out: where to print.
        as_json: print one JSON object.

    Raises:
        ValueError: an option that does not belong here, or missing data.
    """
    if not check:
        lines = [_command(name, cell) for name, cell in TABLE8.items()]
        print(json.dumps({n: c._asdict() for n, c in TABLE8.items()}) if as_json else "\n".join(lines), file=out)
        return 0
    spec = _spec(overrides)
    manifests = read_manifests(spec)
    passport = None if spec.passport is None else read_passport(spec.passport)
    findings = check_copy(manifests, passport=passport, sample=sample)
    status = int(any(finding.points is None or finding.points > TOLERANCE for finding in findings))
    if as_json:
        print(json.dumps({"comparable": not status, "findings": [f._asdict() for f in findings]}, indent=1), file=out)
    else:
        print(_text(findings, comparable=not status), file=out)
    return status


def check_copy(
    manifests: Mapping[Split, Manifest], *, passport: Sequence[VideoFacts] | None, sample: int
) -> list[Finding]:
    """Look at a copy: counts, what is missing or broken, sizes, frame rates, lengths.

    Args:
        manifests: train and val.
        passport: facts of all files, from `vidgn scan`; None: `sample` videos of each split are opened.
        sample: how many.
    """
    train, val = manifests["train"], manifests["val"]
    rows = passport if passport is not None else [row for m in (train, val) for row in sample_facts(m, count=sample)]
    return [
        _classes(train),
        *(_rows(split, manifests[split]) for split in ("train", "val")),
        _missing_val(val, rows if passport is not None else None),
        _missing_train(train, rows if passport is not None else None),
        *_files(rows, whole=passport is not None),
    ]


def _classes(train: Manifest) -> Finding:
    count = len(train.classes)
    wrong = count != 400
    advice = "this is another task; compare with nothing of the paper" if wrong else ""
    return Finding("classes", f"{count}", None if wrong else 0.0, advice)


def _rows(split: str, manifest: Manifest) -> Finding:
    rows, wanted = len(manifest), ANNOTATED[split]
    if rows == wanted:
        return Finding(f"{split}: annotated", f"{rows:,}", 0.0)
    gap = max(0, wanted - rows)
    points = _lost_val(gap, wanted) if split == "val" else _lost_train(gap)
    advice = "a list made from the files that were there hides what is missing; take the official annotation file"
    return Finding(f"{split}: annotated", f"{rows:,} of {wanted:,}", points, advice)


def _missing_val(val: Manifest, rows: Sequence[VideoFacts] | None) -> Finding:
    gone = _gone(val, rows)
    error = 100 * math.sqrt(0.73 * 0.27 / max(1, len(val) - gone))
    observed = f"{gone:,} of {len(val):,} missing or broken"
    if len(val) == ANNOTATED["val"]:
        observed += f"; the paper's code had {len(val) - SCORED:,} missing or fewer"
    if not gone:
        return Finding("val: missing", f"none (standard error of a top-1 of 73 %: {error:.2f} points)", 0.0)
    advice = (
        f"vidgn counts them as wrong, which takes up to {73 * gone / len(val):.2f} points off a top-1 of 73 %; report "
        f"the accuracy of the scored ones beside it (standard error {error:.2f})"
    )
    return Finding("val: missing", observed, _lost_val(gone, len(val)), advice)


def _missing_train(train: Manifest, rows: Sequence[VideoFacts] | None) -> Finding:
    gone = _gone(train, rows)
    if not gone:
        return Finding("train: missing", "none", 0.0)
    observed = f"{gone:,} of {len(train):,} missing or broken"
    return Finding("train: missing", observed, _lost_train(gone * ANNOTATED["train"] / len(train)), "state the number")


def _files(rows: Sequence[VideoFacts], *, whole: bool) -> list[Finding]:
    """Judge the pixels and the clock of the files that can be read."""
    good = [row for row in rows if row.status == "ok"]
    if not good:
        return [Finding("files", "none could be read", None, "see vidgn scan")]
    seen = f"all {len(good):,}" if whole else f"{len(good):,} looked at"
    other = [row for row in good if min(row.width, row.height) != SHORT_SIDE]
    square = [row for row in good if (row.width, row.height) == (340, 256) or row.width == row.height]
    slow = [row for row in good if not 23 <= row.fps <= 31]
    squashed = square if len(square) > 0.9 * len(good) else []
    short = [row for row in good if 0 < row.frames < SPAN]
    sides = Counter(min(row.width, row.height) for row in good).most_common(3)
    rates = Counter(round(row.fps) for row in good).most_common(3)
    return [
        _share(
            "short side", other, good, f"{seen}: {', '.join(f'{side} px {n:,}' for side, n in sides)}",
            f"the paper's files have {SHORT_SIDE} px; scale once, see datasets/kinetics400",
        ),
        _share(
            "aspect", squashed, good, f"{seen}: {len(square):,} of a fixed shape",
            "all files have one shape: they were squashed; copies that keep the aspect score otherwise",
        ),
        _share(
            "frame rate", slow, good, f"{seen}: {', '.join(f'{rate} fps {n:,}' for rate, n in rates)}",
            f"a clip is {SPAN} raw frames: at other rates it covers another time; do not resample",
        ),
        _share(
            "length", short, good, f"{seen}: {len(short):,} shorter than {SPAN} frames",
            "short videos are looped; the paper's code does the same",
        )._replace(points=0.0 if len(short) < 0.01 * len(good) else None),
    ]  # fmt: skip


def _share(about: str, odd: Sequence[VideoFacts], good: Sequence[VideoFacts], observed: str, advice: str) -> Finding:
    """Make a finding of videos that are not as the paper's; up to one in a hundred cannot move a number by much."""
    if not odd:
        return Finding(about, observed, 0.0)
    share = len(odd) / len(good)
    return Finding(about, observed, 100 * share if share * 100 <= TOLERANCE else None, advice)


def _gone(manifest: Manifest, rows: Sequence[VideoFacts] | None) -> int:
    missing = set(manifest.missing())
    if rows is not None:
        bad = {row.id for row in rows if row.status != "ok"}
        missing |= {name for name in map(manifest.video_id, range(len(manifest))) if name in bad}
    return len(missing)


def _lost_val(gone: float, total: int) -> float:
    """Bound the shift of top-1 on the other videos: as if all that is gone were right, or all wrong."""
    return 73.0 * gone / total


def _lost_train(gone: float) -> float:
    """Scale video-nonlocal-net's loss with the videos it lacked."""
    had, lost = TRAIN_LOSS
    return lost * gone / (ANNOTATED["train"] - had)


def _spec(overrides: Sequence[str]) -> DataSpec:
    given = {}
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals or name not in _WORDS:
            raise ValueError(f"unknown option {override!r}; use {', '.join(f'{name}=...' for name in _WORDS)}.")
        given[name.removeprefix("data.")] = value
    if "root" not in given:
        raise ValueError("data.root is missing; name the folder of your copy: vidgn reproduce --check data.root=DIR.")
    return DataSpec(name="kinetics400", **given)  # type: ignore[arg-type]


def _command(name: str, cell: Cell) -> str:
    return (
        f"python train.py preset={name} data.root=DIR trainer.devices=8   "
        f"# {cell.top1} / {cell.top5}, within {TOLERANCE} points"
    )


def _text(findings: Sequence[Finding], *, comparable: bool) -> str:
    lines = []
    for finding in findings:
        effect = "ok" if finding.points == 0 else "not known" if finding.points is None else f"<= {finding.points:.2f}"
        lines.append(f"{finding.about:18s} {effect:>10s}  {finding.found}")
        lines += [f"{'':31s}{finding.advice}"] if finding.advice and finding.points != 0 else []
    known = [finding.points for finding in findings if finding.points is not None]
    verdict = "comparable with Table 8" if comparable else "NOT comparable with Table 8 as it is"
    lines.append(f"{verdict}: points of top-1 in the second column, {sum(known):.2f} together at most where known")
    return "\n".join(lines)


_WORDS = ("data.root", "data.train", "data.val", "data.classes", "data.passport")
