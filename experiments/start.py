"""The starting weights: one net for each family of norms, trained once on easier videos of another seed.

The paper fine-tunes nets that were trained on ImageNet with the norm they keep. Here the source is the twelve plain
motions. One ancestor with batch norm learns them from random weights; each family goes on from it for the same number
of epochs with its own norm (group norm alone needs several times as long from random weights). Every clip draws 32
frames of 32 or of 64, so that the weights favour neither clip length.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.grid import write_json
from experiments.run import Cell, Course, train
from experiments.settings import Setting, digest
from experiments.videos import SPLITS, Split, Videos, VideoSpec, cached, make_videos
from vidgn.optim import OptimSpec

_BATCH_NORMS = ("bn", "sync_bn", "batch_renorm", "frozen_bn")  # one start serves all that read its tensors
ANCESTOR_SEED, FAMILY_SEED = 1, 2
_SPANS = (32, 64)

Weights = dict[str, Tensor]


def start_weights(cell: Cell, *, setting: Setting, mark: str, cache: Path, results: Path) -> Weights:
    """Return the weights a net of this cell starts from, without the classifier; train them if need be.

    Args:
        cell: says the norm; clip length and batch have no part in it.
        setting: sizes and recipe.
        mark: of the setting; other settings have other files.
        cache: folder of what can be made again.
        results: folder of the numbers; the source test of each family is written there.
    """
    first = Cell("sync_bn", 32, 8)
    own = first if cell.norm in _BATCH_NORMS else replace(cell, clip_len=32, batch=8)

    def ancestor() -> tuple[Weights, dict[str, Any]]:
        return train_source(
            first, setting=setting, epochs=setting.ancestor_epochs, optim=setting.ancestor_optim, cache=cache,
            seed=ANCESTOR_SEED,
        )  # fmt: skip

    def child() -> tuple[Weights, dict[str, Any]]:
        return train_source(
            own, setting=setting, epochs=setting.family_epochs, optim=setting.family_optim, cache=cache,
            seed=FAMILY_SEED, weights=_kept(f"start-{mark}-ancestor", ancestor, cache=cache, results=results),
        )  # fmt: skip

    weights = _kept(f"start-{mark}-{own.layer}", child, cache=cache, results=results)
    return {name: value for name, value in weights.items() if ".proj." not in name}


def train_source(
    cell: Cell,
    *,
    setting: Setting,
    epochs: int,
    optim: OptimSpec,
    cache: Path,
    seed: int,
    weights: Mapping[str, Tensor] | None = None,
) -> tuple[Weights, dict[str, Any]]:
    """Train a cell on the source videos."""
    return train(
        cell,
        setting=setting,
        course=Course(epochs, optim, _SPANS, setting.test_clips),
        data=splits(setting.source, seed=setting.source_seed, cache=cache),
        classes=setting.source.classes,
        seed=seed,
        weights=weights,
    )


def _kept(name: str, make: Callable[[], tuple[Weights, dict[str, Any]]], *, cache: Path, results: Path) -> Weights:
    """Read weights that were made before, or make and keep them, their numbers among the results."""
    path = cache / f"{name}.pt"
    if not path.exists():
        weights, numbers = make()
        write_json(results / f"{name}.json", numbers)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        torch.save(weights, part)
        os.replace(part, path)
    found: Weights = torch.load(path, weights_only=True)
    return found


def splits(spec: VideoSpec, *, seed: int, cache: Path, shared_seed: int | None = None) -> Mapping[str, Videos]:
    """Return all splits of a data set, from the cache or made now; `shared_seed` is that of val and test."""

    def one(split: Split) -> Videos:
        own = seed if split == "train" or shared_seed is None else shared_seed
        path = cache / f"videos-{digest(spec)}-{own}-{split}.pt"
        return cached(path, lambda: make_videos(spec, seed=own, split=split))

    return {split: one(split) for split in SPLITS}
