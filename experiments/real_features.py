"""Features of real clips before the last two blocks of res4, computed once by a frozen net and kept as float16.

`SPLIT-LENGTH.npy` holds (clips, views, C, T, H, W), and `SPLIT-LENGTH.json` the name of each clip. A training clip has
two views, its centre and a random crop that is flipped; a test clip has its centre.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidgn.data.clips import frame_indices
from vidgn.data.transforms import Normalize, resize, scaled_size
from vidgn.data.video import open_video
from vidgn.models.builders.frames import move_stride
from vidgn.models.registry import build_net
from vidgn.models.weights.load import load_weights

SPAN, CROP, SIDE = 32, 80, 88  # raw frames of a clip; pixels of the crop, and of the short side before it
LENGTHS = {"short": 16, "long": 32}  # frames of a clip out of SPAN
FROZEN_BLOCKS = 4  # of the six of res4
VALIDATION_SHARE = 0.2
_VIEWS = {"train": 2, "val": 1}


class Clips(NamedTuple):
    """Features of clips, float16 (N, V, C, T, H, W) with V views, with labels and recordings (N,)."""

    features: NDArray[np.float16]
    labels: Tensor
    groups: NDArray[np.str_]

    def take(self, rows: NDArray[np.int64]) -> "Clips":
        """Return some of the clips."""
        return Clips(self.features[rows], self.labels[torch.from_numpy(rows)], self.groups[rows])


def load_i3d(weights: Path, *, norm: str, stride_1x1: bool) -> tuple[nn.Module, Normalize]:
    """Return the full-width I3D with inflated image weights up to res4 in the evaluation mode, and its pixels."""
    net = build_net(
        model={"name": "i3d_r50", "width": 64, "dropout": 0.0}, norm={"name": norm}, crop=CROP, num_classes=1
    )
    report = load_weights(net, weights, fresh=["res5"])
    if report.input_mean is None or report.input_std is None:
        raise ValueError(f"--weights {weights} do not say which pixels they take; give image weights.")
    if stride_1x1:
        for stage in ("res3", "res4"):
            move_stride(net.stages[stage])
    return net.eval(), Normalize(mean=report.input_mean, std=report.input_std)


def split_res4(net: Any) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the net up to the fourth block of res4, and the two blocks after it."""
    res4 = net.stages["res4"]
    before = list(net.blocks)[: list(net.blocks).index(res4)]
    blocks = list(res4.res_blocks)
    return nn.Sequential(*before, *blocks[:FROZEN_BLOCKS]), nn.Sequential(*blocks[FROZEN_BLOCKS:])


def cache_features(trunk: nn.Module, normalize: Normalize, videos: Path, cache: Path) -> None:
    """Write the features of both splits and both lengths; finished files stay."""
    cache.mkdir(parents=True, exist_ok=True)
    for split, num_views in _VIEWS.items():
        paths = sorted((videos / split).glob("*/*.mp4"))
        if all((cache / f"{split}-{length}.json").is_file() for length in LENGTHS):
            continue
        files: dict[str, Any] = {}
        for number, path in enumerate(paths):
            for view in range(num_views):
                frames = read_view(path, view=view, seed=number)
                for length, clip_len in LENGTHS.items():
                    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                        row = trunk(normalize(frames[:, :: SPAN // clip_len][None].contiguous()))[0]
                    if length not in files:
                        shape = (len(paths), num_views, *row.shape)
                        file = cache / f"{split}-{length}.npy"
                        files[length] = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=shape)
                    files[length][number, view] = row.float().numpy().astype(np.float16)
        names = [f"{path.parent.name}/{path.name}" for path in paths]
        for length, features in files.items():
            features.flush()
            (cache / f"{split}-{length}.json").write_text(json.dumps(names), encoding="utf-8")


def read_view(path: Path, *, view: int, seed: int) -> Tensor:
    """Return SPAN consecutive frames, uint8 (3, T, H, W): view 0 the centre, view 1 drawn at random and flipped."""
    with open_video(str(path)) as video:
        num_frames = len(video)
        room = max(num_frames - SPAN, 0)
        draws = np.random.default_rng([seed, view]).random(3) if view else np.full(3, 0.5)
        indices = frame_indices(
            np.array([int(draws[0] * (room + 0.999))]), clip_len=SPAN, span=SPAN, num_frames=num_frames
        )
        distinct, positions = np.unique(indices[0], return_inverse=True)
        frames = np.asarray(video.read(distinct))[positions]
    resized = resize(frames, size=scaled_size(*frames.shape[1:3], short_side=SIDE))
    top, left = (int(draw * (size - CROP + 0.999)) for draw, size in zip(draws[1:], resized.shape[2:], strict=True))
    cut = resized[:, :, top : top + CROP, left : left + CROP]
    return cut.flip(3) if view else cut


def read_features(cache: Path, split: str, length: str) -> Clips:
    """Read what `cache_features` wrote; labels count classes in alphabetical order."""
    names: list[str] = json.loads((cache / f"{split}-{length}.json").read_text(encoding="utf-8"))
    classes = sorted({name.partition("/")[0] for name in names})
    labels = torch.tensor([classes.index(name.partition("/")[0]) for name in names])
    groups = np.array([recording(name) for name in names])
    return Clips(np.load(cache / f"{split}-{length}.npy", mmap_mode="r"), labels, groups)


def recording(name: str) -> str:
    """Return the recording of a clip, which may have clips of several classes.

    >>> recording("jump/jump_g012_c03.mp4")
    'g012'
    """
    match = re.search(r"_(g\d+)_c\d+\.\w+$", name)
    if match is None:
        raise ValueError(f"{name} must end with _gNUMBER_cNUMBER, the recording and the clip; rename the file.")
    return match[1]


def split_validation(labels: Tensor, groups: NDArray[np.str_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows to train on and those of the validation part: whole recordings, about a fifth of each class."""
    counts = np.bincount(labels.numpy())
    taken = np.zeros(len(counts))
    validated: list[str] = []
    for group in np.random.default_rng(0).permutation(np.unique(groups)):
        more = np.bincount(labels.numpy()[groups == group], minlength=len(counts))
        if ((taken + more) <= np.ceil(VALIDATION_SHARE * counts))[more > 0].all():
            taken += more
            validated.append(str(group))
    chosen = np.isin(groups, validated)
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def batches(order: NDArray[np.int64], *, batch: int) -> Iterator[NDArray[np.int64]]:
    """Cut an order into batches; the last one, if incomplete, is left out, so that all steps have the same size."""
    for start in range(0, len(order) - batch + 1, batch):
        yield order[start : start + batch]
