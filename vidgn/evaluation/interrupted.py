"""The journal of one test: what its scores depend on, and what differs from the journal that lies in the folder."""

import hashlib
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn

from vidgn.classifier import VideoClassifier
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.module import VideoDataModule
from vidgn.data.storage.byte_ranges import FileRange
from vidgn.data.storage.remote import is_remote
from vidgn.evaluation.journal import Journal
from vidgn.files.whole_files import sum_of
from vidgn.runs.environment import versions
from vidgn.runs.resume import fingerprint
from vidgn.runs.speed import Speed

_CHANGE_SCORES = ("fuse", "compile", "cuda_graphs", "memory", "quantize")  # of SpeedSpec, in the last digits or more


def open_journal(
    trainer: L.Trainer,
    classifier: VideoClassifier,
    data: VideoDataModule,
    *,
    folder: Path,
    checkpoint: str | Path,
    protocol: str,
) -> Journal:
    """Return the journal of this rank, whose lines count only for the same weights, settings and files."""
    manifest = data.manifests["test"]
    speeds = [callback.spec for callback in trainer.callbacks if isinstance(callback, Speed)]  # type: ignore[attr-defined]
    key = {
        "checkpoint": sum_of(Path(checkpoint)),
        "weights": sum_of_weights(classifier.net),
        "model": None if classifier.description is None else dict(classifier.description.model),
        "protocol": protocol,
        "view_batch": classifier.view_batch,
        "classes": list(classifier.classes),
        "videos": fingerprint(manifest),
        "backend": data.spec.backend,
        "precision": str(trainer.precision),
        "device": trainer.strategy.root_device.type,
        **{name: value for spec in speeds for name, value in spec._asdict().items() if name in _CHANGE_SCORES},
        "versions": versions(),
    }
    return Journal(folder, rank=trainer.global_rank, key=key, stamp=partial(file_stamp, manifest))


def sum_of_weights(net: nn.Module) -> str:
    """Return a sum over the tensors that score: a checkpoint may hold averaged weights beside the trained ones."""
    summed = hashlib.sha256()
    for name, value in net.state_dict().items():
        if isinstance(value, torch.Tensor) and not value.is_quantized:
            summed.update(name.encode())
            summed.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return summed.hexdigest()[:16]


def file_stamp(manifest: Manifest, video: int) -> str | None:
    """Return size and time of a video's file; None elsewhere than on this machine, and where it is missing."""
    path = manifest.path(video)
    if is_remote(path):
        return None
    try:
        status = os.stat(path.container if isinstance(path, FileRange) else path)
    except OSError:
        return None
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"


def shown_differences(differing: Mapping[str, tuple[Any, Any]]) -> str:
    """Return in words what differs, each with its value before and now.

    >>> shown_differences({"quantize": (None, "int8")})
    "quantize None -> 'int8'"
    """
    parts = [f"{name} {old!r} -> {new!r}" for name, (old, new) in differing.items()]
    return "; ".join(part if len(part) < 200 else f"{part[:200]}..." for part in parts)
