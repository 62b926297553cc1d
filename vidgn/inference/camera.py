"""Name what happens in front of a camera: `vidgn predict --camera 0`."""

import json
from collections.abc import Iterator
from typing import NamedTuple, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from vidgn.data.clips import ClipSpec
from vidgn.data.readers.camera import Camera
from vidgn.data.transforms import crop, resize, scaled_size, test_boxes
from vidgn.inference.model import ScoringModel, open_model
from vidgn.inference.predict import Answer

_GAP = 3.0  # frame times: a window whose frames are further apart starts again


class SeenWindow(NamedTuple):
    """`span` frames of a camera: when they begin and end (seconds), and every stride-th as uint8 (3, T, S, S)."""

    start: float
    end: float
    clip: Tensor


def run_camera(
    number: int, *, ckpt: str, out: TextIO, top: int = 5, seconds: float | None = None, device: str = "auto",
    as_json: bool = False,
) -> int:  # fmt: skip
    """Print a line per window until the time is over, the camera ends, or Ctrl-C; `--json`: an object per line.

    Raises:
        ValueError, OSError: what was given cannot be used; one sentence.
    """
    if top < 1:
        raise ValueError(f"--top ({top}) must be at least 1 class.")
    if seconds is not None and not seconds > 0:
        raise ValueError(f"--seconds ({seconds}) must be above 0; leave it out to record until Ctrl-C.")
    model = open_model(ckpt, device=device)
    console = Console(stderr=True)
    with Camera(number) as camera:
        console.print(f"camera {number}, {camera.fps:.0f} frames per second; stop with Ctrl-C")
        try:
            for seen in camera_windows(camera, clip=model.clip, side=model.crop.test_side):
                if seconds is not None and seen.start >= seconds:
                    break
                _print(seen, _scored(seen, model), model, top, out, as_json)
        except KeyboardInterrupt:
            console.print("stopped")
    return 0


def camera_windows(camera: Camera, *, clip: ClipSpec, side: int) -> Iterator[SeenWindow]:
    """Yield windows of consecutive frames, one after the other.

    While a window is scored the camera's few buffers fill up and it drops frames; a window with such a hole would
    show a jump, so it starts again behind it.
    """
    longest = _GAP / camera.fps if camera.fps > 0 else 0.5
    kept: list[Tensor] = []
    start = before = 0.0
    count = 0  # frames of this window
    for moment, frame in camera.frames():
        if count and moment - before > longest:
            kept, count = [], 0
        if not count:
            start = moment
        if count % clip.stride == 0:
            kept.append(_square(frame, side))
        before, count = moment, count + 1
        if count == clip.span:
            yield SeenWindow(start, moment, torch.stack(kept, 1))  # (3,T,S,S)
            kept, count = [], 0


def _square(frame: NDArray[np.uint8], side: int) -> Tensor:
    size = scaled_size(*frame.shape[:2], short_side=side)
    (box,) = test_boxes(*size, side=side, num_crops=1)
    return crop(resize(frame[np.newaxis], size=size), box)[:, 0].contiguous()  # (3,S,S)


def _scored(seen: SeenWindow, model: ScoringModel) -> Answer:
    with torch.inference_mode():
        scores = model.classifier.net.scores(model.classifier.normalize(seen.clip[None].to(model.device)))[0]  # type: ignore[operator]
    return Answer("camera", tuple(scores.double().tolist()), None)


def _print(seen: SeenWindow, answer: Answer, model: ScoringModel, top: int, out: TextIO, as_json: bool) -> None:
    best = answer.top(model.classes, min(top, len(model.classes)), targets=model.description.targets)
    if as_json:
        record = {"start_seconds": round(seen.start, 3), "end_seconds": round(seen.end, 3)}
        record["top"] = [{"class": name, "score": round(score, 6)} for name, score in best]  # type: ignore[assignment]
        print(json.dumps(record), file=out, flush=True)
    else:
        text = ", ".join(f"{name} {score:.0%}" for name, score in best)
        print(f"{seen.start:7.1f} s  {text}", file=out, flush=True)
