"""Two copies of a data set, or a copy and the published list: in what they differ, and what both have."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from vidgn.data.manifests.kinetics import read_stems
from vidgn.data.manifests.lists import is_kinetics_annotation
from vidgn.data.manifests.rows import VIDEO_SUFFIXES, RowErrors, decode_lines, read_lines
from vidgn.data.passports.passport import VideoFacts, read_passport

_SHOWN = 10  # names per kind of difference


def compare_passports(ours: Sequence[VideoFacts], theirs: Sequence[VideoFacts]) -> dict[str, list[str]]:
    """Say in what two copies of a data set differ: ids that only one has, that are bad in one, or not the same.

    Videos are the same by their ids or, where folders differ, by a file name that stands once in each copy.
    """
    other = {row.id: row for row in theirs}
    pairs = pair([row.id for row in ours], list(other))
    both = [(row, other[pairs[row.id]]) for row in ours if row.id in pairs]
    good = [(mine, their) for mine, their in both if mine.status == their.status == "ok"]
    return {
        "only in the first": sorted(row.id for row in ours if row.id not in pairs),
        "only in the second": sorted(other.keys() - set(pairs.values())),
        "bad in the first alone": _ids(both, lambda mine, their: mine.status != "ok" and their.status == "ok"),
        "bad in the second alone": _ids(both, lambda mine, their: mine.status == "ok" and their.status != "ok"),
        "other class": _ids(both, lambda mine, their: mine.label != their.label),
        "other number of frames": _ids(good, lambda mine, their: mine.frames != their.frames),
        "other size": _ids(good, lambda mine, their: (mine.width, mine.height) != (their.width, their.height)),
        "other file": _ids(both, lambda mine, their: mine.sha256 != their.sha256),
    }


def compare_with(rows: Sequence[VideoFacts], file: str | Path) -> dict[str, list[str]]:
    """Compare a passport with another one, or with a published list of names."""
    if Path(file).suffix in (".parquet", ".jsonl"):
        return compare_passports(rows, read_passport(file))
    names = read_published(file)
    pairs = pair([row.id for row in rows], names)
    return {
        "only in the first": sorted(row.id for row in rows if row.id not in pairs),
        "only in the second": sorted(set(names) - set(pairs.values())),
        "bad in the first": sorted(row.id for row in rows if row.id in pairs and row.status != "ok"),
    }


def describe_differences(differences: Mapping[str, Sequence[str]], *, first: str, second: str) -> str:
    """Return what a person reads: counts, and the first names of each kind."""
    lines = [f"first: {first}", f"second: {second}"]
    for what, names in differences.items():
        lines.append(f"{len(names):>9,} {what}")
        lines += [f"            {name}" for name in names[:_SHOWN]]
        lines += [f"            and {len(names) - _SHOWN:,} more"] if len(names) > _SHOWN else []
    return "\n".join(lines)


def read_published(file: str | Path) -> list[str]:
    """Return the names of a passport (those that are ok), an official Kinetics csv, or a list of paths or file names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no names.
    """
    path = Path(file)
    if path.suffix in (".parquet", ".jsonl"):
        names = [row.id for row in read_passport(path) if row.status == "ok"]
    elif is_kinetics_annotation(path):
        names = read_stems(path)
    else:
        names = _read_names(path)
    if not names:
        raise ValueError(f"{file} names no video; give a passport, a Kinetics csv or a list of paths.")
    return names


def pair(ours: Sequence[str], theirs: Iterable[str]) -> dict[str, str]:
    """Return our name -> their name of the videos that both have; a name that is listed twice is one video.

    >>> pair(["val/run/a.mp4", "b.mp4", "x/c.mp4", "y/c.mp4"], ["a.mkv", "b.mp4", "c.mp4"])
    {'val/run/a.mp4': 'a.mkv', 'b.mp4': 'b.mp4'}
    """
    known = set(theirs)
    pairs = {name: name for name in ours if name in known}
    mine = [name for name in ours if name not in known]
    counts = Counter(map(stem, known)), Counter(map(stem, set(ours)))
    by_stem = {stem(name): name for name in known - pairs.keys()}
    for name in mine:
        key = stem(name)
        if key in by_stem and counts[0][key] == counts[1][key] == 1:
            pairs[name] = by_stem[key]
    return {name: pairs[name] for name in ours if name in pairs}


def stem(name: str) -> str:
    """Return the file name without folders and without the suffix of a video."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name


def _read_names(file: Path) -> list[str]:
    """Return the path in each row, with or without a label behind it."""
    errors = RowErrors(str(file))
    lines = [line.strip() for first, block in read_lines(file) for _, line in decode_lines(first, block, errors=errors)]
    errors.raise_if_any()
    matches = [_NAMED.match(line) for line in lines]
    return [line if name is None else name[1] for line, name in zip(lines, matches, strict=True)]


def _ids(pairs: Iterable[tuple[VideoFacts, VideoFacts]], differ: Callable[[VideoFacts, VideoFacts], bool]) -> list[str]:
    return sorted(mine.id for mine, their in pairs if differ(mine, their))


# A path that ends in the suffix of a video, perhaps in quotes, perhaps with a label behind it.
_NAMED = re.compile(rf'"?([^"]*?(?:{"|".join(map(re.escape, VIDEO_SUFFIXES))}))"?(?:[\s,].*)?$', re.IGNORECASE)
