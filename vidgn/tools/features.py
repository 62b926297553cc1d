"""Write what the net sees in a video, window by window: `vidgn features`."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from vidgn.data.clips import ClipSpec
from vidgn.data.video import VideoDecodeError, open_video
from vidgn.tools.inputs import Model, find_videos_of, open_model
from vidgn.tools.windows import read_windows, window_starts

LAYERS = {"res2": 1, "res3": 3, "res4": 4, "res5": 5}  # blocks of an I3D; 2 is pool2, the last is the head


def run_features(
    videos: Sequence[str], *, ckpt: str, folder: str, out: TextIO, layer: str = "res5", window: int | None = None,
    stride: int | None = None, pool: bool = True, device: str = "auto", as_json: bool = False,
) -> int:  # fmt: skip
    """Write one .npz per video; return 1 where a video could not be read, else 0.

    Raises:
        ValueError, OSError: what was given cannot be used; one sentence.
    """
    paths = find_videos_of(videos)
    model = open_model(ckpt, device=device)
    clip = window_clip(model, window)
    names = _names(paths)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    with Progress(console=Console(stderr=True), transient=True) as bar:
        for path in bar.track(paths, description="features"):
            record: dict[str, Any] = {"video": path, "file": None, "error": None}
            try:
                arrays = extract(path, model, layer=layer, clip=clip, stride=stride or clip.span, pool=pool)
                file = target / f"{names[path]}.npz"
                write_npz(file, arrays)
                record |= {"file": str(file), "shape": list(arrays["features"].shape)}
            except (VideoDecodeError, OSError) as err:
                record["error"] = str(err)
            records.append(record)
    if as_json:
        print(json.dumps({"checkpoint": str(model.path), "layer": layer, "videos": records}, indent=1), file=out)
    for record in [] if as_json else records:
        print(
            f"{record['file']}  {tuple(record['shape'])}" if record["file"] else f"error: {record['error']}", file=out
        )
    return int(any(record["error"] for record in records))


def window_clip(model: Model, window: int | None) -> ClipSpec:
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
    video: str, model: Model, *, layer: str, clip: ClipSpec, stride: int, pool: bool = True
) -> dict[str, NDArray[Any]]:
    """Return features of the windows of a video, from their middle square.

    Returns:
        `features` float32 (n, C), the mean over positions, or (n, C, T', H', W') without `pool`; `scores` (n, Q);
        `start_frame`, `end_frame` int64 (n,); `start_seconds`, `end_seconds` float64 (n,), nan without a rate;
        `fps`; `classes`.

    Raises:
        ValueError: the net has no such layer.
        OSError, VideoDecodeError: the file cannot be read.
    """
    block = _block(model, layer)
    found: list[NDArray[np.float32]] = []
    scores: list[NDArray[np.float32]] = []
    frames: list[tuple[int, int]] = []
    with open_video(video, backend=model.describe["data"]["backend"]) as reader:
        fps = reader.fps
        starts = window_starts(len(reader), span=clip.span, stride=stride)
        for window in read_windows(reader, clip=clip, side=model.crop.test_side, starts=starts):
            features, said = _run(model, block, window.clip)
            found.append((features.mean((1, 2, 3)) if pool else features).cpu().numpy())
            scores.append(said.cpu().numpy())
            frames.append((window.start, window.end))
    at = np.array(frames, np.int64)
    moments = at / fps if fps > 0 else np.full(at.shape, np.nan)
    return {
        "features": np.stack(found), "scores": np.stack(scores), "start_frame": at[:, 0], "end_frame": at[:, 1],
        "start_seconds": moments[:, 0], "end_seconds": moments[:, 1], "fps": np.array(fps),
        "classes": np.array(model.classes),
    }  # fmt: skip


def write_npz(file: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays so that the file appears under its name only when it is whole."""
    part = file.with_name(file.name + ".part")
    with part.open("wb") as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type]
    os.replace(part, file)


def _block(model: Model, layer: str) -> nn.Module:
    blocks: Any = model.classifier.net.blocks
    if layer not in LAYERS:
        raise ValueError(f"--layer {layer} is unknown; use one of {', '.join(LAYERS)}.")
    if not isinstance(blocks[2], nn.MaxPool3d):
        name = model.describe["model"]["name"]
        raise ValueError(f"--layer {layer} is a stage of an I3D, but the checkpoint holds {name}; use one of an I3D.")
    block: nn.Module = blocks[LAYERS[layer]]
    return block


def _run(model: Model, block: nn.Module, clip: Tensor) -> tuple[Tensor, Tensor]:
    """Return the block's output (C,T',H',W') and the scores (Q,) of a clip uint8 (3,T,S,S)."""
    kept: list[Tensor] = []
    handle = block.register_forward_hook(lambda _, __, output: kept.append(output))
    try:
        with torch.inference_mode():
            scores = model.classifier.net.scores(model.classifier.normalize(clip[None].to(model.device)))  # type: ignore[operator]
    finally:
        handle.remove()
    return kept[0][0], scores[0]


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Return a file name for each video: its own without suffix, with folders before it where names repeat."""
    stems = [Path(path).stem for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    return {
        path: stem if stems.count(stem) == 1 else os.path.relpath(path, common).replace(os.sep, "__")
        for path, stem in zip(paths, stems, strict=True)
    }
