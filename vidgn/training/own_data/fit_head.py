"""`fit_head`: the classifier is a logistic regression on descriptors of the frozen net, which are computed once.

    every training video -> the views of the test, and their mirror images -> the net up to its last linear layer
    C     by cross-validation over training videos, those of one recording in one part
    W, b  of the minimum over all views, written into the net's last linear layer

Nothing is drawn at random, no validation or test video is looked at, and what comes out is an ordinary checkpoint.
"""

import copy
import re
import time
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vidgn.classifier import VideoClassifier
from vidgn.data.faults.quarantine import BadVideo, Quarantine
from vidgn.data.images.module import data_module
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.module import VideoDataModule
from vidgn.data.splits import mirror_changes
from vidgn.data.tables.groups import divide, groups_by_pattern
from vidgn.evaluation.linear import fit_logistic
from vidgn.models.fuse.fold import fold_batch_norms
from vidgn.models.fuse.rewrite import fuse
from vidgn.terminal.console import ProgressBar

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C; see vidgn.evaluation.linear
FOLDS = 4
_UNTRIED = 2  # index of the C for too few videos


class Views(NamedTuple):
    """Descriptors of views: float32 (M, D), and the training video that each is of, (M,)."""

    descriptors: Tensor
    videos: Tensor


class FoldScore(NamedTuple):
    """Top-1 in percent and mean cross-entropy on videos that a fit has not seen."""

    accuracy: float
    loss: float


class HeadFit(NamedTuple):
    """What was fitted.

    Attributes:
        strength: C.
        accuracy: top-1 in percent in the cross-validation with this C, None where there are too few videos for one.
        accuracies: of every C, in the order of `STRENGTHS`.
        losses: mean cross-entropy of every C there.
        num_videos: training videos that could be read.
        num_views: of them all.
        num_groups: recordings that the parts of the cross-validation keep together.
        seconds: spent.
    """

    strength: float
    accuracy: float | None
    accuracies: tuple[float, ...]
    losses: tuple[float, ...]
    num_videos: int
    num_views: int
    num_groups: int
    seconds: float


def fit_head(classifier: VideoClassifier, data: VideoDataModule, *, device: torch.device) -> HeadFit:
    """Fit the last linear layer of a classifier's net in place.

    Args:
        classifier: Its net ends in a linear layer `proj`.
        data: Has the training videos, and the views of the test, which those are read in.
        device: That computes the descriptors.

    Raises:
        ValueError: No training video could be read, or fewer than two classes are among those that could.
        TooManyBadVideos: More than `data.max_share` of the training videos could not be read.
    """
    began = time.monotonic()
    manifest = data.manifests["train"]
    views = _describe(classifier, data, device=device)
    rows = torch.from_numpy(np.unique(views.videos.numpy()))
    labels = torch.from_numpy(manifest.labels.astype(np.int64))
    if len(set(labels[rows].tolist())) < 2:
        raise ValueError(
            f"fit_head=true: {len(rows)} of the {len(manifest)} training videos could be read, of fewer than two "
            "classes; at least two classes are needed."
        )
    mean, deviation = views.descriptors.mean(0), views.descriptors.std(0, correction=0).clamp_min(1e-6)
    scaled = (views.descriptors - mean) / deviation
    groups = recordings(manifest, rows.tolist(), pattern=data.spec.group)
    num_classes = len(manifest.classes)
    averaged = torch.stack([scaled[views.videos == row].mean(0) for row in rows.tolist()])
    tried = cross_validate(averaged, labels[rows], groups, num_classes=num_classes, seed=data.seed)
    best = max(range(len(tried)), key=lambda number: (tried[number].accuracy, -tried[number].loss), default=_UNTRIED)
    # The mean over more views is compared with the same |W|^2 as that over videos.
    strength = STRENGTHS[best] * len(rows) / len(scaled)
    weight, bias = fit_rotated(scaled, labels[views.videos], strength=strength, num_classes=num_classes)
    layer = last_linear(classifier.net)
    with torch.no_grad():
        layer.weight.copy_(weight / deviation)
        layer.bias.copy_(bias - (weight / deviation) @ mean)
    return HeadFit(
        STRENGTHS[best], tried[best].accuracy if tried else None, tuple(score.accuracy for score in tried),
        tuple(score.loss for score in tried), len(rows), len(scaled), len(set(groups)),
        round(time.monotonic() - began, 1),
    )  # fmt: skip


def last_linear(net: nn.Module) -> nn.Linear:
    """Return the classifier of a net.

    Raises:
        ValueError: Its last block does not end in a linear layer `proj`.
    """
    blocks: Any = net.blocks
    layer = getattr(blocks[-1], "proj", None)
    if not isinstance(layer, nn.Linear):
        raise ValueError("fit_head=true needs a net whose head ends in a linear layer; use model=frames_r50.")
    return layer


def recordings(manifest: Manifest, rows: Sequence[int], *, pattern: str | None = None) -> list[str]:
    """Return the recording of each video, as `data.group` says or as far as names tell.

    A name tells it less its last number: `run/run_g01_c02.mp4` and `run/run_g01_c03.mp4` are of `run/run_g01`. Where
    that would leave fewer than `FOLDS` recordings, or put more than a `FOLDS`-th of the videos into one, the number is
    that of the video, as in `run/007.mp4`, and each video stands for itself.
    """
    names = [manifest.video_id(row) for row in rows]
    if pattern is not None and re.fullmatch(r"\w+", pattern) is None:  # a word is a column of a table
        return groups_by_pattern(names, pattern)
    paths = [PurePosixPath(name) for name in names]
    stems = [_NUMBER.sub("", path.stem) for path in paths]
    groups = [f"{path.parent}/{stem}" if stem else name for path, stem, name in zip(paths, stems, names, strict=True)]
    largest = max(np.unique(np.asarray(groups, dtype=object).astype(str), return_counts=True)[1])
    tells = len(set(groups)) >= FOLDS and largest * FOLDS <= len(names)
    return groups if tells else names


_NUMBER = re.compile(r"[_\-. ]?[a-zA-Z]{0,4}\d+$")


def cross_validate(
    features: Tensor, labels: Tensor, groups: Sequence[str], *, num_classes: int, seed: int
) -> list[FoldScore]:
    """Score every C of `STRENGTHS` on parts that the fit has not seen.

    Nothing where there are fewer than two groups, or fewer than two classes outside a part.
    """
    count = min(FOLDS, len(set(groups)))
    if count < 2:
        return []
    parts = torch.from_numpy(divide(labels.numpy(), groups, shares=[1 / count] * count, seed=seed))
    if any(len(set(labels[parts != part].tolist())) < 2 for part in range(count)):
        return []
    right, loss = np.zeros(len(STRENGTHS)), np.zeros(len(STRENGTHS))
    for part in range(count):
        train, held = parts != part, parts == part
        for number, strength in enumerate(STRENGTHS):
            weight, bias = fit_rotated(features[train], labels[train], strength=strength, num_classes=num_classes)
            logits = features[held] @ weight.T + bias
            right[number] += int((logits.argmax(1) == labels[held]).sum())
            loss[number] += float(functional.cross_entropy(logits, labels[held], reduction="sum"))
    total = len(labels)
    return [
        FoldScore(round(100 * float(hits) / total, 2), round(float(sums) / total, 4))
        for hits, sums in zip(right, loss, strict=True)
    ]


def fit_rotated(features: Tensor, labels: Tensor, *, strength: float, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return W (Q, D) and b (Q,) of `fit_logistic`, from features rotated into the M dimensions that they span.

    The minimum is the same, since W lies in their span and |W| does not change; for D of thousands it is found in a
    fraction of the time.
    """
    if features.shape[1] <= features.shape[0]:
        return fit_logistic(features, labels, strength=strength, num_classes=num_classes)
    _, _, basis = torch.linalg.svd(features, full_matrices=False)  # (M, D)
    weight, bias = fit_logistic(features @ basis.T, labels, strength=strength, num_classes=num_classes)
    return weight @ basis, bias


def _describe(classifier: VideoClassifier, data: VideoDataModule, *, device: torch.device) -> Views:
    """Compute the descriptors of all training videos, in manifest order."""
    manifest = data.manifests["train"]
    spec = data.spec
    mirrored = spec.flip if spec.flip is not None else not mirror_changes(manifest.classes)
    reading = data_module(spec.name)(
        {"test": manifest}, spec=spec, clip=data.clip, crop=data.crop, test=data.test, batch=1, seed=data.seed
    )
    net = fast_copy(classifier.net)
    show = ProgressBar("descriptors of training videos")
    rows: list[Tensor] = []
    videos: list[int] = []
    for batch in reading.test_dataloader():
        for item in batch.items:
            if item.error is not None:
                _write_bad(data.quarantine, manifest, item.video, item.error)
                continue
            for view in item.views():
                clips = torch.stack([view, view.flip(-1)] if mirrored else [view]).to(device)
                rows += _descriptors(net, classifier.normalize(clips))
                videos += [item.video] * len(clips)
            show(item.video + 1, len(manifest))
    if not rows:
        raise ValueError(f"fit_head=true: none of the {len(manifest)} training videos could be read.")
    return Views(torch.stack(rows), torch.tensor(videos))


def fast_copy(net: nn.Module) -> nn.Module:
    """Return a copy of a net that computes faster and cannot be trained: fused, its batch norms folded."""
    return fold_batch_norms(fuse(copy.deepcopy(net).eval()))


@torch.inference_mode()
def _descriptors(net: nn.Module, clips: Tensor) -> list[Tensor]:
    """Return what the last linear layer takes of each clip (N, 3, T, H, W), as the mean over positions: (D,) each."""
    kept: list[Tensor] = []
    handle = last_linear(net).register_forward_hook(lambda _, inputs, __: kept.append(inputs[0]))
    try:
        net(clips)
    finally:
        handle.remove()
    features = kept[0].float()  # (N, D), or (N, P, D)
    return list(features.reshape(len(clips), -1, features.shape[-1]).mean(1).cpu())


def _write_bad(quarantine: Quarantine | None, manifest: Manifest, row: int, error: str) -> None:
    """Write a video that could not be read down; with too many of them the run ends.

    Raises:
        TooManyBadVideos: There are too many.
    """
    if quarantine is not None:
        quarantine.add(BadVideo(manifest.video_id(row), error, "train", row, 0, 0.0, round(time.time(), 3)))
