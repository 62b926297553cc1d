"""Load published weights into a net: by name, all or nothing.

open -> rename -> inflate -> fit the classifier -> compare -> load
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from vidgn.models.net import VideoNet
from vidgn.models.stages import NAMES as STAGE_NAMES
from vidgn.models.stages import stages
from vidgn.models.weights.formats import Channels, convert_input, rename
from vidgn.models.weights.inflate import inflate
from vidgn.models.weights.sources import Source, kinetics400, open_source
from vidgn.norms.weight_standardization import (
    find_standardization,
    is_standardized,
    normalized_convolutions,
    standardize,
)


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did.

    `loaded` counts tensors. `input_mean` and `input_std` are the source's normalization of RGB pixels, as
    fractions of 1, None where a checkpoint does not say.
    """

    loaded: int
    replaced_head: bool
    source_format: str
    notes: tuple[str, ...]
    input_mean: Channels | None
    input_std: Channels | None


def load_weights(
    net: nn.Module, source: str | Path, *, classes: Sequence[str] | None = None, fresh: Sequence[str] = ()
) -> LoadReport:
    """Start a net from published weights; only its classifier, and stages that are named, may be left as they were.

    Kernels of picture nets are inflated, and a first convolution that was trained on other pixels than RGB
    of known mean and std is converted, with a note. The classifier is loaded where source and net name
    the same classes, its rows put in the net's order; with `classes` None, where their numbers agree; from
    ImageNet never. Published video nets of 400 classes have those of Kinetics-400. Of batch-norm weights a net whose
    norm keeps no statistics takes kernels, weight and bias; a note says what is lost.

    Args:
        net: as `build_model` or `build_i3d` makes it; changed in place, and only if everything fits.
        source: `torchvision` (ResNet-50 or 101 by the net's depth) or `timm` (`resnet50_gn`), downloaded by
            these packages, or the path of a file of any format of `vidgn.models.weights.formats`, of a checkpoint of
            vidgn among them.
        classes: names of the net's classes, in its order.
        fresh: stages (`stem`, `res2` to `res5`, `head`) that keep the weights they have, whether the source has them
            or not.

    Raises:
        FileNotFoundError: `source` does not exist.
        ModuleNotFoundError: timm is not installed.
        ConnectionError: the weights cannot be downloaded.
        ValueError: not a weights file, or its tensors do not fit; lists every one that does not. Or the net has no
            such stage.
    """
    own = net.state_dict()
    head = [name for name in own if re.fullmatch(r"blocks\.\d+\.proj\.(weight|bias)", name)]
    outputs = len(own[head[1]])
    if classes is not None and len(classes) != outputs:
        raise ValueError(
            f"classes has {len(classes)} names and the net has {outputs} outputs; give one name per output."
        )
    kept = fresh_tensors(net, fresh)
    opened = open_source(source, depth=_depth(own))
    state, unexpected = rename_tensors(opened, own)
    state = {name: tensor for name, tensor in state.items() if name not in kept}
    unexpected = [name for name in unexpected if name not in kept]
    notes = (
        _drop_statistics(state, own, source=source)
        + _note_fresh(fresh)
        + _note_groups(net, opened)
        + _match_kernels(net, state, opened)
        + _convert(state, opened)
        + _inflate(state, own, pictures=opened.format.pictures)
    )
    reason, head_notes = _fit_head(state, head, opened, outputs=outputs, classes=classes)
    if reason is not None:
        head_notes = [f"the classifier is new: {reason}"]
        state = {name: tensor for name, tensor in state.items() if name not in head}
    _fit_statistics(state, own)
    attention, attention_notes = _fresh_nonlocal(state, own)
    optional = [*kept, *attention, *(head if reason is not None else [])]
    _check_names_and_shapes(state, own, unexpected=unexpected, optional=optional, source=source)
    net.load_state_dict(dict(own) | state)
    return LoadReport(
        len(state), reason is not None, opened.name, (*notes, *attention_notes, *head_notes), opened.mean, opened.std
    )


def _depth(own: Mapping[str, Tensor]) -> int | None:
    """Count the layers of a ResNet by the blocks of its res4; None for another net."""
    blocks = {(int(match[1]), match[2]) for name in own if (match := re.match(_RES_BLOCK, name))}
    stages = sorted({stage for stage, _ in blocks})
    if len(stages) != 4:
        return None
    return {6: 50, 23: 101}.get(sum(stage == stages[2] for stage, _ in blocks))


def rename_tensors(opened: Source, own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors under vidgn's names, and the names of entries that are not tensors of a net."""
    shifted = _lacks_pool2(own) and (not opened.format.any_model or _is_trunk_with_pool2(opened))
    state: dict[str, Tensor] = {}
    unexpected = []
    for name, value in opened.tensors.items():
        try:
            renamed = rename(name, opened.format.table)
        except KeyError:
            unexpected.append(name)
            continue
        if renamed is None:
            continue
        if isinstance(value, Tensor):
            state[_without_pool2(renamed) if shifted else renamed] = value
        else:
            unexpected.append(f"{name} (a {type(value).__name__})")
    return state, unexpected


def _lacks_pool2(own: Mapping[str, Tensor]) -> bool:
    return any(name.startswith("blocks.2.res_blocks.") for name in own)


def _is_trunk_with_pool2(opened: Source) -> bool:
    """Tell whether these are 2-D weights of vidgn's own c2d, whose names count pool2."""
    return opened.format.pictures and any(name.startswith("net.blocks.5.res_blocks.") for name in opened.tensors)


def _without_pool2(name: str) -> str:
    """Name a tensor in a net whose block 2 is res3: one without the pool behind res2."""
    _, block, rest = name.split(".", 2)
    return f"blocks.{int(block) - (int(block) > 2)}.{rest}"


def _convert(state: dict[str, Tensor], opened: Source) -> list[str]:
    """Bring kernels into torch's layout and the first one to our pixels."""
    if opened.format.hwio:
        for name, tensor in state.items():
            if tensor.dim() in (2, 4):
                state[name] = tensor.permute(3, 2, 0, 1) if tensor.dim() == 4 else tensor.t()
    if opened.format.pixels is None or _FIRST not in state or state[_FIRST].dim() < 4:
        return []
    state[_FIRST], note = convert_input(state[_FIRST], opened.format.pixels)
    return [note] if note else []


def fresh_tensors(net: nn.Module, names: Sequence[str]) -> frozenset[str]:
    """Return the names of the tensors of some stages.

    Raises:
        ValueError: a stage is unknown.
    """
    unknown = [name for name in names if name not in STAGE_NAMES]
    if unknown:
        raise ValueError(
            f"init_fresh ({', '.join(unknown)}) must be some of {', '.join(STAGE_NAMES)}, as in init_fresh=[res5]."
        )
    parts = stages(cast("VideoNet", net)) if names else {}
    modules = {id(parts[name]) for name in names}
    prefixes = tuple(f"{name}." for name, module in net.named_modules() if id(module) in modules)
    return frozenset(name for name in net.state_dict() if name.startswith(prefixes)) if prefixes else frozenset()


def _note_fresh(stages: Sequence[str]) -> list[str]:
    return [f"{', '.join(stages)}: fresh weights, as init_fresh asks"] if stages else []


def _drop_statistics(state: dict[str, Tensor], own: Mapping[str, Tensor], *, source: str | Path) -> list[str]:
    """Leave batch-norm statistics out where the net's norm keeps none, and return a note.

    Raises:
        ValueError: the net's norm needs statistics that the source does not have.
    """
    theirs, ours = (any(name.endswith("running_mean") for name in names) for names in (state, own))
    if ours and not theirs:
        raise ValueError(
            f"{source} has no batch-norm statistics (running_mean) and the net's norm needs them;"
            " use norm=gn, or BN weights such as init=torchvision."
        )
    if ours or not theirs:
        return []
    for name in [name for name in state if name.endswith(_STATISTICS)]:
        del state[name]
    return [
        "the batch-norm statistics are lost: kernels, weight and bias are copied, and the net gives other outputs than"
        " the batch-norm net until it is trained; vidgn convert-weights fits them on clips and keeps far more"
    ]


def _note_groups(net: nn.Module, opened: Source) -> list[str]:
    ours = {module.num_groups for module in net.modules() if isinstance(module, nn.GroupNorm)}
    if not ours or opened.format.num_groups is None or ours == {opened.format.num_groups}:
        return []
    groups = ", ".join(str(number) for number in sorted(ours))
    return [f"the weights were trained with {opened.format.num_groups} groups, the net's norms have {groups}"]


def _match_kernels(net: nn.Module, state: dict[str, Tensor], opened: Source) -> list[str]:
    """Make standardized kernels plain for a net that does not standardize; say where it does and theirs were plain."""
    how = find_standardization(opened.weight_standardization)
    if is_standardized(net):
        return [] if how is not None else ["the net standardizes its kernels, which the source's were not"]
    if how is None:
        return []
    for name in normalized_convolutions(net):
        key = f"{name}.weight"
        if key in state:
            state[key] = standardize(state[key], how)
    return ["the source's standardized kernels were loaded as plain ones"]


def _inflate(state: dict[str, Tensor], own: Mapping[str, Tensor], *, pictures: bool) -> list[str]:
    deep = 0
    for name, tensor in state.items():
        if name not in own or own[name].dim() != 5:
            continue
        flat = tensor.squeeze(2) if pictures and tensor.dim() == 5 and tensor.shape[2] == 1 else tensor
        if flat.dim() == 4:
            kernel_t = own[name].shape[2]
            state[name] = inflate(flat, kernel_t)
            deep += kernel_t > 1
    return [f"2-D kernels inflated, {deep} of them to more than one frame"] if deep else []


def _fit_head(
    state: dict[str, Tensor],
    head: Sequence[str],
    opened: Source,
    *,
    outputs: int,
    classes: Sequence[str] | None,
) -> tuple[str | None, list[str]]:
    """Put the classifier's rows into the net's order, or say why they cannot be used."""
    if opened.format.pictures and opened.classes is None:
        return "the source's classes are ImageNet's", []
    if not all(name in state for name in head):
        return "the source has none", []
    source_classes = len(state[head[1]])
    if source_classes != outputs:
        return f"the source has {source_classes} classes and the net {outputs}", []
    if classes is None:
        return None, []
    named = opened.classes or (kinetics400() if opened.format.kinetics and source_classes == 400 else None)
    if named is None:
        return "the source does not name its classes", []
    spell = _spell if opened.classes is None else str
    theirs, ours = ([spell(name) for name in names] for names in (named, classes))
    if sorted(theirs) != sorted(ours):
        return "the source has other classes", []
    if theirs == ours:
        return None, []
    order = [theirs.index(name) for name in ours]
    state.update({name: state[name][order] for name in head})
    return None, ["the classifier's rows were put into the order of the net's classes"]


def _spell(name: str) -> str:
    return name.replace("_", " ").casefold()  # folders of Kinetics are named in both ways


def _fresh_nonlocal(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Return the tensors of non-local blocks where the source has no such block, and a note."""
    names = [name for name in own if ".nonlocal_blocks." in name]
    if not names or any(".nonlocal_blocks." in name for name in state):
        return [], []
    return names, ["the non-local blocks are new: the source has none; they start as their inputs"]


def _fit_statistics(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Give every part of a sub_bn the plain statistics; leave counters out where the net has none.

    Files older than `num_batches_tracked` lack it, and frozen norms do without.
    """
    for name in list(state):
        if name.endswith(_COUNTER) and name not in own:
            del state[name]
        elif _is_split(own.get(name), state[name]):
            state[name] = state[name].expand_as(own[name])


def _is_split(own: Tensor | None, plain: Tensor) -> bool:
    return own is not None and own.dim() == 2 and own.shape[1:] == plain.shape  # (S, C) for (C,)


def _check_names_and_shapes(
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    *,
    unexpected: Sequence[str],
    optional: Sequence[str],
    source: str | Path,
) -> None:
    missing = [name for name in own if not (name in state or name in optional or name.endswith(_COUNTER))]
    unexpected = [*unexpected, *(name for name in state if name not in own)]
    misshaped = [
        f"{name} {tuple(tensor.shape)} for {tuple(own[name].shape)}"
        for name, tensor in state.items()
        if name in own and tensor.shape != own[name].shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshaped}
    misfits = "; ".join(f"{len(names)} {kind}: {', '.join(names)}" for kind, names in kinds.items() if names)
    if misfits:
        raise ValueError(
            f"{source} does not fit the net ({misfits}); use weights of this net's norm, depth and width, or"
            " set norm, model and model.width to those of the weights."
        )


_COUNTER = "num_batches_tracked"
_STATISTICS = ("running_mean", "running_var", _COUNTER)
_FIRST = "blocks.0.conv.weight"
_RES_BLOCK = r"blocks\.(\d+)\.res_blocks\.(\d+)\."
