"""How many cores, or which preparation, feed the device here: `vidgn bench --data DIR`."""

import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import torch

from vidgn.data.clips import ClipSpec
from vidgn.data.dataset import ClipDataset
from vidgn.data.manifests.listing import list_videos
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.storage.remote import is_url
from vidgn.data.transforms import CropSpec
from vidgn.doctor.self_tests import training_job, training_rates

_VIDEOS = 4  # of the folder, evenly spread
_ROUNDS = 5  # clips of each video, after one that warms up
_MOST_BYTES = 50_000_000  # a larger video is not prepared for a measurement
_Prepare = Callable[[Path, Path], object]


class Feed(NamedTuple):
    """What the device takes and what a core reads, in clips per second.

    Attributes:
        demand: Clips that the net takes.
        raw: Clips that one core reads of the videos as they are.
        prepared: Of prepared copies; None where no video could be prepared.
        cores: Usable here.
        side: Of the clips, px.
        step: Where `demand` comes from.
        videos: Videos that were read.
    """

    demand: float
    raw: float
    prepared: float | None
    cores: int
    side: int
    step: str
    videos: int


def run_feed(
    folder: str, *, step_ms: float | None, batch: int, prepare: _Prepare, out: TextIO, as_json: bool = False
) -> int:
    """Measure reading and the training step, and print what feeds the device; return 0.

    Args:
        folder: Videos of this machine, read recursively.
        step_ms: Of a training step with `batch` clips; None: measured here, with the net of `vidgn doctor`.
        batch: Clips of the stated step.
        prepare: Writes a prepared copy of a video.
        out: Where to print.
        as_json: Print one JSON object instead.

    Raises:
        ValueError: The folder is an address or holds no readable video, or the step is not above 0.
    """
    if step_ms is not None and not 0 < step_ms < math.inf:
        raise ValueError(f"--step-ms {step_ms:g} must be above 0; give the milliseconds of a training step.")
    if is_url(folder):
        raise ValueError(f"--data {folder} is an address; give a folder of this machine with a few of the videos.")
    names = list_videos(folder)
    if not names:
        raise ValueError(f"--data {folder} holds no videos; give a folder of video files.")
    demand, side, step = _demand(step_ms, batch)
    paths = [Path(folder) / name for name in names[:: -(-len(names) // _VIDEOS)]]
    with tempfile.TemporaryDirectory() as copies:
        raw, prepared = _read_seconds(paths, Path(copies), side=side, prepare=prepare)
    if not raw:
        raise ValueError(f"--data {folder}: none of the {len(paths)} videos tried can be read; see vidgn scan.")
    feed = Feed(
        demand, _rate(raw), _rate(prepared) if prepared else None, len(os.sched_getaffinity(0)), side, step, len(raw)
    )
    print(json.dumps(feed_record(feed)) if as_json else feed_table(feed), file=out)
    return 0


def cores_for(rate: float, demand: float) -> int:
    """Return how many cores read `demand` clips per second at `rate` clips per second each.

    >>> cores_for(35.0, 400.0), cores_for(400.0, 35.0)
    (12, 1)
    """
    return max(1, math.ceil(demand / rate))


def feed_advice(feed: Feed) -> str:
    """Return what to do: how many workers suffice, whether to prepare the videos, or what limits."""
    workers = cores_for(feed.raw, feed.demand)
    if workers <= feed.cores:
        return f"data.num_workers={workers} feeds the net from the videos as they are"
    if feed.prepared is not None and (fewer := cores_for(feed.prepared, feed.demand)) <= feed.cores:
        return f"prepare the videos (vidgn prepare DIR DST); then data.num_workers={fewer} feeds the net"
    best = max(feed.raw, feed.prepared or 0.0)
    kind = "prepared" if best > feed.raw else "as they are"
    share = best * feed.cores / feed.demand
    return f"reading limits: {feed.cores} cores read {share:.0%} of what the net takes from videos {kind}; add cores"


def feed_record(feed: Feed) -> dict[str, object]:
    """Return the numbers and the advice, for JSON."""
    return {
        **feed._asdict(),
        "cores_raw": cores_for(feed.raw, feed.demand),
        "cores_prepared": None if feed.prepared is None else cores_for(feed.prepared, feed.demand),
        "advice": feed_advice(feed),
    }


def feed_table(feed: Feed) -> str:
    """Return the table that a person reads."""
    lines = [
        f"clips of 32 frames over 64, {feed.side} px, from {feed.videos} videos; {feed.cores} usable cores",
        f"  the net takes   {feed.demand:9.1f} clips/s ({feed.step})",
        _line("as they are", feed.raw, feed.demand),
    ]
    if feed.prepared is not None:
        lines.append(_line("prepared", feed.prepared, feed.demand))
    return "\n".join([*lines, feed_advice(feed)])


def _line(name: str, rate: float, demand: float) -> str:
    return f"  {name:15} {rate:9.1f} clips/s per core, {cores_for(rate, demand)} cores feed the net"


def _demand(step_ms: float | None, batch: int) -> tuple[float, int, str]:
    """Return clips per second of training, their side (px), and where the numbers come from."""
    if step_ms is not None:
        return 1000 * batch / step_ms, CropSpec().crop, f"stated: {batch} clips in {step_ms:g} ms"
    job = training_job()
    rates = training_rates(job)
    best = max(rates, key=lambda key: rates[key])
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return rates[best], job.side, f"measured: {device}, width {job.width}, {job.batch} clips, {best[0]}"


def _read_seconds(
    paths: Sequence[Path], copies: Path, *, side: int, prepare: _Prepare
) -> tuple[list[float], list[float]]:
    """Return CPU seconds of a clip from each readable video, and of its prepared copy, read by turns."""
    raw, prepared = list[float](), list[float]()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    try:
        for number, path in enumerate(paths):
            try:
                copy = _copy(path, copies / f"{number}.mp4", prepare)
                seconds = _clip_seconds([path, *copy], side=side)
            except (VideoDecodeError, OSError):
                continue
            raw.append(seconds[0])
            prepared += seconds[1:]
    finally:
        torch.set_num_threads(threads)
    return raw, prepared


def _copy(path: Path, target: Path, prepare: _Prepare) -> list[Path]:
    """Prepare a video of ordinary size; return its copy, or nothing."""
    if path.stat().st_size > _MOST_BYTES:
        return []
    try:
        prepare(path, target)
    except ValueError:  # it cannot be prepared: its copy would differ too much
        return []
    return [target]


def _clip_seconds(paths: Sequence[Path], *, side: int) -> list[float]:
    """Return the median CPU seconds of a training clip of each of the files, which are read by turns."""
    rows = [(path.name, 0) for path in paths]
    readers = [
        ClipDataset(
            Manifest.from_rows([row], root=path.parent, classes=["any"]), clip=ClipSpec(32, 64), crop=CropSpec(side),
            seed=0, flip=True, stream="train", deadline_seconds=None,
        )
        for path, row in zip(paths, rows, strict=True)
    ]  # fmt: skip
    seconds: list[list[float]] = [[] for _ in paths]
    for epoch in range(_ROUNDS + 1):
        for reader, taken in zip(readers, seconds, strict=True):
            began = time.process_time()
            reader[epoch, 0]
            taken.append(time.process_time() - began)
    return [statistics.median(taken[1:]) for taken in seconds]


def _rate(seconds: Sequence[float]) -> float:
    """Return clips per second of one core that reads all videos alike."""
    return len(seconds) / sum(seconds)
