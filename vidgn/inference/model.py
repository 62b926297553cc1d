"""What a person hands to a command: videos, folders, a checkpoint, a device; and a sentence for what is wrong."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from vidgn.checkpoints.description import Description
from vidgn.data.clips import ClipSpec
from vidgn.data.manifests.folder import FRAMES_HINT
from vidgn.data.manifests.listing import list_videos
from vidgn.data.manifests.rows import VIDEO_SUFFIXES
from vidgn.data.transforms import CropSpec
from vidgn.files.run_folder import checkpoint_of

if TYPE_CHECKING:
    import torch

    from vidgn.classifier import VideoClassifier
    from vidgn.models.net import VideoNet

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_WEIGHT_SUFFIXES = (".ckpt", ".pth", ".pyth", ".pt", ".pkl", ".npz", ".safetensors")


class ScoringModel(NamedTuple):
    """A checkpoint, ready to score."""

    path: Path
    classifier: "VideoClassifier"
    description: Description
    device: "torch.device"

    @property
    def net(self) -> "VideoNet":
        """The classifier's net."""
        return cast("VideoNet", self.classifier.net)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, index = label."""
        return self.classifier.classes

    @property
    def clip(self) -> ClipSpec:
        """The frames of a clip."""
        return ClipSpec(self.description.clip_len, self.description.span)

    @property
    def crop(self) -> CropSpec:
        """The sizes in pixels."""
        return CropSpec(self.description.crop)


def open_model(ckpt: str | Path, *, device: str = "auto", fused: bool = True) -> ScoringModel:
    """Build the classifier of a checkpoint on a device, in evaluation mode; `fused` as `eval.py` has it by default.

    Standardized kernels are plain ones in it, and its description says so.

    Raises:
        FileNotFoundError, ValueError: the checkpoint or the device is not there or not usable.
    """
    from vidgn.evaluation.published import open_checkpoint
    from vidgn.evaluation.restore import restore
    from vidgn.norms.weight_standardization import describe_kernels, fold_standardization
    from vidgn.runs.speed import SpeedSpec, speed_up

    on = choose_device(device)
    checkpoint = open_checkpoint(find_checkpoint(ckpt))
    classifier = restore(checkpoint, view_batch=checkpoint.description.test.view_batch)
    model = describe_kernels(checkpoint.description.model, fold_standardization(classifier.net))
    classifier.description = dataclasses.replace(checkpoint.description, model=model)
    if fused:
        speed_up(classifier.net, SpeedSpec(), accelerator=on.type)
    return ScoringModel(checkpoint.path, classifier.eval().to(on), classifier.description, on)


def refuse_heads(model: ScoringModel, what: str) -> None:
    """Refuse a net that gives one class of each of several heads.

    Raises:
        ValueError: it is one.
    """
    heads = model.description.targets.heads
    if heads:
        raise ValueError(
            f"{model.path} has {len(heads)} heads ({', '.join(name for name, _ in heads)}), and {what} shows one class "
            "at a time; use vidgn predict."
        )


def find_checkpoint(ckpt: str | Path) -> Path:
    """Return the checkpoint file; of a run folder its best one, or its last.

    Raises:
        FileNotFoundError: a folder without checkpoints.
        ValueError: the name is that of a video, or of a net that was exported.
    """
    path = Path(ckpt).expanduser()
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise ValueError(f"--ckpt {path} is a video; give the checkpoint after --ckpt and the videos before it.")
    return checkpoint_of(path, option="--ckpt ")


def find_videos_of(given: Sequence[str]) -> list[str]:
    """Return the absolute paths of files as they are and of the videos below folders, sorted, each once.

    Raises:
        FileNotFoundError: a name that does not exist, or a folder without videos.
        ValueError: nothing was given, or an address, a picture or a checkpoint.
    """
    if not given:
        raise ValueError("no video was given; give one or more files or folders.")
    videos: dict[str, None] = {}
    for name in given:
        path = Path(name).expanduser()
        _check_name(name, path)
        inside = _videos_below(path) if path.is_dir() else [path]
        if not inside:
            raise FileNotFoundError(
                f"folder {path} holds no video; files that end in {' '.join(VIDEO_SUFFIXES)} are taken."
                + (FRAMES_HINT if _has_images(path) else "")
            )
        videos.update(dict.fromkeys(os.path.abspath(file) for file in inside))
    return list(videos)


def choose_device(name: str) -> "torch.device":
    """Return the device of the option `--device`.

    Raises:
        ValueError: there is no such device here.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count()
    choices = ["cpu", *(["cuda"] if count else []), *(f"cuda:{number}" for number in range(count))]
    if name not in choices:
        raise ValueError(f"--device {name} is not on this machine; use auto or one of {', '.join(choices)}.")
    return torch.device(name)


def _has_images(folder: Path) -> bool:
    return any(name.lower().endswith(_IMAGE_SUFFIXES) for _, _, names in os.walk(folder) for name in names)


def _check_name(name: str, path: Path) -> None:
    if "://" in name:
        raise ValueError(f"{name} cannot be fetched; use http:// or https://, or give a file.")
    if not path.exists():
        near = f"; the folder {path.parent} does not exist either" if not path.parent.is_dir() else ""
        raise FileNotFoundError(f"{name} does not exist{near}; give a video file or a folder of videos.")
    if path.suffix.lower() in _IMAGE_SUFFIXES:
        raise ValueError(f"{name} is a picture; only a video shows motion, give a file such as clip.mp4.")
    if path.suffix.lower() in _WEIGHT_SUFFIXES:
        raise ValueError(f"{name} is a checkpoint, not a video; give it as --ckpt {name}.")


def _videos_below(folder: Path) -> list[Path]:
    return [folder / name for name in list_videos(str(folder))]
