"""Show where and when the net looks: `vidgn explain`, Grad-CAM over space and time.

Source: Selvaraju et al., "Grad-CAM", ICCV 2017, Eq. 1 and 2, with the mean over (T, H, W) in place of (H, W).
"""

import json
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from vidgn.data.array import as_reader
from vidgn.data.readers.types import Reader
from vidgn.data.synthetic.motions import write_video
from vidgn.files.outputs import check_outputs, replacing
from vidgn.inference.fetch import local_videos
from vidgn.inference.model import ScoringModel, find_checkpoint, open_model
from vidgn.inference.windows import Window, moment, read_windows, shown_at, window_starts
from vidgn.models.net import VideoNet
from vidgn.terminal.escape import plot_label, printable

_FRAMES = 8  # of the film strip
_SLACK = 1e-6  # seconds; times are sums of fractions


class Explanation(NamedTuple):
    """What the net saw in one window.

    Attributes:
        name: the class that is explained.
        score: of that class.
        window: the frames.
        heat: float32 (T, S, S) in 0..1, what raises the class's logit.
        seconds: when each frame of the video is shown; see `vidgn.data.readers.types.Reader.seconds`.
    """

    name: str
    score: float
    window: Window
    heat: NDArray[np.float32]
    seconds: NDArray[np.float64]


def run_explain(
    video: str, *, ckpt: str, target: str, out: TextIO, name: str | None = None, at: float | None = None,
    device: str = "auto", as_json: bool = False, overwrite: bool = False,
) -> int:  # fmt: skip
    """Write TARGET/NAME.png, a film strip, and TARGET/NAME.mp4, both with the heat over the frames.

    Raises:
        ValueError, OSError, VideoDecodeError: what was given cannot be used; one sentence.
    """
    with local_videos([video]) as given:
        if len(given.paths) != 1:
            raise ValueError(f"{video} holds {len(given.paths)} videos; explain takes one file.")
        (path,) = given.paths
        strip, film = (Path(target) / f"{Path(path).stem}{suffix}" for suffix in (".png", ".mp4"))
        inputs: list[str | Path] = [path, find_checkpoint(ckpt)]
        check_outputs([strip, film], option=f"--out {target}", inputs=inputs, overwrite=overwrite)
        model = open_model(ckpt, device=device)
        explanation = explain_video(path, model, name=name, at=at)
    blended = overlay(explanation)
    stride = model.clip.stride
    with replacing(strip) as part:
        part.write_bytes(strip_png(explanation, blended, stride=stride))
    write_film(film, explanation, blended, stride=stride)
    record: dict[str, Any] = {
        "video": given.name(path), "class": explanation.name, "score": round(explanation.score, 6),
        "start": explanation.window.start, "end": explanation.window.end, "strip": str(strip), "film": str(film),
    }  # fmt: skip
    if as_json:
        print(json.dumps(record, indent=1), file=out)
    else:
        frames = f"frames {explanation.window.start}..{explanation.window.end - 1}"
        name = printable(explanation.name)
        print(f"{name} {explanation.score:.2%} in {frames}\n{printable(str(strip))}\n{printable(str(film))}", file=out)
    return 0


def explain_video(
    video: str | Reader, model: ScoringModel, *, name: str | None = None, at: float | None = None
) -> Explanation:
    """Explain one window of a video.

    Args:
        video: a path or an open video.
        model: as `open_model` gives it.
        name: the class; None: the best one.
        at: second in the middle of the window; None: the window where the class scores highest.

    Raises:
        ValueError: an unknown class, or a second outside the video.
        OSError, VideoDecodeError: the file cannot be read.
    """
    if name is not None and name not in model.classes:
        raise ValueError(f"--class {name} is unknown to the checkpoint; it knows {', '.join(model.classes[:20])}.")
    label = None if name is None else model.classes.index(name)
    with as_reader(video, backend=model.description.backend) as reader:
        seconds, span = reader.seconds(), model.clip.span
        starts = window_starts(len(reader), span=span, stride=span) if at is None else [_start(at, seconds, span)]
        best: tuple[float, int, Window] | None = None
        for window in read_windows(reader, clip=model.clip, side=model.crop.test_side, starts=starts):
            with torch.inference_mode():
                scores = model.classifier.net.scores(_pixels(window, model))[0]  # type: ignore[operator]
            chosen = int(scores.argmax()) if label is None else label
            if best is None or float(scores[chosen]) > best[0]:
                best = (float(scores[chosen]), chosen, window)
    assert best is not None
    score, chosen, window = best
    heat = grad_cam(model.net, _pixels(window, model), label=chosen)
    return Explanation(model.classes[chosen], score, window, heat, seconds)


def grad_cam(net: VideoNet, clip: Tensor, *, label: int) -> NDArray[np.float32]:
    """Return where the clip (1, 3, T, H, W) raises the logit of a class: float32 (T, H, W) in 0..1.

    The last block before the head gives the map, and of a transformer the last but one: behind it the patches have no
    part in the logits. The map is scaled to the clip by linear interpolation. All zero where nothing raises the logit.
    """
    kept: list[Tensor] = []
    handle = net.map_block.register_forward_hook(lambda _, __, output: kept.append(net.as_map(output)))
    try:
        with torch.enable_grad():
            logit = net(clip.detach().requires_grad_())[0, label]
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(logit, kept[0])
    weights = gradient.mean((2, 3, 4), keepdim=True)  # Eq. 1
    cam = F.relu((weights * kept[0].detach()).sum(1, keepdim=True))  # Eq. 2, (1, 1, T', H', W')
    large = F.interpolate(cam, size=clip.shape[2:], mode="trilinear", align_corners=False)[0, 0]
    heat: NDArray[np.float32] = (large / large.max().clamp_min(1e-12)).float().cpu().numpy()
    return heat


def overlay(explanation: Explanation) -> NDArray[np.uint8]:
    """Return the frames with the heat over them, uint8 (T, S, S, 3): the hotter, the less of the picture is left."""
    pixels = explanation.window.clip.permute(1, 2, 3, 0).numpy().astype(np.float32)  # (T,S,S,3)
    colours = 255 * mpl.colormaps["inferno"](explanation.heat)[..., :3]
    share = 0.6 * explanation.heat[..., np.newaxis]
    mixed: NDArray[np.uint8] = np.asarray((1 - share) * pixels + share * colours, np.uint8)
    return mixed


def write_film(file: Path, explanation: Explanation, blended: NDArray[np.uint8], *, stride: int) -> None:
    """Write the blended frames as an mp4, each for as long as the video shows it and those left out after it."""
    even = blended[:, : blended.shape[1] // 2 * 2, : blended.shape[2] // 2 * 2]  # 4:2:0 video has even sides
    frames = explanation.window.start + stride * np.arange(len(even) + 1)
    write_video(file, np.ascontiguousarray(even), seconds=shown_at(frames, explanation.seconds))


def strip_png(
    explanation: Explanation, blended: NDArray[np.uint8], *, stride: int, paper: str = "white", ink: str = "black"
) -> bytes:
    """Return a PNG: the frames above, the same with the heat below, each with its second."""
    from matplotlib.figure import Figure

    from vidgn.report.theme import as_png

    shown = np.linspace(0, len(blended) - 1, _FRAMES).astype(int)
    plain = explanation.window.clip.permute(1, 2, 3, 0).numpy()
    figure = Figure(figsize=(12, 3.7), dpi=100, layout="constrained", facecolor=paper)
    figure.suptitle(f"what speaks for {plot_label(explanation.name)} ({explanation.score:.0%})", fontsize=11, color=ink)
    for column, index in enumerate(shown):
        frame = explanation.window.start + int(index) * stride
        second = moment(frame % (len(explanation.seconds) - 1), explanation.seconds)
        for row, pictures in enumerate((plain, blended)):
            axes = figure.add_subplot(2, _FRAMES, row * _FRAMES + column + 1)
            axes.imshow(pictures[index])
            axes.set_axis_off()
            if row == 0:
                axes.set_title(f"frame {frame}" if second is None else f"{second:.2f} s", fontsize=9, color=ink)
    return as_png(figure)


def _start(at: float, seconds: NDArray[np.float64], span: int) -> int:
    """Return where a window begins whose middle is shown at second `at`."""
    num_frames, length = len(seconds) - 1, float(seconds[-1])
    if not 0 <= at <= length + _SLACK:
        stated = "unknown, since the file states no times" if np.isnan(length) else f"0..{length:.2f} s"
        raise ValueError(f"--at {at} is outside the video ({stated}); give a second within it, or leave it out.")
    frame = min(int(np.searchsorted(seconds, at + _SLACK, side="right")) - 1, num_frames - 1)
    return min(max(0, frame - span // 2), max(num_frames - span, 0))


def _pixels(window: Window, model: ScoringModel) -> Tensor:
    normalized: Tensor = model.classifier.normalize(window.clip[None].to(model.device))
    return normalized
