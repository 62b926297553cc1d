"""The functions of `import vidgn`: build, load, train and evaluate models.

The package imports this module when one of its names is used for the first time.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vidgn.checkpoint import write_whole
from vidgn.data.clips import ClipSpec
from vidgn.description import KEY
from vidgn.models.net import VideoNet
from vidgn.models.registry import MODELS, build_net
from vidgn.norms import NORMS
from vidgn.shipped import SHIPPED, shipped_checkpoint
from vidgn.temporary import temporary_folder

if TYPE_CHECKING:
    from vidgn.data.readers.types import Reader
    from vidgn.evaluation.results import Result
    from vidgn.inference.explain import Explanation
    from vidgn.inference.model import ScoringModel
    from vidgn.inference.predict import Segment


def create_model(
    name: str,
    *,
    norm: str = "gn",
    num_classes: int = 400,
    weights: str | Path | None = None,
    num_groups: int | None = None,
    **options: Any,
) -> VideoNet:
    """Build a video network with the norm of your choice.

    The network takes normalized clips, float (N, 3, T, H, W), and returns logits (N, Q).

    Args:
        name: one of `list_models()`.
        norm: one of `list_norms()`.
        num_classes: classes Q.
        weights: what to start from: `torchvision`, `timm`, `motions` (comes with the package; sets width, norm and
            the other options to its own) or a file (2-D weights are inflated); None: random.
        num_groups: groups of `gn`; None: 32 at the published width, in proportion at other widths.
        **options: of the model: `width` (channels of the stem), `dropout`, `pool1` and `nonlocal_blocks` (of an
            I3D: 0, 5 or 10), `crop` (side of the training crop in pixels, which sets the window of the head),
            `weight_standardization` (of the kernels: True, False, "timm" or "authors"; docs/norms.md).

    Raises:
        ValueError: an unknown model, norm or option, or a value out of its range.
        FileNotFoundError: there is no such file of weights.

    Example:
        >>> import torch, vidgn
        >>> net = vidgn.create_model("i3d_r50", norm="gn", num_classes=5, width=8)
        >>> net(torch.zeros(1, 3, 8, 32, 32)).shape
        torch.Size([1, 5])
    """
    own = _shipped_options(name, norm=norm, num_groups=num_groups) if str(weights) in SHIPPED else {}
    info = model_info(name)
    of_i3d = {} if info.pool1 is None else {"pool1": info.pool1, "nonlocal_blocks": 0}
    defaults = {"width": info.width, "dropout": info.dropout} | of_i3d
    known = [*defaults, "crop", "weight_standardization"]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"{name} has no option {unknown[0]!r}; it has {', '.join(known)}.")
    if norm not in NORMS:
        raise ValueError(f"norm ({norm!r}) must be one of {', '.join(list_norms())}.")
    if num_groups is not None and norm != "gn":
        raise ValueError(f"num_groups ({num_groups}) is an option of norm='gn', not of norm={norm!r}; leave it out.")
    crop = options.pop("crop", own.get("crop", info.crop))
    norm_options = {"name": norm} | ({"num_groups": num_groups} if norm == "gn" else {})
    net = build_net(
        model={"name": name, **defaults, **own.get("model", {}), **options},
        norm=own.get("norm", norm_options),
        crop=crop,
        num_classes=num_classes,
    )
    if weights is not None:
        from vidgn.models.weights.load import load_weights

        load_weights(net, str(weights))
    return net


def _shipped_options(name: str, *, norm: str, num_groups: int | None) -> dict[str, Any]:
    """Return `model`, `norm` and `crop` of weights that come with the package.

    Raises:
        ValueError: they are of another model or norm.
    """
    from vidgn.checkpoint import read_checkpoint

    described = read_checkpoint(shipped_checkpoint("motions")).description
    wanted = {"name": name, "norm": norm, "num_groups": num_groups}
    theirs = {"name": described.net_name, "norm": described.norm["name"], "num_groups": described.norm["num_groups"]}
    for option, value in theirs.items():
        if wanted[option] not in (value, *([None] if option == "num_groups" else [])):
            raise ValueError(
                f"{option} ({wanted[option]!r}) is not that of weights='motions'; use {option}={value!r}, or other"
                " weights."
            )
    return {"model": dict(described.model), "norm": dict(described.norm), "crop": described.crop}


def list_models() -> list[str]:
    """Return the names that `create_model` and `model=` on the command line take.

    Example:
        >>> "i3d_r50" in list_models()
        True
    """
    return list(MODELS)


def list_norms() -> list[str]:
    """Return the names that `norm=` takes everywhere.

    Example:
        >>> "gn" in list_norms()
        True
    """
    return list(NORMS)


class ModelInfo(NamedTuple):
    """What is known about a model before it is built.

    Attributes:
        name: as in `list_models()`.
        clip_len: frames of its published clip.
        span: raw frames that the clip covers.
        crop: side of the published training crop in pixels.
        width: channels of the stem.
        dropout: before the classifier.
        pool1: the stem of an I3D; None for other networks.
        source: where these numbers come from.
    """

    name: str
    clip_len: int
    span: int
    crop: int
    width: int
    dropout: float
    pool1: str | None
    source: str


def model_info(name: str) -> ModelInfo:
    """Return the published clip and size of a model.

    Raises:
        ValueError: the name is unknown.

    Example:
        >>> model_info("i3d_r50").clip_len
        32
    """
    if name not in MODELS:
        raise ValueError(f"model ({name!r}) must be one of {', '.join(MODELS)}.")
    row = MODELS[name]
    return ModelInfo(name, *row.clip, row.width, row.dropout, row.pool1, row.source)


class ClassScore(NamedTuple):
    """A class and its score in 0..1."""

    name: str
    score: float


class LoadedModel:
    """A trained model that is ready to score videos; `vidgn.load` returns it.

    A video is a path, or frames in memory: uint8 (T, H, W, 3), RGB.

    Attributes:
        net: the network, in evaluation mode.
        classes: class names, index = label.
        clip: the frames of a clip: `clip_len`, `span`, `stride`.
    """

    def __init__(self, model: "ScoringModel", *, step: int = 0, epoch: int = 0) -> None:
        self._model = model
        self._counts = {"global_step": step, "epoch": epoch}

    @property
    def net(self) -> VideoNet:
        """The network."""
        net = self._model.classifier.net
        assert isinstance(net, VideoNet)
        return net

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, index = label."""
        return self._model.classes

    @property
    def clip(self) -> ClipSpec:
        """The frames of a clip."""
        return self._model.clip

    def scores(self, video: "str | Path | NDArray[np.uint8]") -> NDArray[np.float64]:
        """Return the score of each class, float64 (Q,), summing to 1: the same numbers as `vidgn eval`.

        Raises:
            OSError, VideoDecodeError: the video cannot be read.
            TypeError, ValueError: an array is not uint8 (T, H, W, 3).
        """
        from vidgn.inference.predict import choose_test, predict_open

        with _open(video, self._model) as reader:
            return np.array(predict_open(reader, self._model, test=choose_test(self._model)))

    def predict(
        self, videos: "str | Path | NDArray[np.uint8] | Sequence[str | Path]", *, top: int = 5
    ) -> list[ClassScore] | list[list[ClassScore]]:
        """Name the action in a video, or in each of several.

        Args:
            videos: one video, or a list of paths.
            top: classes per video.

        Returns:
            The best classes of the video with their scores, best first; for a list of videos a list of such lists.

        Raises:
            ValueError: `top` is less than 1.
            OSError, VideoDecodeError: a video cannot be read.
        """
        if top < 1:
            raise ValueError(f"top ({top}) must be at least 1 class.")
        if isinstance(videos, (str, Path, np.ndarray)):
            return self._best(self.scores(videos), top)
        return [self._best(self.scores(video), top) for video in videos]

    def timeline(self, video: "str | Path | NDArray[np.uint8]", *, stride: int | None = None) -> "list[Segment]":
        """Return what happens when: a window slides over the video, equal neighbours are joined.

        Args:
            video: of any length.
            stride: raw frames between windows; None: the span of a clip, so that windows touch.

        Raises:
            OSError, VideoDecodeError: the video cannot be read.
        """
        from vidgn.inference.predict import segments, timeline

        with _open(video, self._model) as reader:
            windows = list(timeline(reader, self._model, stride=stride))
            return segments(windows, self.classes, seconds=reader.seconds())

    def features(
        self, video: "str | Path | NDArray[np.uint8]", *, layer: str = "res5", stride: int | None = None
    ) -> NDArray[np.float32]:
        """Return what a stage puts out for each window of a video, averaged over positions: float32 (n, C).

        Args:
            video: of any length.
            layer: `res2` to `res5`.
            stride: raw frames between windows; None: the span of a clip.

        Raises:
            ValueError: the net has no such stage.
            OSError, VideoDecodeError: the video cannot be read.
        """
        from vidgn.inference.features import extract

        with _open(video, self._model) as reader:
            arrays = extract(reader, self._model, layer=layer, clip=self.clip, stride=stride or self.clip.span)
        features: NDArray[np.float32] = arrays["features"]
        return features

    def explain(self, video: "str | Path | NDArray[np.uint8]", *, name: str | None = None) -> "Explanation":
        """Return where and when the net looks (Grad-CAM): class, score, window and `heat`, float32 (T, S, S) in 0..1.

        Args:
            video: the window where the class scores highest is explained.
            name: the class; None: the best one.

        Raises:
            ValueError: an unknown class.
            OSError, VideoDecodeError: the video cannot be read.
        """
        from vidgn.inference.explain import explain_video

        with _open(video, self._model) as reader:
            return explain_video(reader, self._model, name=name)

    def save(self, path: str | Path) -> Path:
        """Write a checkpoint that `vidgn.load`, `vidgn eval ckpt=` and `vidgn train init=` take.

        Raises:
            FileExistsError: there is such a file already.
            OSError: it cannot be written.
        """
        path = Path(path)
        if path.exists():
            raise FileExistsError(f"{path} exists already; give another name, or remove it first.")
        tensors = {f"net.{key}": value.detach().cpu() for key, value in self.net.state_dict().items()}
        state = {KEY: self._model.description.to_plain(), "state_dict": tensors, **self._counts}
        write_whole(path, lambda file: torch.save(state, file))
        return path

    def _best(self, scores: NDArray[np.float64], top: int) -> list[ClassScore]:
        order = sorted(range(len(scores)), key=lambda label: (-scores[label], label))[:top]
        return [ClassScore(self.classes[label], float(scores[label])) for label in order]


def load(source: str | Path, *, device: str = "auto") -> LoadedModel:
    """Load a trained model.

    Args:
        source: a run folder of `vidgn train`, a checkpoint, a published video checkpoint (docs/weights.md), or
            `hub:USER/NAME` for one that `vidgn push` wrote.
        device: auto, cpu, cuda or cuda:1.

    Raises:
        FileNotFoundError: there is no such file, or a folder without a checkpoint.
        ValueError: the file is damaged or of an unknown format, or there is no such device.

    Example:
        >>> model = vidgn.load("runs/motions")  # doctest: +SKIP
        >>> model.predict("clip.mp4", top=1)  # doctest: +SKIP
        [ClassScore(name='right', score=0.98)]
    """
    from vidgn.checkpoint import read_checkpoint
    from vidgn.inference.model import open_model

    if str(source).startswith("hub:"):
        from vidgn.inference.hub import fetch_run

        with temporary_folder() as folder:  # also removed where SIGTERM ends the process
            return load(fetch_run(str(source).removeprefix("hub:"), folder / "run"), device=device)
    model = open_model(source, device=device, fused=False)
    try:
        checkpoint = read_checkpoint(model.path)
    except ValueError:  # a published file: it does not count steps
        return LoadedModel(model)
    return LoadedModel(model, step=checkpoint.step, epoch=checkpoint.epoch)


def train(*overrides: str, **options: Any) -> "Result | None":
    """Train a model as `vidgn train` does, in this process.

    Args:
        *overrides: KEY=VALUE, as on the command line: `"data=folder"`, `"norm=gn"`.
        **options: the same as keyword arguments: `epochs=5`. A name that stands in `data` alone needs no prefix:
            `root="videos"` is `data.root=videos`. Other dotted names go in a dict: `optim={"lr": 0.1}`.

    Returns:
        The result of the final test, with `.folder`, the run folder; None with `test=False`.

    Raises:
        ValueError: an unknown option or a value out of its range.
        OSError, VideoDecodeError: data that cannot be read.

    Example:
        >>> result = vidgn.train("data=folder", root="videos", epochs=5)  # doctest: +SKIP
        >>> result.video_top1, result.folder  # doctest: +SKIP
    """
    from vidgn.runs.session import run_here
    from vidgn.training.train import run_training as train_job

    return run_here("train", [*overrides, *_as_overrides(options, config_name="train")], train_job)


def evaluate(ckpt: "str | Path", *overrides: str, **options: Any) -> "Result":
    """Score a checkpoint on its test as `vidgn eval` does, in this process.

    Args:
        ckpt: a checkpoint or a run folder.
        *overrides: KEY=VALUE, as on the command line: `"data=folder"`.
        **options: the same as keyword arguments, as for `train`.

    Returns:
        Accuracies in percent, counts, the protocol, and `.folder` with metrics.json and predictions.csv.

    Raises:
        FileNotFoundError, ValueError: the checkpoint, the data or an option is wrong.

    Example:
        >>> vidgn.evaluate("runs/motions", num_clips=10).video_top1  # doctest: +SKIP
    """
    from vidgn.evaluation.evaluate import evaluate_checkpoint
    from vidgn.inference.model import find_checkpoint
    from vidgn.runs.session import run_here

    given = {"ckpt": find_checkpoint(ckpt), **options}
    return run_here("eval", [*overrides, *_as_overrides(given, config_name="eval")], evaluate_checkpoint)


@contextmanager
def _open(video: "str | Path | NDArray[np.uint8]", model: "ScoringModel") -> "Iterator[Reader]":
    from vidgn.data.array import ArrayReader, as_reader

    source = ArrayReader(video) if isinstance(video, np.ndarray) else video
    with as_reader(source, backend=model.description.backend) as reader:
        yield reader


def _as_overrides(options: Mapping[str, Any], *, config_name: str) -> list[str]:
    """Write keyword arguments as overrides; names that stand in `data` alone get that prefix.

    >>> _as_overrides({"epochs": 5, "root": "my videos", "optim": {"lr": 0.1}, "init": None}, config_name="train")
    ['epochs=5', "data.root='my videos'", 'optim.lr=0.1', 'init=null']
    """
    from vidgn.data.spec import DataSpec
    from vidgn.runs.command_line import top_options

    top = top_options(config_name)
    words = []
    for name, value in options.items():
        key = f"data.{name}" if name not in top and name in DataSpec.__dataclass_fields__ else name
        if isinstance(value, Mapping):
            words += [f"{key}.{inner}={_as_text(item)}" for inner, item in value.items()]
        else:
            words.append(f"{key}={_as_text(value)}")
    return words


def _as_text(value: Any) -> str:
    """Write a value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_as_text(item) for item in value)}]"
    text = str(value)
    if isinstance(value, (int, float)) or text.replace("_", "").replace("-", "").isalnum():
        return text
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
