"""Draw a training batch of some options without training: what `vidgn show-batch` does."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO, cast

from vidgn.data.batches import ClipBatch
from vidgn.data.images.module import data_module
from vidgn.files.outputs import check_outputs, replacing
from vidgn.runs.command_line import check_words
from vidgn.runs.config import RunConfig
from vidgn.runs.defaults import check_task, fill_clip
from vidgn.runs.manifests import find_videos
from vidgn.runs.session import compose_options
from vidgn.training.batch_strip import draw_batch


def run_show_batch(
    overrides: Sequence[str],
    *,
    target: str,
    clips: int,
    epoch: int,
    overwrite: bool,
    out: TextIO,
    as_json: bool = False,
) -> int:
    """Draw the first batch of an epoch; return 0.

    Args:
        overrides: options of training, such as data=folder data.root=DIR mixup=0.8.
        target: the PNG file.
        clips: strips at most.
        epoch: whose first batch.
        overwrite: replace the file.
        out: where to print.
        as_json: print one JSON object.

    Raises:
        ValueError: an unknown option, or a number out of its range.
        FileExistsError: the file exists.
    """
    if clips < 1 or epoch < 0:
        raise ValueError(f"--clips ({clips}) must be at least 1 and --epoch ({epoch}) at least 0.")
    check_words("train", overrides)
    check_outputs([target], option=f"--out {target}", overwrite=overwrite)
    batch, classes = first_batch(overrides, epoch=epoch)
    with replacing(target) as part:
        draw_batch(batch, classes, clips=clips).save(part, format="PNG")
    shown = min(clips, batch.clips.shape[0] * batch.clips.shape[1])
    if as_json:
        print(json.dumps({"file": str(Path(target)), "clips": shown, "videos": batch.videos.tolist()}), file=out)
    else:
        print(f"{shown} clips of the first batch of epoch {epoch}: {target}", file=out)
    return 0


def first_batch(overrides: Sequence[str], *, epoch: int) -> tuple[ClipBatch, tuple[str, ...]]:
    """Return the first training batch of an epoch, and the names of the classes."""
    config = fill_clip(RunConfig.read(compose_options("train", overrides)))
    check_task(config.task.name, config.data.name)
    manifest = find_videos(config.data, splits=("train",))["train"]
    data = data_module(config.data.name)(
        {"train": manifest},
        spec=config.data,
        clip=config.clip,
        crop=config.crop_spec,
        test=config.view,
        batch=config.batch,
        seed=config.seed,
        balanced=config.balanced,
        augment=config.augment,
    )
    loader = data.train_dataloader()
    cast("Any", loader).batch_sampler.set_epoch(epoch)
    batch: ClipBatch = next(iter(loader))
    return batch, manifest.classes
