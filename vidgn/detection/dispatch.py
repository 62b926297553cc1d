"""Which task a command line is of: detection has options of its own. Imports nothing that takes time."""

from collections.abc import Sequence
from pathlib import Path

from vidgn.runs.command_line import CONFIGS, Composed

OPTIONS = Path(__file__).parent / "configs"


def choose_options(arguments: Sequence[str]) -> Path:
    """Return the folder of the options of a command line.

    It is that of detection for task=detect, and for a choice that detection alone has.

    >>> choose_options(["preset=detect_t6_r50_gn"]).parent.name
    'detection'
    >>> choose_options(["data=motions"]).name
    'configs'
    """
    return OPTIONS if any(_is_of_detection(word) for word in arguments) else CONFIGS


def _is_of_detection(word: str) -> bool:
    group, _, choice = word.partition("=")
    return _has(OPTIONS, group, choice) and not _has(CONFIGS, group, choice)


def _has(folder: Path, group: str, choice: str) -> bool:
    return group.isidentifier() and choice.isidentifier() and (folder / group / f"{choice}.yaml").is_file()


def train_task(composed: Composed) -> object:
    """Train by the composed options of any task; torch is imported only after these are checked."""
    if composed.options["task"]["name"] == "detect":
        from vidgn.detection.config import DetectionConfig
        from vidgn.detection.train import run_detection

        return run_detection(DetectionConfig.read(composed))
    from vidgn.runs.config import RunConfig
    from vidgn.training.train import run_training

    return run_training(RunConfig.read(composed))


def evaluate_task(composed: Composed) -> object:
    """Score a checkpoint of any task."""
    from vidgn.detection.evaluate import evaluate_detector, is_detector
    from vidgn.runs.config import EvalConfig

    config = EvalConfig.read(composed)
    if is_detector(config.ckpt):
        return evaluate_detector(config)
    from vidgn.evaluation.evaluate import evaluate_checkpoint

    return evaluate_checkpoint(config)


def detects(inputs: Sequence[str], *, ckpt: str) -> bool:
    """Tell whether `vidgn predict` is about objects in images: image files, and a checkpoint of a detector."""
    if not inputs or any(Path(name).suffix.lower() not in _IMAGES for name in inputs):
        return False
    from vidgn.detection.evaluate import is_detector

    return is_detector(ckpt)


_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm")


def are_detection_runs(folders: Sequence[str]) -> bool:
    """Tell whether all are run folders of task=detect with a finished test."""
    return bool(folders) and all((Path(name).expanduser() / "detections.json").is_file() for name in folders)
