"""The functions of `import vidgn`: build, train and evaluate models; `vidgn.loaded_model` loads them.

The package imports this module when one of its names is used for the first time.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from vidgn.files.shipped import SHIPPED, shipped_checkpoint
from vidgn.models.net import VideoNet
from vidgn.models.registry import MODELS, build_net
from vidgn.norms import NORMS

if TYPE_CHECKING:
    from vidgn.detection.results import PrecisionResult
    from vidgn.evaluation.results import Result


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
    from vidgn.checkpoints.checkpoint import read_checkpoint

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


def list_norms() -> dict[str, str]:
    """Return the names that `norm=` takes everywhere, each with what it is for.

    Example:
        >>> list_norms()["gn"]
        'the default: any batch, from 1 clip on'
    """
    return {name: row.purpose for name, row in NORMS.items()}


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


def train(*overrides: str, **options: Any) -> "Result | PrecisionResult | None":
    """Train a model of any task as `vidgn train` does, in this process.

    Args:
        *overrides: KEY=VALUE, as on the command line: `"data=folder"`, `"norm=gn"`.
        **options: the same as keyword arguments: `epochs=5`. A name that stands in `data` alone needs no prefix:
            `root="videos"` is `data.root=videos`. Other dotted names go in a dict: `optim={"lr": 0.1}`.

    Returns:
        The result of the final test, with `.folder`, the run folder; None with `test=False`. With `task="detect"` it
        has `.precision`, the average precisions of boxes and masks by name.

    Raises:
        ValueError: an unknown option or a value out of its range.
        OSError, VideoDecodeError: data that cannot be read.

    Example:
        >>> result = vidgn.train("data=folder", root="videos", epochs=5)  # doctest: +SKIP
        >>> result.video_top1, result.folder  # doctest: +SKIP
    """
    from vidgn.detection.dispatch import choose_options, train_task
    from vidgn.runs.session import run_here

    folder = choose_options([*overrides, *(f"{name}={value}" for name, value in options.items())])
    typed = [*overrides, *_as_overrides(options, config_name="train", folder=folder)]
    return cast("Result | PrecisionResult | None", run_here("train", typed, train_task, options=folder))


def evaluate(ckpt: "str | Path", *overrides: str, **options: Any) -> "Result | PrecisionResult":
    """Score a checkpoint on its test as `vidgn eval` does, in this process.

    Args:
        ckpt: a checkpoint or a run folder.
        *overrides: KEY=VALUE, as on the command line: `"data=folder"`.
        **options: the same as keyword arguments, as for `train`.

    Returns:
        Accuracies in percent, counts, the protocol, and `.folder` with metrics.json and predictions.csv. Of a detector
        `.precision`, the average precisions of boxes and masks by name.

    Raises:
        FileNotFoundError, ValueError: the checkpoint, the data or an option is wrong.

    Example:
        >>> vidgn.evaluate("runs/motions", num_clips=10).video_top1  # doctest: +SKIP
    """
    from vidgn.detection.dispatch import evaluate_task
    from vidgn.inference.model import find_checkpoint
    from vidgn.runs.session import run_here

    given = {"ckpt": find_checkpoint(ckpt), **options}
    typed = [*overrides, *_as_overrides(given, config_name="eval")]
    return cast("Result | PrecisionResult", run_here("eval", typed, evaluate_task))


def _as_overrides(options: Mapping[str, Any], *, config_name: str, folder: Path | None = None) -> list[str]:
    """Write keyword arguments as overrides; names that stand in `data` alone get that prefix.

    >>> _as_overrides({"epochs": 5, "root": "my videos", "optim": {"lr": 0.1}, "init": None}, config_name="train")
    ['epochs=5', "data.root='my videos'", 'optim.lr=0.1', 'init=null']
    """
    from vidgn.data.spec import DataSpec
    from vidgn.detection.data.module import ImagesSpec
    from vidgn.runs.command_line import CONFIGS, top_options

    top = top_options(config_name, folder or CONFIGS)
    of_data = (DataSpec if folder in (None, CONFIGS) else ImagesSpec).__dataclass_fields__
    overrides = []
    for name, value in options.items():
        key = f"data.{name}" if name not in top and name in of_data else name
        if isinstance(value, Mapping):
            overrides += [f"{key}.{inner}={_as_text(item)}" for inner, item in value.items()]
        else:
            overrides.append(f"{key}={_as_text(value)}")
    return overrides


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
