"""Write what the net sees in a video, window by window: `vidgn features`."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from vidgn.data.array import as_reader
from vidgn.data.clips import ClipSpec
from vidgn.data.readers.types import Reader, VideoDecodeError
from vidgn.files.outputs import check_outputs, folded, replacing
from vidgn.inference.fetch import local_videos
from vidgn.inference.model import ScoringModel, find_checkpoint, open_model
from vidgn.inference.windows import read_windows, window_starts
from vidgn.models.net import VideoNet
from vidgn.terminal.escape import printable


def run_features(
    videos: Sequence[str], *, ckpt: str, folder: str, out: TextIO, layer: str = "last", window: int | None = None,
    stride: int | None = None, pool: bool = True, device: str = "auto", as_json: bool = False, overwrite: bool = False,
) -> int:  # fmt: skip
    """Write one .npz per video; return 1 where a video could not be read, else 0.

    Raises:
        ValueError, OSError: what was given cannot be used; one sentence.
    """
    records: list[dict[str, Any]] = []
    with local_videos(videos) as given, Progress(console=Console(stderr=True), transient=True) as bar:
        target, names = Path(folder), _names(given.paths)
        files = [target / f"{names[path]}.npz" for path in given.paths]
        inputs: list[str | Path] = [*given.paths, find_checkpoint(ckpt)]
        check_outputs(files, option=f"--out {folder}", inputs=inputs, overwrite=overwrite)
        model = open_model(ckpt, device=device)
        clip = window_clip(model, window)
        layer = stage_name(model, layer)  # before anything is written
        target.mkdir(parents=True, exist_ok=True)
        for path in bar.track(given.paths, description="features"):
            record: dict[str, Any] = {"video": given.name(path), "file": None, "error": None}
            try:
                arrays = extract(path, model, layer=layer, clip=clip, stride=stride or clip.span, pool=pool)
                file = target / f"{names[path]}.npz"
                write_npz(file, arrays)
                record |= {"file": str(file), "shape": list(arrays["features"].shape)}
            except (VideoDecodeError, OSError) as err:
                record["error"] = str(err).replace(path, given.name(path))
            records.append(record)
    if as_json:
        print(json.dumps({"checkpoint": str(model.path), "layer": layer, "videos": records}, indent=1), file=out)
    for record in [] if as_json else records:
        text = f"{record['file']}  {tuple(record['shape'])}" if record["file"] else f"error: {record['error']}"
        print(printable(text), file=out)
    return int(any(record["error"] for record in records))


def window_clip(model: ScoringModel, window: int | None) -> ClipSpec:
    """Return the clip of a window of so many raw frames: the checkpoint's number of frames, spread over it.

    Raises:
        ValueError: the frames of a clip do not divide the window.
    """
    if window is None:
        return model.clip
    if window < 1 or window % model.clip.clip_len:
        raise ValueError(
            f"--window ({window}) must be a multiple of the {model.clip.clip_len} frames the net takes; "
            f"use {model.clip.span}, as in training."
        )
    return ClipSpec(model.clip.clip_len, window)


def extract(
    video: str | Reader, model: ScoringModel, *, layer: str, clip: ClipSpec, stride: int, pool: bool = True
) -> dict[str, NDArray[Any]]:
    """Return features of the windows of a video, from their middle square.

    Returns:
        `features` float32 (n, C), the mean over positions, or (n, C, T', H', W') without `pool`; `scores` (n, Q);
        `start_frame`, `end_frame` int64 (n,); `start_seconds`, `end_seconds` float64 (n,), when frames are
        shown, nan where the file states no times;
        `fps`; `classes`.

    Raises:
        ValueError: the net has no such stage.
        OSError, VideoDecodeError: the file cannot be read.
    """
    net = model.net
    block = net.stages[stage_name(model, layer)]
    vectors: list[NDArray[np.float32]] = []
    scores: list[NDArray[np.float32]] = []
    frames: list[tuple[int, int]] = []
    with as_reader(video, backend=model.description.backend) as reader:
        fps, seconds = reader.fps, reader.seconds()
        starts = window_starts(len(reader), span=clip.span, stride=stride)
        for window in read_windows(reader, clip=clip, side=model.crop.test_side, starts=starts):
            pixels = model.classifier.normalize(window.clip[None].to(model.device))
            features, said = features_of(net, block, pixels)
            vectors.append((features.mean((1, 2, 3)) if pool else features).cpu().numpy())
            scores.append(said.cpu().numpy())
            frames.append((window.start, window.end))
    at = np.array(frames, np.int64)
    moments = seconds[at]
    return {
        "features": np.stack(vectors), "scores": np.stack(scores), "start_frame": at[:, 0], "end_frame": at[:, 1],
        "start_seconds": moments[:, 0], "end_seconds": moments[:, 1], "fps": np.array(fps),
        "classes": np.array(model.classes),
    }  # fmt: skip


def write_npz(file: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays so that the file appears under its name only when it is whole."""
    with replacing(file) as part, part.open("wb") as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type]


def stage_name(model: ScoringModel, layer: str) -> str:
    """Return the name of a stage of the checkpoint's net: `layer` itself, or of `last` what it is there.

    Raises:
        ValueError: the net has no such stage.
    """
    known = model.net.stages
    if layer == "last" and known:
        return list(known)[-1]
    if layer not in known:
        name, choices = model.description.net_name, ", ".join(known)
        advice = f"use one of {choices}." if known else "use a net of the ResNet family, such as i3d_r50."
        raise ValueError(f"--layer {layer} is not a stage of the checkpoint's net, {name}; {advice}")
    return layer


def features_of(net: VideoNet, block: nn.Module, clip: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a block puts out, (C, T', H', W'), and the scores (Q,) of a normalized clip (1, 3, T, S, S).

    Of the two paths of a SlowFast the fast one is averaged over each slow frame's share, as its head does it.
    """
    kept: list[Tensor] = []
    handle = block.register_forward_hook(lambda _, __, output: kept.append(net.as_map(output)))
    try:
        with torch.inference_mode():
            scores = net.scores(clip)
    finally:
        handle.remove()
    (features,) = kept
    return features[0], scores[0]


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Return a file name for each video: its own without suffix, with folders before it where names repeat."""
    stems = [Path(path).stem for path in paths]
    counts = Counter(map(folded, stems))
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    return {
        path: stem if counts[folded(stem)] == 1 else os.path.relpath(path, common).replace(os.sep, "__")
        for path, stem in zip(paths, stems, strict=True)
    }
