"""Weights to start from: of a ResNet for the body, or of a whole detector, Detectron's among them.

torchvision, timm, R-50-GN.pkl, a checkpoint of task=image     the body
model_final.pkl of Detectron, a checkpoint of task=detect      everything; layers of other classes stay new
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.data.transforms import Normalize
from vidgn.detection.network import DETECTORS, Detector
from vidgn.models.weights.formats import Channels, convert_input, rename
from vidgn.models.weights.sources import Source, open_source

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_PREDICTORS = ("roi_heads.box_predictor.", "roi_heads.mask_predictor.mask_fcn_logits.")


class Loaded(NamedTuple):
    """What was loaded: tensors, where from, what to know, and the pixels that the weights want."""

    tensors: int
    source: str
    notes: tuple[str, ...]
    normalize: Normalize


def load_detector_weights(net: Detector, source: str, *, classes: Sequence[str]) -> Loaded:
    """Start a detector from the weights of `init=`; all of what a file holds fits, or nothing is changed.

    Args:
        net: changed in place.
        source: `torchvision`, `timm` or a file.
        classes: of the data set, in the order of their labels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its tensors do not fit; the message names them.
    """
    own = _own_detector(source)
    if own is not None:
        return _load_own(net, own, classes=classes)
    depth = net.spec.depth if net.spec.depth in (50, 101) else None
    opened = open_source(source, depth=depth)
    if opened.weight_standardization:
        raise ValueError(f"init={source} has standardized kernels, which the body of a detector has not; take others.")
    state, notes = _body_tensors(opened)
    if net.spec.kind == "c4":
        state = {re.sub(r"^backbone\.body\.layer4\.", "roi_heads.box_head.res5.", name): t for name, t in state.items()}
    if opened.format.name == "Detectron":
        state |= _detectron_tensors(opened.tensors)
    whole = any(name.startswith("rpn.") for name in state)
    if whole:
        notes.append("the file does not name its classes: they are taken to be those of the data, in the order of ids")
    prefix = "backbone.body."
    notes += _fit(net, state, source=source, needed=lambda name: whole or _is_body(name, prefix))
    mean, std = opened.mean, opened.std
    normalize = Normalize() if mean is None or std is None else Normalize(mean=mean, std=std)
    return Loaded(len(state), opened.name, tuple(notes), normalize)


def _own_detector(source: str) -> Path | None:
    """Return the file where it is a checkpoint of task=detect."""
    path = Path(source).expanduser()
    if not path.is_file() or path.suffix not in (".ckpt", ".pt"):
        return None
    try:
        return path if read_checkpoint(path).description.net_name in DETECTORS else None
    except ValueError:
        return None  # other weights; open_source reads them or says what is wrong


def _load_own(net: Detector, path: Path, *, classes: Sequence[str]) -> Loaded:
    checkpoint = read_checkpoint(path)
    about = checkpoint.description
    state = dict(checkpoint.net)
    if tuple(classes) != about.classes:
        state = {name: value for name, value in state.items() if not name.startswith(_PREDICTORS)}
    notes = _fit(net, state, source=str(path), needed=lambda name: True)
    mean: Channels = (about.mean[0], about.mean[1], about.mean[2])
    return Loaded(len(state), "vidgn", tuple(notes), Normalize(mean=mean, std=about.std))


def _fit(net: Detector, state: dict[str, Tensor], *, source: str, needed: Callable[[str], bool]) -> list[str]:
    """Load tensors that all fit; return notes.

    Raises:
        ValueError: one does not, or one that is needed is missing.
    """
    own = net.state_dict()
    notes = []
    surplus = [name for name in state if name not in own and name.endswith(_STATISTICS)]
    if any(name.endswith("running_mean") for name in surplus):
        notes.append("the statistics of batch norm are left out: the net's norms keep none")
    for name in surplus:
        del state[name]
    for name in [name for name in state if name.startswith(_PREDICTORS)]:
        if name in own and own[name].shape != state[name].shape:
            notes.append(f"{name} is new: it has other classes")
            del state[name]
    if not net.spec.masks:
        state_of_masks = [name for name in state if name.startswith("roi_heads.mask_")]
        for name in state_of_masks:
            del state[name]
    fresh = [name for name in own if name not in state and not name.startswith(_PREDICTORS) and needed(name)]
    fresh = [name for name in fresh if not name.endswith("num_batches_tracked")]
    wrong = [
        *(f"{name} is no tensor of the net" for name in state if name not in own),
        *(
            f"{name} is {tuple(state[name].shape)}, the net has {tuple(own[name].shape)}"
            for name in state
            if name in own and own[name].shape != state[name].shape
        ),
        *(f"{name} is missing" for name in fresh),
    ]
    if wrong:
        hint = " (model.backbone_norm=frozen_bn needs batch-norm weights)" if fresh and "running" in fresh[0] else ""
        raise ValueError(
            f"init={source} does not fit the net in {len(wrong)} tensors{hint}: {'; '.join(wrong[:6])}"
            f"{'; ...' if len(wrong) > 6 else ''}. Choose model and norms as the weights have them."
        )
    net.load_state_dict({**own, **state})
    return notes


def _is_body(name: str, prefix: str) -> bool:
    return name.startswith((prefix, "roi_heads.box_head.res5."))


def _body_tensors(opened: Source) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors of a ResNet under the names of the detector, its first kernel for the pixels we have."""
    state: dict[str, Tensor] = {}
    for name, value in opened.tensors.items():
        try:
            ours = rename(name, opened.format.table)
        except KeyError:
            continue  # of the heads; a detector's tensors are looked for by name, and a missing one is an error
        target = None if ours is None else _body_name(ours)
        if target is None or not isinstance(value, Tensor):
            continue
        if opened.format.hwio and value.dim() == 4:
            value = value.permute(3, 2, 0, 1).contiguous()
        if value.dim() == 5 and value.shape[2] == 1:
            value = value[:, :, 0]
        state[target] = value
    first = "backbone.body.conv1.weight"
    if first not in state or opened.format.pixels is None:
        return state, []
    state[first], done = convert_input(state[first], opened.format.pixels)
    return state, [done] if done else []


_STAGE = {"1": 1, "3": 2, "4": 3, "5": 4}  # block of an I3D to layer of torchvision
_RENAMES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"blocks\.0\.conv\.weight", lambda m: "conv1.weight"),
    (r"blocks\.0\.norm\.(.+)", lambda m: f"bn1.{m[1]}"),
    (
        r"blocks\.([1345])\.res_blocks\.(\d+)\.branch2\.conv_([abc])\.weight",
        lambda m: f"layer{_STAGE[m[1]]}.{m[2]}.conv{'abc'.index(m[3]) + 1}.weight",
    ),
    (
        r"blocks\.([1345])\.res_blocks\.(\d+)\.branch2\.norm_([abc])\.(.+)",
        lambda m: f"layer{_STAGE[m[1]]}.{m[2]}.bn{'abc'.index(m[3]) + 1}.{m[4]}",
    ),
    (
        r"blocks\.([1345])\.res_blocks\.(\d+)\.branch1_conv\.weight",
        lambda m: f"layer{_STAGE[m[1]]}.{m[2]}.downsample.0.weight",
    ),
    (
        r"blocks\.([1345])\.res_blocks\.(\d+)\.branch1_norm\.(.+)",
        lambda m: f"layer{_STAGE[m[1]]}.{m[2]}.downsample.1.{m[3]}",
    ),
)


def _body_name(name: str) -> str | None:
    """Return the name in a detector's body of a tensor of an I3D; None for the classifier.

    >>> _body_name("blocks.3.res_blocks.0.branch2.conv_b.weight")
    'backbone.body.layer2.0.conv2.weight'
    """
    for pattern, build in _RENAMES:
        match = re.fullmatch(pattern, name)
        if match is not None:
            return f"backbone.body.{build(match)}"
    return None


_AFFINE = {"w": "weight", "b": "bias", "gn_s": "weight", "gn_b": "bias"}
_MAP = {"2": 0, "3": 1, "4": 2, "5": 3}  # stage of the body to level of the pyramid


def _detectron_tensors(tensors: Mapping[str, object]) -> dict[str, Tensor]:
    """Return what a model_final.pkl of Detectron has beyond the body, under the names of the detector."""
    state = {}
    for name, value in tensors.items():
        target = _detectron_name(name)
        if target is not None and isinstance(value, Tensor):
            state[target] = value
    return state


def _detectron_name(name: str) -> str | None:
    """Translate a blob of Detectron (lib/modeling/FPN.py, fast_rcnn_heads.py, mask_rcnn_heads.py); None: no part.

    >>> _detectron_name("fpn_inner_res4_5_sum_lateral_gn_s")
    'backbone.fpn.inner_blocks.2.1.weight'
    >>> _detectron_name("head_conv2_w")
    'roi_heads.box_head.1.0.weight'
    """
    for pattern, build in _DETECTRON:
        match = re.fullmatch(pattern, name)
        if match is not None:
            return build(match)
    return None


def _slot(kind: str) -> str:
    """Return convolution (0) or norm (1) of a block, and its vector."""
    return f"{int(kind.startswith('gn'))}.{_AFFINE[kind]}"


_KIND = r"(w|b|gn_s|gn_b)"
_DETECTRON: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (rf"fpn_inner_res([2-5])_\d+_sum(?:_lateral)?_{_KIND}",
     lambda m: f"backbone.fpn.inner_blocks.{_MAP[m[1]]}.{_slot(m[2])}"),
    (rf"fpn_res([2-5])_\d+_sum_{_KIND}", lambda m: f"backbone.fpn.layer_blocks.{_MAP[m[1]]}.{_slot(m[2])}"),
    (r"conv_rpn_fpn2_(w|b)", lambda m: f"rpn.head.conv.0.0.{_AFFINE[m[1]]}"),
    (r"rpn_cls_logits_fpn2_(w|b)", lambda m: f"rpn.head.cls_logits.{_AFFINE[m[1]]}"),
    (r"rpn_bbox_pred_fpn2_(w|b)", lambda m: f"rpn.head.bbox_pred.{_AFFINE[m[1]]}"),
    (rf"head_conv([1-4])_{_KIND}", lambda m: f"roi_heads.box_head.{int(m[1]) - 1}.{_slot(m[2])}"),
    (r"fc6_(w|b)", lambda m: f"roi_heads.box_head.5.{_AFFINE[m[1]]}"),
    (r"cls_score_(w|b)", lambda m: f"roi_heads.box_predictor.cls_score.{_AFFINE[m[1]]}"),
    (r"bbox_pred_(w|b)", lambda m: f"roi_heads.box_predictor.bbox_pred.{_AFFINE[m[1]]}"),
    (rf"_\[mask\]_fcn([1-4])_{_KIND}", lambda m: f"roi_heads.mask_head.{int(m[1]) - 1}.{_slot(m[2])}"),
    (r"conv5_mask_(w|b)", lambda m: f"roi_heads.mask_predictor.conv5_mask.{_AFFINE[m[1]]}"),
    (r"mask_fcn_logits_(w|b)", lambda m: f"roi_heads.mask_predictor.mask_fcn_logits.{_AFFINE[m[1]]}"),
)  # fmt: skip
