"""When the frames of a file are shown, in seconds: from the times of its packets, not from a mean rate."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vidgn.data.readers.pyav.packet_table import NO_TIME, PacketTable

_JUMP = 1.75  # usual steps; a lost packet leaves two


def frame_seconds(
    packets: PacketTable, order: Sequence[int], *, tick: float | None, fps: float, length: float | None
) -> NDArray[np.float64]:
    """Return when each frame is shown, from the first one on, and when the last one ends, float64 (N + 1,), ascending.

    Frames without times are spread evenly; nan where the file states no rate either. Where times contradict the order
    of showing (they are those of decoding), frame i has the i-th smallest; where they go back, as in joined files, each
    part follows the one before it. Frames of equal times are spread evenly until the next time.

    Args:
        packets: Of the whole stream.
        order: The packet of each frame.
        tick: Seconds of one unit of time; None: unknown.
        fps: Mean rate that the file states; 0.0 where it does not.
        length: Seconds that the file states for the stream; None where it does not.
    """
    frames = np.asarray(order, np.int64)
    times = packets.best_times()
    if tick is None or (times[frames] == NO_TIME).any() or (len(frames) > 1 and np.ptp(times[frames]) == 0):
        even = np.arange(len(frames) + 1, dtype=np.float64)
        return even / fps if fps > 0 else np.full(len(even), np.nan)
    stamps = times[frames].astype(np.float64)
    if (np.diff(stamps) <= 0).any():
        stamps = _apart(_ascending(times, frames, np.asarray(packets.keys)))
    seconds = (stamps - stamps[0]) * tick
    return np.append(seconds, _end(seconds, fps=fps, length=length))


def longest_steps(times: NDArray[np.int64], *, most: int = 16) -> list[int]:
    """Return the frames that are followed by far more time than is usual, the `most` longest, (N,) ascending times."""
    steps = np.diff(times)
    if not len(steps):
        return []
    jumps = np.flatnonzero(steps > _JUMP * np.median(steps))
    return [int(frame) for frame in jumps[np.argsort(-steps[jumps], kind="stable")][:most]]


def _ascending(times: NDArray[np.int64], frames: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sort times within each part between jumps back, and put the parts after one another, (N,)."""
    part = _parts(times, keys)[frames]
    sorted_times = times[frames].copy()
    for number in np.unique(part):
        where = part == number
        sorted_times[where] = np.sort(sorted_times[where])
    steps = np.diff(sorted_times)
    usual = int(np.median(steps[steps > 0])) if (steps > 0).any() else 1
    steps[steps < 0] = usual
    return np.concatenate([sorted_times[:1], sorted_times[0] + np.cumsum(steps)])


def _apart(stamps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Spread frames of equal times evenly until the next time, (N,) ascending; the last ones at the usual steps."""
    first = np.flatnonzero(np.diff(stamps, prepend=stamps[0] - 1) > 0)  # of each time
    counts = np.diff(np.append(first, len(stamps)))
    usual = np.median(np.diff(stamps[first]) / counts[:-1]) if len(first) > 1 else 1.0
    steps = np.append(np.diff(stamps[first]) / counts[:-1], usual)
    place = np.arange(len(stamps)) - np.repeat(first, counts)  # among those of its time
    spread: NDArray[np.float64] = np.repeat(stamps[first], counts) + place * np.repeat(steps, counts)
    return spread


def _parts(times: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the parts of a stream, (P,): one begins at a key packet behind which times begin earlier than before."""
    part = np.zeros(len(times), np.int64)
    bounds = [0, *keys[keys > 0].tolist(), len(times)]
    latest = None
    for first, last in pairwise(bounds):
        group = times[first:last]
        if latest is not None and group.min() <= latest:
            part[first:] += 1
            latest = None
        latest = int(group.max()) if latest is None else max(latest, int(group.max()))
    return part


def _end(seconds: NDArray[np.float64], *, fps: float, length: float | None) -> float:
    """Return when the last frame ends: as the file states where that can be, or after as long as the one before it."""
    last = float(seconds[-1])
    steps = np.diff(seconds)
    usual = float(steps[-1]) if len(steps) else (1 / fps if fps > 0 else 0.0)
    longest = float(steps.max()) if len(steps) else usual
    if length is not None and last < length <= last + 2 * longest:
        return length
    return last + usual


def mean_rate(seconds: NDArray[np.float64], *, stated: float) -> float:
    """Return frames per second on average: what the file states, unless its times say another thing.

    Args:
        seconds: Of `frame_seconds`.
        stated: By the file; 0.0 where it states none.
    """
    num_frames = len(seconds) - 1
    if num_frames < 2 or not np.isfinite(seconds[-1]):
        return stated
    spread = float(seconds[-2])  # from the first frame to the last
    if stated > 0 and abs((num_frames - 1) / stated - spread) <= max(1 / stated, 0.02 * spread):
        return stated
    return num_frames / float(seconds[-1])
