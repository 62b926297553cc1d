"""What `vidgn prepare` prints: sizes, likeness, and how much faster a clip is read."""

import json
import statistics
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, TextIO, cast

import numpy as np

from vidgn.curation.encode import PrepareSpec
from vidgn.curation.pool import Engine
from vidgn.curation.prepare import LEDGER, Prepared, prepare, target_name
from vidgn.data.clips import frame_indices, train_start
from vidgn.data.storage.local_copy import path_of
from vidgn.data.video import open_video
from vidgn.terminal.console import ProgressBar

_TIMED = 8  # videos of which clips are read to compare the speed
_STARTS = (0.1, 0.5, 0.9)  # of the clips, as shares of what is possible
_CLIP_LEN, _SPAN = 32, 64  # frames


class ReadSpeed(NamedTuple):
    """CPU milliseconds to open a video and read a 32x2 clip to RGB: median over videos and starts."""

    videos: int
    source: float
    prepared: float


def run_prepare(
    source: str, target: str, *, spec: PrepareSpec, out: TextIO, workers: int, engine: str = "local",
    as_json: bool = False, overwrite: bool = False,
) -> int:  # fmt: skip
    """Prepare, and print the table; 1 where a video failed."""
    rows = prepare(
        source, target, spec=spec, workers=workers, engine=cast("Engine", engine), progress=ProgressBar("preparing"),
        note=partial(print, file=sys.stderr), overwrite=overwrite,
    )  # fmt: skip
    speed = measure_speed(source, target, rows)
    failed = {row.name: row.error for row in rows if row.error is not None}
    if as_json:
        print(json.dumps({**totals(rows), **speed._asdict(), "failed": failed}), file=out)
    else:
        print(prepare_summary(rows, speed), file=out)
    return int(bool(failed))


def prepare_summary(rows: Sequence[Prepared], speed: ReadSpeed) -> str:
    """Return the table that a person reads."""
    good = [row for row in rows if row.error is None]
    lines = [f"{len(good):,} of {len(rows):,} videos prepared, {sum(row.frames for row in good):,} frames"]
    if good:
        sums = totals(rows)
        psnr = sorted(row.psnr for row in good)
        lines += [
            f"{'':24s}{'source':>12s}{'prepared':>12s}{'ratio':>8s}",
            _line("size (MB)", sums["source_mb"], sums["prepared_mb"]),
            _line("32x2 clip (CPU ms)", speed.source, speed.prepared),
            f"PSNR of the luma: least {psnr[0]:.1f} dB, median {statistics.median(psnr):.1f} dB; speed: median of "
            f"{len(_STARTS)} clips from each of {speed.videos} videos",
        ]
    failed = [row for row in rows if row.error is not None]
    lines += [f"failed: {row.error}" for row in failed[:20]]
    if len(failed) > 20:
        lines.append(f"and {len(failed) - 20:,} more, in {LEDGER}")
    return "\n".join(lines)


def totals(rows: Sequence[Prepared]) -> dict[str, float]:
    """Return the sizes before and after of the videos that were prepared."""
    good = [row for row in rows if row.error is None]
    return {
        "videos": len(good),
        "source_mb": round(sum(row.source_bytes for row in good) / 1e6, 3),
        "prepared_mb": round(sum(row.bytes for row in good) / 1e6, 3),
    }


def measure_speed(source: str, target: str, rows: Sequence[Prepared]) -> ReadSpeed:
    """Read clips of the same places of a few videos from both folders, by turns."""
    good = [row for row in rows if row.error is None]
    chosen = good[:: -(-len(good) // _TIMED)] if good else []
    before, after = [], []
    for row in chosen:
        for share in _STARTS:
            before.append(_clip_seconds(path_of(source, row.name), share))
            after.append(_clip_seconds(path_of(target, target_name(row.name)), share))
    if not chosen:
        return ReadSpeed(0, 0.0, 0.0)
    return ReadSpeed(len(chosen), round(1000 * statistics.median(before), 2), round(1000 * statistics.median(after), 2))


def _clip_seconds(path: str, share: float) -> float:
    began = time.process_time()
    with open_video(path) as video:
        start = train_start(len(video), span=_SPAN, uniform=share)
        indices = frame_indices(np.array([start]), clip_len=_CLIP_LEN, span=_SPAN, num_frames=len(video))
        for _ in video.frames(np.unique(indices)):
            pass
    return time.process_time() - began


def _line(what: str, before: float, after: float) -> str:
    ratio = f"{after / before:8.2f}" if before else f"{'':8s}"
    return f"{what:24s}{before:12,.1f}{after:12,.1f}{ratio}"
