"""An epoch in which every class comes equally often, however many videos it has.

An epoch keeps its length N. Each of Q classes gets N // Q of it, and the N % Q places that are left go round the
classes from epoch to epoch. A class takes its videos in the order of a permutation of its own, and begins with
another one where that ends, in the middle of an epoch or not: over the epochs each video of a class comes equally
often. A video that comes twice in an epoch is cut and augmented again (`turn`).

    labels   0 0 0 0 1 1        epoch 0   0a 0b 0c 1a 1b 1a'      epoch 1   0d 0a 0c 1b 1a 1b'     (then shuffled)
"""

import numpy as np
from numpy.typing import NDArray

_STREAM = int.from_bytes(b"balance", "big")  # keeps these numbers apart from other draws of the same seed


def balanced_videos(labels: NDArray[np.int64], *, seed: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the videos of an epoch by class, and for each how often it came before in this epoch.

    Args:
        labels: class of each video, (N,).
        seed: of the permutations.
        epoch: 0 or more.

    Returns:
        videos int64 (N,) and turns int64 (N,), 0 where a video comes for the first time.
    """
    classes = np.unique(labels)
    base, rest = divmod(len(labels), len(classes))
    videos = []
    for position, label in enumerate(classes.tolist()):
        begin, end = (_taken(at, position, base=base, rest=rest, classes=len(classes)) for at in (epoch, epoch + 1))
        videos.append(_walk(np.flatnonzero(labels == label), begin, end, seed=seed, label=label))
    together = np.concatenate(videos)
    return together, _turns(together)


def _taken(epoch: int, position: int, *, base: int, rest: int, classes: int) -> int:
    """Return how many places a class had in all epochs before `epoch`."""
    return epoch * base + (epoch * rest - position + classes - 1) // classes


def _walk(members: NDArray[np.int64], begin: int, end: int, *, seed: int, label: int) -> NDArray[np.int64]:
    """Return places begin..end-1 of the endless row of permutations of a class."""
    size = len(members)
    rows = [members[_permutation(size, seed, label, row)] for row in range(begin // size, -(-end // size))]
    start = begin - begin // size * size
    return np.concatenate([*rows, np.empty(0, np.int64)])[start : start + end - begin]


def _permutation(size: int, seed: int, label: int, row: int) -> NDArray[np.int64]:
    raw = np.random.Philox(key=np.array([seed, _STREAM], np.uint64), counter=[0, 0, row, label])
    return np.argsort(raw.random_raw(size), kind="stable")


def _turns(videos: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.argsort(videos, kind="stable")
    ordered = videos[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]] if len(ordered) else np.empty(0, bool)
    starts = np.maximum.accumulate(np.where(first, np.arange(len(ordered)), 0))
    turns = np.empty_like(videos)
    turns[order] = np.arange(len(ordered)) - starts
    return turns
