"""Make a group-norm checkpoint of batch-norm weights: calibrated on clips, without training.

vidgn convert-weights runs/bn --norm gn --out gn.ckpt
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from vidgn.checkpoints.checkpoint import Checkpoint
from vidgn.checkpoints.description import KEY, Description
from vidgn.conversion.clips import ClipFile, Sizes, read_clips, top1
from vidgn.data.clips import ClipSpec
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.spec import DataSpec, Split
from vidgn.data.transforms import CropSpec, Normalize
from vidgn.evaluation.published import open_checkpoint
from vidgn.evaluation.restore import restore
from vidgn.files.outputs import check_outputs
from vidgn.files.whole_files import write_whole
from vidgn.inference.model import choose_device, find_checkpoint
from vidgn.models.registry import build_net, norm_options
from vidgn.models.weights.load import load_weights
from vidgn.norms.calibrate import LayerFit, calibrate_net
from vidgn.norms.convert import convert_norm
from vidgn.runs.defaults import own_clip
from vidgn.runs.environment import versions
from vidgn.runs.manifests import find_videos, usable
from vidgn.runs.split import described_split
from vidgn.terminal.console import say

NORMS = ("gn", "ln", "frozen_bn")  # what batch norm can become
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class ConvertedWeights(NamedTuple):
    """What `convert_weights` did.

    Attributes:
        path: the checkpoint written.
        fits: how well each layer was fitted, in the order of the forward pass; none for `frozen_bn`.
        copied: share of the clips of the validation split on which the net with copied weights has the batch-norm
            net's top-1 class, in percent; None where the classifier is fresh.
        converted: the same of the converted net.
        clips: number of clips of each of the two.
        num_train: training videos that there are.
    """

    path: Path
    fits: tuple[LayerFit, ...]
    copied: float | None
    converted: float | None
    clips: int
    num_train: int

    def __str__(self) -> str:
        """Show the layers and the agreement."""
        lines = [f"{fit.r2:6.3f}  {fit.num_groups:>4} groups  {fit.name}" for fit in self.fits]
        head = ["   R^2              layer", *lines] if lines else []
        if self.converted is not None and self.copied is not None:
            head.append(
                f"top-1 is the batch-norm net's on {self.converted:.1f} % of {self.clips} clips of val"
                f" ({self.copied:.1f} % with copied weights)"
            )
        return "\n".join([*head, f"wrote {self.path}"])


def convert_weights(
    source: str | Path,
    *,
    out: str | Path,
    norm: Literal["gn", "ln", "frozen_bn"] = "gn",
    data: DataSpec | Mapping[str, Any] | None = None,
    clips: int = 96,
    batch: int = 8,
    scales: Literal["keep", "fit"] = "keep",
    kernels: Literal["keep", "scale", "fit"] = "keep",
    num_groups: int | None = None,
    model: Mapping[str, Any] | None = None,
    sizes: tuple[int, int, int] | None = None,
    init_fresh: Sequence[str] = (),
    network: str | None = None,
    classes: str | None = None,
    device: str = "auto",
    seed: int = 0,
    overwrite: bool = False,
) -> ConvertedWeights:
    """Convert batch-norm weights to another norm and write a checkpoint for `eval.py ckpt=` and `train.py init=`.

    Args:
        source: a checkpoint or run folder of batch norm, a published video checkpoint, or with `model` the weights of
            an image net.
        out: the file to write.
        norm: `gn` and `ln` are fitted layer by layer on clips (`convert_norm(calibrate=)`); `frozen_bn` is exact.
        data: the videos to calibrate with; fields of `DataSpec`, which replace those that the checkpoint names unless
            `name` is among them.
        clips: to calibrate with, from the training split, and as many of the validation split to compare.
        batch: clips at a time.
        scales: `fit` also scales the kernels: nearer to the batch-norm net, harder to train further.
        kernels: `scale` and `fit` fit the kernels to the inputs that they get in the new net (`convert_norm`).
        num_groups: of `gn`; None follows the width of the net.
        model: options `model.*` of the video net that image weights are inflated to.
        sizes: of image weights, frames, span and crop of its clips; None: those the net was published with.
        init_fresh: of image weights, stages that they lack.
        network: see `eval.py network=`.
        classes: see `eval.py classes=`.
        device: auto, cpu, cuda or cuda:1.
        seed: of the clips.
        overwrite: replace `out` where it exists.

    Raises:
        FileNotFoundError: a file or folder is missing.
        FileExistsError: `out` exists.
        ValueError: the weights are not those of a batch-norm net, or data are missing.
    """
    _check_choices(norm, clips=clips, batch=batch)
    on = choose_device(device)
    check_outputs([out], option=f"--out {out}", inputs=_inputs(source), overwrite=overwrite)
    teacher_file, manifests, has_classifier = _open(
        source, data=data, model=model, sizes=sizes, init_fresh=init_fresh, network=network, classes=classes, seed=seed
    )
    about = teacher_file.description
    teacher = _teacher(teacher_file).to(on)
    options = _new_norm(norm, num_groups=num_groups, model=about.model)
    student = _student(teacher, about, options).to(on)
    read = _clip_reader(manifests, about, clips=clips, batch=batch, seed=seed)
    with read("val") as test:
        expected, before = top1(teacher, test, on), top1(student, test, on)
        fits = _calibrate(teacher, student, read, scales=scales, kernels=kernels) if norm != "frozen_bn" else ()
        after = top1(student, test, on)
    write_converted(Path(out), student, about, options=options)
    copied, converted = (_agreement(given, expected) if has_classifier else None for given in (before, after))
    return ConvertedWeights(Path(out), fits, copied, converted, len(test), len(manifests["train"]))


def _check_choices(norm: str, *, clips: int, batch: int) -> None:
    if norm not in NORMS:
        raise ValueError(f"norm={norm} must be one of {', '.join(NORMS)}.")
    if clips < 1 or batch < 1:
        raise ValueError(f"clips ({clips}) and batch ({batch}) must be at least 1.")


def _clip_reader(
    manifests: Mapping[Split, Manifest], about: Description, *, clips: int, batch: int, seed: int
) -> Callable[[Split], ClipFile]:
    """Return the function that reads the clips of a split as the described net sees them."""
    return partial(
        read_clips,
        manifests,
        spec=DataSpec(**about.data),
        sizes=Sizes(ClipSpec(about.clip_len, about.span), CropSpec(about.crop)),
        count=clips,
        normalize=Normalize(mean=about.mean, std=about.std),
        batch=batch,
        seed=seed,
    )


def _calibrate(
    teacher: nn.Module,
    student: nn.Module,
    read: Callable[[Split], ClipFile],
    *,
    scales: Literal["keep", "fit"],
    kernels: Literal["keep", "scale", "fit"],
) -> tuple[LayerFit, ...]:
    """Fit the student's group norms to the teacher on training clips, in place."""
    names = [name for name, layer in student.named_modules() if isinstance(layer, nn.GroupNorm)]
    with read("train") as clips:
        return calibrate_net(teacher, student, names, clips, scales=scales, kernels=kernels).layers


def _agreement(labels: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the share of equal labels in percent."""
    return 100 * float((labels == expected).float().mean())


def _inputs(source: str | Path) -> list[Path]:
    path = Path(source).expanduser()
    return [find_checkpoint(path)] if path.exists() else []


def _open(
    source: str | Path,
    *,
    data: DataSpec | Mapping[str, Any] | None,
    model: Mapping[str, Any] | None,
    sizes: tuple[int, int, int] | None,
    init_fresh: Sequence[str],
    network: str | None,
    classes: str | None,
    seed: int,
) -> tuple[Checkpoint, Mapping[Split, Manifest], bool]:
    """Return the batch-norm net, described with its videos; these; and whether its classifier is trained."""
    if model is not None:
        spec = _data_of(data, None)
        manifests = usable(find_videos(spec, splits=("train", "val")))
        names = manifests["train"].classes
        checkpoint, has_classifier = _open_image_weights(
            source, model, classes=names, sizes=sizes, init_fresh=init_fresh, seed=seed
        )
    else:
        checkpoint = open_checkpoint(find_checkpoint(source), network=network, classes=classes)
        spec, has_classifier = _data_of(data, checkpoint.description.data), True
        num_classes = len(checkpoint.description.classes)
        split = described_split(checkpoint.description)
        manifests = usable(find_videos(spec, splits=("train", "val"), num_classes=num_classes, record=split))
    description = dataclasses.replace(checkpoint.description, data=dict(vars(spec)))
    return dataclasses.replace(checkpoint, description=description), manifests, has_classifier


def write_converted(path: Path, net: nn.Module, description: Description, *, options: Mapping[str, Any]) -> None:
    """Write a net as a checkpoint of no training steps, described as the one it comes from but for its norm."""
    about = dataclasses.replace(
        description, norm=dict(options), versions=versions(), config="", overrides=(), job=None, extra={}
    )
    state = {
        KEY: about.to_plain(),
        "state_dict": {f"net.{name}": tensor.cpu() for name, tensor in net.state_dict().items()},
        "global_step": 0,
        "epoch": 0,
    }
    write_whole(path, lambda file: torch.save(state, file))


def _teacher(checkpoint: Checkpoint) -> nn.Module:
    """Build the batch-norm net of a checkpoint.

    Raises:
        ValueError: its norm keeps no statistics.
    """
    if not any(name.endswith("running_mean") for name in checkpoint.net):
        raise ValueError(
            f"{checkpoint.path} has norm={checkpoint.description.norm['name']}, which keeps no statistics;"
            " convert-weights takes the weights of batch-norm nets (bn, sync_bn, sub_bn, frozen_bn, batch_renorm)."
        )
    return restore(checkpoint).net.eval()


def _student(teacher: nn.Module, about: Description, options: Mapping[str, Any]) -> nn.Module:
    """Build the net with the new norm and the teacher's kernels, weights and biases."""
    net = build_net(model=about.model, norm=options, crop=about.crop, num_classes=len(about.classes))
    state = teacher.state_dict()
    if options["name"] == "frozen_bn":
        frozen = copy.deepcopy(teacher)
        convert_norm(frozen, "frozen_bn")
        state = frozen.state_dict()
    own = net.state_dict()
    lost = [name for name in state if name not in own and not name.endswith(_STATISTICS)]
    assert not lost, lost
    net.load_state_dict({name: state[name] for name in own})
    return net.eval()


def _new_norm(norm: str, *, num_groups: int | None, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the new norm as configs/norm has them.

    Raises:
        ValueError: `num_groups` for another norm than `gn`.
    """
    if num_groups is not None and norm != "gn":
        raise ValueError(f"num_groups ({num_groups}) is an option of norm=gn; leave it out for norm={norm}.")
    own = {"num_groups": num_groups, "channels_per_group": None} if norm == "gn" else {}
    return norm_options({"name": norm, **own, "eps": 1e-5}, model=model)


def _data_of(given: DataSpec | Mapping[str, Any] | None, named: Mapping[str, Any] | None) -> DataSpec:
    """Return the data set: what was given, or the checkpoint's with what was given in its place.

    Raises:
        ValueError: there is none.
    """
    if isinstance(given, DataSpec):
        return given
    fields = dict(given or {})
    unknown = sorted(set(fields) - {field.name for field in dataclasses.fields(DataSpec)})
    if unknown:
        raise ValueError(f"unknown option data.{unknown[0]}; DataSpec lists the options.")
    if "name" in fields:
        return DataSpec(**fields)
    if named is None:
        raise ValueError("image weights name no videos to calibrate with; set data=folder data.root=DIR.")
    return DataSpec(**{**named, "passport": None, "intersect": None, **fields})  # files of the machine that trained


def _open_image_weights(
    source: str | Path,
    model: Mapping[str, Any],
    *,
    classes: Sequence[str],
    sizes: tuple[int, int, int] | None,
    init_fresh: Sequence[str],
    seed: int,
) -> tuple[Checkpoint, bool]:
    """Inflate image weights to a batch-norm video net, and describe it; tell whether its classifier is trained."""
    clip_len, span, crop = sizes or own_clip(model["name"])  # an unknown model fails where it is built
    torch.manual_seed(seed)  # of what stays fresh
    net = build_net(model=model, norm={"name": "bn"}, crop=crop, num_classes=len(classes))
    report = load_weights(net, source, classes=tuple(classes), fresh=init_fresh)
    for note in report.notes:
        say(f"note: {note}")
    normalize = Normalize()
    if report.input_mean is not None and report.input_std is not None:
        normalize = Normalize(mean=report.input_mean, std=report.input_std)
    description = Description(
        classes=tuple(classes),
        model=dict(model),
        norm={"name": "bn"},
        clip_len=clip_len,
        span=span,
        crop=crop,
        mean=tuple(round(value, 6) for value in normalize.mean.flatten().tolist()),
        std=tuple(round(value, 6) for value in normalize.std.flatten().tolist()),
    )
    return Checkpoint(Path(str(source)), net.state_dict(), description, step=0, epoch=0), not report.replaced_head
