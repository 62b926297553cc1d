"""The starting weights: a net of each family, trained once on easier videos of another seed.

The paper fine-tunes nets that were trained on ImageNet with the norm they keep. Here the source is the twelve plain
motions, and every clip draws 32 frames of 32 or of 64, so that the weights favour neither clip length.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.grid import write_json
from experiments.run import Cell, Course, train
from experiments.settings import Setting
from experiments.videos import SPLITS, Split, Videos, VideoSpec, cached, make_videos

# Which starting weights a norm has: those of batch norm serve all that read its tensors.
FAMILY = dict.fromkeys(("bn", "sync_bn", "batch_renorm", "frozen_bn"), "sync_bn") | {n: n for n in ("gn", "ln", "in")}
SPANS = (32, 64)


def start_weights(norm: str, *, setting: Setting, mark: str, cache: Path, results: Path) -> dict[str, Tensor]:
    """Return the weights a net with this norm starts from, without the classifier; train them if need be.

    Args:
        norm: of the net.
        setting: sizes and recipe.
        mark: of the setting; other settings have other files.
        cache: folder of what can be made again.
        results: folder of the numbers; the source test of each family is written there.
    """
    family = FAMILY[norm]
    path = cache / f"start-{mark}-{family}.pt"
    if not path.exists():
        net, numbers = train_source(
            Cell(family, 32, 8), setting=setting, mark=mark, cache=cache, seed=setting.source_seed
        )
        write_json(results / f"start_{family}.json", numbers)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        torch.save(net.state_dict(), part)
        part.replace(path)
    weights: dict[str, Tensor] = torch.load(path, weights_only=True)
    return {name: value for name, value in weights.items() if ".proj." not in name}


def train_source(cell: Cell, *, setting: Setting, mark: str, cache: Path, seed: int) -> tuple[Any, dict[str, Any]]:
    """Train a cell from random weights on the source videos."""
    return train(
        cell,
        setting=setting,
        course=Course(setting.source_epochs, setting.source_optim, SPANS, setting.test_clips),
        data=splits(setting.source, seed=setting.source_seed, cache=cache, name=f"source-{mark}"),
        classes=setting.source.classes,
        seed=seed,
    )


def splits(spec: VideoSpec, *, seed: int, cache: Path, name: str) -> Mapping[str, Videos]:
    """Return all splits of a data set, from the cache or made now."""

    def one(split: Split) -> Videos:
        return cached(cache / f"{name}-{seed}-{split}.pt", lambda: make_videos(spec, seed=seed, split=split))

    return {split: one(split) for split in SPLITS}
