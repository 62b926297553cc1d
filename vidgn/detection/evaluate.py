"""Score a detector with COCO's metric: the end of training, and all of `vidgn eval` on its checkpoint."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L

from vidgn.callbacks.preemption import Stop
from vidgn.checkpoints.checkpoint import Checkpoint, read_checkpoint
from vidgn.data.transforms import Normalize
from vidgn.detection.data.module import DetectionData, ImagesSpec, images_spec
from vidgn.detection.metric import average_precision
from vidgn.detection.module import DetectionModule
from vidgn.detection.network import DETECTORS, build_detector
from vidgn.detection.network.spec import detector_spec
from vidgn.detection.optim import DetectorOptim
from vidgn.detection.results import PrecisionResult, write_precision
from vidgn.files.run_folder import check_run_inputs, checkpoint_of
from vidgn.runs.config import EvalConfig
from vidgn.runs.environment import device_word
from vidgn.runs.resume import own_folder
from vidgn.runs.trainer import build_trainer, check_devices

_OF_VIDEOS = (
    "network", "classes", "clip_len", "span", "crop", "num_clips", "num_crops", "clip_rule", "view_batch", "quantize",
)  # fmt: skip


def is_detector(given: str) -> bool:
    """Tell whether a checkpoint, or that of a run folder, holds a detector."""
    try:
        return read_checkpoint(checkpoint_of(given)).description.net_name in DETECTORS
    except (ValueError, OSError):
        return False  # the caller says what is wrong with it


def score_detector(
    trainer: L.Trainer, module: DetectionModule, data: DetectionData, *, folder: Path, checkpoint: Path | None
) -> PrecisionResult:
    """Detect in every test image once, score all of them together and write what came out.

    Raises:
        RuntimeError: an image is missing, or was scored twice.
    """
    images = data.parts["test"]
    began = time.monotonic()
    trainer.test(module, data, verbose=False)
    records = module.records
    limited = trainer.fast_dev_run or trainer.limit_test_batches != 1.0  # type: ignore[attr-defined]
    if not limited and [record.image for record in records] != list(range(len(images))):
        raise RuntimeError(
            f"{len(images)} test images but {len(records)} were scored; start the same command again, and please "
            "report this"
        )
    scored = average_precision(records, masks=module.net.spec.masks)
    part = "" if len(records) == len(images) else f"; only {len(records)} of {len(images)} images"
    result = PrecisionResult(scored, len(records), detection_protocol(data.spec) + part, folder)
    write_precision(
        result, records,
        names=[images.name(index) for index in range(len(images))],
        classes=images.classes,
        checkpoint=None if checkpoint is None else str(checkpoint),
        seconds=time.monotonic() - began,
        device=device_word(trainer),
    )  # fmt: skip
    return result


def detection_protocol(spec: ImagesSpec) -> str:
    """Return in words how an image is scored."""
    return (
        f"one scale, shorter side {spec.shorter_side} up to {spec.longest_side}; {spec.name} {spec.test}; COCO's AP "
        "over IoU 0.50:0.95"
    )


def restore_detector(checkpoint: Checkpoint, *, weights: str = "averaged") -> DetectionModule:
    """Build the net of a checkpoint with its weights, for scoring."""
    about = checkpoint.description
    net = build_detector(detector_spec(about.model), num_classes=len(about.classes))
    net.load_state_dict(dict(checkpoint.weights(weights)))
    normalize = Normalize(mean=about.mean, std=about.std)
    return DetectionModule(net.eval(), normalize=normalize, optim=DetectorOptim(), batch=1, description=about)


def evaluate_detector(config: EvalConfig) -> PrecisionResult:
    """Run the options of `configs/eval.yaml` on a checkpoint of task=detect; the data set is the checkpoint's.

    Raises:
        ValueError: an option that belongs to videos, or another data set's classes.
    """
    check_devices(config.trainer)
    stop = Stop()
    with stop.listening():
        path = checkpoint_of(config.ckpt)
        checkpoint = read_checkpoint(path)
        spec = _data_of(config, checkpoint.description.data)
        _check_options(config)
        module = restore_detector(checkpoint, weights=config.weights)
        images = spec.open("test")
        if images.classes != checkpoint.description.classes:
            raise ValueError(
                f"data.root has the classes {', '.join(images.classes[:8])}, but the checkpoint knows "
                f"{', '.join(checkpoint.description.classes[:8])}; give the data set that it was trained on."
            )
        data = DetectionData({"test": images}, spec=spec, batch=1)
        folder = config.folder
        check_run_inputs(folder, config.inputs)
        with own_folder(folder, overwrite=config.overwrite):
            trainer = build_trainer(config.trainer, loggers=config.logger.names, folder=folder, callbacks=[stop])
            return score_detector(trainer, module, data, folder=folder, checkpoint=path)


def _check_options(config: EvalConfig) -> None:
    for name in _OF_VIDEOS:
        if (value := getattr(config, name)) is not None:
            raise ValueError(f"{name}={value} belongs to videos, and {config.ckpt} is a detector; leave it out.")


def _data_of(config: EvalConfig, described: Mapping[str, Any]) -> ImagesSpec:
    """Return the checkpoint's data set with what the command line changes: where it lies, and who reads it."""
    own = described["name"]
    if config.data is not None and config.data.name != own:
        raise ValueError(
            f"data={config.data.name} is not the checkpoint's data={own}; leave data out, and set data.root=DIR."
        )
    for name in ("backend", "shards", "intersect", "deadline_seconds"):
        if config.is_typed(f"data.{name}"):
            raise ValueError(f"data.{name} belongs to videos, and the checkpoint is a detector; leave it out.")
    changed = {name: value for name, value in config.data_changes.items() if name in ("root", "num_workers")}
    return images_spec({**described, **changed})
