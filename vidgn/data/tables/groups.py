"""Divide videos into parts so that what was recorded together stays together: splits, folds, one group at a time."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FRACTIONS = (0.7, 0.15, 0.15)  # train, val and test


def groups_by_pattern(names: Sequence[str], pattern: str) -> list[str]:
    r"""Return the group of each video from its name: what the pattern's parentheses match, or all that it matches.

    >>> groups_by_pattern(["Archery/v_Archery_g01_c02.avi", "Archery/v_Archery_g12_c01.avi"], r"_(g\d+)_")
    ['g01', 'g12']

    Raises:
        ValueError: It is not a regular expression, or some names do not match; the first ten are listed.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as err:
        quoted = f"'data.group=\"{pattern}\"'"
        raise ValueError(f"data.group={pattern} is not a regular expression ({err}); quote it as {quoted}") from err
    matches = [compiled.search(name) for name in names]
    without = [name for name, match in zip(names, matches, strict=True) if match is None]
    if without:
        raise ValueError(
            f"data.group={pattern} matches no part of {len(without):,} of the {len(names):,} names: "
            f"{', '.join(without[:10])}; make the pattern wider"
        )
    return ["|".join(match.groups("")) if match.re.groups else match[0] for match in matches if match is not None]


def divide(
    labels: NDArray[np.int64], groups: Sequence[str], *, shares: Sequence[float], seed: int
) -> NDArray[np.int64]:
    """Divide groups over parts, each class in the given shares as well as the groups allow.

    The largest groups come first, those of one size in the order of a hash of (seed, group). Each goes where the
    squared differences between the counts per class and their shares grow least. Then a part that has nothing of a
    class gets the smallest group of it from the part that has most, unless that would take the last group of a class.

    Args:
        labels: Class of each video, (N,).
        groups: Group of each video, N.
        shares: Positive, adding up to 1, for P parts. Parts after the first aim at one video per class at least.
        seed: Of the order.

    Returns:
        The part of each video, 0..P-1, (N,).
    """
    names, codes = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    codes = codes.reshape(-1)
    pairs, counts = np.unique(np.stack([codes, labels]), axis=1, return_counts=True)  # (2,M): group, class
    bounds = np.searchsorted(pairs[0], np.arange(len(names) + 1))
    content = [
        (pairs[1, a:b].tolist(), counts[a:b].tolist())
        for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    ]
    sizes = np.bincount(codes, minlength=len(names)).tolist()
    order = sorted(range(len(names)), key=lambda group: (-sizes[group], _hash(seed, str(names[group]))))
    totals = np.bincount(labels).tolist()
    short = [_targets(total, shares) for total in totals]  # what is missing of each class in each part
    part_of = np.zeros(len(names), np.int64)
    for group in order:
        costs = [
            sum(count * (count - 2 * short[label][part]) for label, count in zip(*content[group], strict=True))
            for part in range(len(shares))
        ]
        part = costs.index(min(costs))
        part_of[group] = part
        for label, count in zip(*content[group], strict=True):
            short[label][part] -= count
    _fill_empty(part_of, content, num_classes=len(totals), num_parts=len(shares))
    return part_of[codes]


def _targets(total: int, shares: Sequence[float]) -> list[float]:
    """Return how many videos of a class each part should get."""
    held_out = [max(1.0, total * share) for share in shares[1:]]
    return [total - sum(held_out), *held_out]


def _fill_empty(
    part_of: NDArray[np.int64], content: Sequence[tuple[list[int], list[int]]], *, num_classes: int, num_parts: int
) -> None:
    """Give each part a group of each class where another part can spare one."""
    having: list[list[set[int]]] = [[set() for _ in range(num_parts)] for _ in range(num_classes)]
    for group, (classes, _) in enumerate(content):
        for label in classes:
            having[label][int(part_of[group])].add(group)
    for parts in having:
        for part in range(num_parts):
            donor = max(range(num_parts), key=lambda other: len(parts[other]))
            if parts[part] or len(parts[donor]) < 2:
                continue
            spare = [group for group in parts[donor] if all(len(having[c][donor]) > 1 for c in content[group][0])]
            if spare:
                group = min(spare, key=lambda member: (sum(content[member][1]), member))
                part_of[group] = part
                for c in content[group][0]:
                    having[c][donor].discard(group)
                    having[c][part].add(group)


def fold_parts(
    labels: NDArray[np.int64], groups: Sequence[str], *, folds: int | str, fold: int, seed: int
) -> NDArray[np.int64]:
    """Return 0 for training, 1 for validation and 2 for the test of one fold of a cross-validation, (N,).

    Fold i tests the i-th part and validates on the one after it. With `folds="groups"` each group is a part, in the
    order of their names: leave one group out.

    Raises:
        ValueError: `fold` is not one of them, or there are fewer than three parts or groups.
    """
    names = sorted(set(groups), key=_natural)
    if folds == "groups":
        number = {name: index for index, name in enumerate(names)}
        parts, count = np.array([number[name] for name in groups], np.int64), len(names)
    elif isinstance(folds, int):
        parts, count = np.zeros(0, np.int64), folds
    else:
        raise ValueError(f"data.folds ({folds}) must be a number of folds or groups; set data.folds=5.")
    if count < 3 or len(names) < count:
        raise ValueError(
            f"data.folds ({folds}) needs at least 3 parts, each with a group of its own, and there are {len(names)} "
            "groups; set a smaller number of folds"
        )
    if not 0 <= fold < count:
        raise ValueError(f"data.fold ({fold}) must be one of 0..{count - 1}.")
    if folds != "groups":
        parts = divide(labels, groups, shares=[1 / count] * count, seed=seed)
    numbers = np.zeros(len(parts), np.int64)
    numbers[parts == (fold + 1) % count] = 1
    numbers[parts == fold] = 2
    return numbers


def _hash(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{name}".encode("utf-8", "surrogateescape"), digest_size=8).digest()


def _natural(name: str) -> tuple[object, ...]:
    """Order names with numbers as people do: person2 before person10."""
    return tuple((int(text), "") if text.isdigit() else (-1, text) for text in re.split(r"(\d+)", name))
