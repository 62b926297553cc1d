"""Load published weights into a net: by name, all or nothing.

open -> rename -> inflate -> fit the classifier -> compare -> load
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from vidgn.models.formats import HEAD, Channels, rename
from vidgn.models.inflate import inflate
from vidgn.models.sources import Source, open_source


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


def load_weights(net: nn.Module, source: str | Path, *, classes: Sequence[str] | None = None) -> LoadReport:
    """Start a net from published weights; only its classifier may be left as it was.

    2-D kernels are inflated. The classifier is loaded where source and net name the same classes, its rows
    put in the net's order; with `classes` None, where their numbers agree; from ImageNet never.

    Args:
        net: as `build_i3d` makes it; changed in place, and only if everything fits.
        source: `torchvision` (ResNet-50 or 101 by the net's depth) or `timm` (`resnet50_gn`), downloaded by
            these packages, or the path of a torch file: a state dict in torchvision's, timm's or
            pytorchvideo's names, flat or under `state_dict` or `model_state`, or a checkpoint of vidgn.
        classes: names of the net's classes, in its order.

    Raises:
        FileNotFoundError: `source` is no file.
        ModuleNotFoundError: timm is not installed.
        ConnectionError: the weights cannot be downloaded.
        ValueError: not a weights file, or its tensors do not fit; lists every one that does not.
    """
    own = net.state_dict()
    if classes is not None and len(classes) != len(own[HEAD + "bias"]):
        raise ValueError(
            f"classes has {len(classes)} names and the net has {len(own[HEAD + 'bias'])} outputs;"
            " give one name per output."
        )
    opened = open_source(source, depth=_depth(own))
    state, unexpected = _rename(opened)
    _check_statistics(state, own, source=source)
    notes = _note_groups(net, opened) + _inflate(state, own)
    replaced_head, head_notes = _fit_head(state, own, opened, classes=classes)
    _fit_statistics(state, own)
    _check_names_and_shapes(state, own, unexpected=unexpected, replaced_head=replaced_head, source=source)
    net.load_state_dict(dict(own) | state)
    return LoadReport(len(state), replaced_head, opened.name, (*notes, *head_notes), opened.mean, opened.std)


def _depth(own: Mapping[str, Tensor]) -> int:
    blocks = {name.split(".")[3] for name in own if name.startswith("blocks.4.res_blocks.")}
    return {6: 50, 23: 101}[len(blocks)]


def _rename(opened: Source) -> tuple[dict[str, Tensor], list[str]]:
    state: dict[str, Tensor] = {}
    unexpected = []
    for name, tensor in opened.tensors.items():
        try:
            renamed = rename(name, opened.format.tables)
        except KeyError:
            unexpected.append(name)
            continue
        if renamed is not None:
            state[renamed] = tensor
    return state, unexpected


def _check_statistics(state: Mapping[str, Tensor], own: Mapping[str, Tensor], *, source: str | Path) -> None:
    theirs, ours = (any(name.endswith("running_mean") for name in names) for names in (state, own))
    if theirs and not ours:
        raise ValueError(
            f"{source} has batch-norm weights (running_mean) and the net's norm keeps no statistics;"
            " use norm=bn, or GN weights such as init=timm."
        )
    if ours and not theirs:
        raise ValueError(
            f"{source} has no batch-norm statistics (running_mean) and the net's norm needs them;"
            " use norm=gn, or BN weights such as init=torchvision."
        )


def _note_groups(net: nn.Module, opened: Source) -> list[str]:
    ours = {module.num_groups for module in net.modules() if isinstance(module, nn.GroupNorm)}
    if not ours or opened.format.num_groups is None or ours == {opened.format.num_groups}:
        return []
    groups = ", ".join(str(number) for number in sorted(ours))
    return [f"the weights were trained with {opened.format.num_groups} groups, the net's norms have {groups}"]


def _inflate(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    deep = 0
    for name, tensor in state.items():
        if name in own and tensor.dim() == 4 and own[name].dim() == 5:
            kernel_t = own[name].shape[2]
            state[name] = inflate(tensor, kernel_t)
            deep += kernel_t > 1
    return [f"2-D kernels inflated, {deep} of them to more than one frame"] if deep else []


def _fit_head(
    state: dict[str, Tensor], own: Mapping[str, Tensor], opened: Source, *, classes: Sequence[str] | None
) -> tuple[bool, list[str]]:
    """Put the classifier's rows into the net's order, or take the classifier out of `state`."""
    head = [name for name in own if name.startswith(HEAD)]
    reason = _why_anew(head, state, own, opened, classes=classes)
    if reason is not None:
        for name in head:
            state.pop(name, None)
        return True, [f"the classifier starts anew: {reason}"]
    if classes is None or opened.classes is None or tuple(classes) == opened.classes:
        return False, []
    order = [opened.classes.index(name) for name in classes]
    state.update({name: state[name][order] for name in head})
    return False, ["the classifier's rows were put into the order of the net's classes"]


def _why_anew(
    head: Sequence[str],
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    opened: Source,
    *,
    classes: Sequence[str] | None,
) -> str | None:
    if opened.format.pictures:
        return "the source's classes are ImageNet's"
    if not all(name in state for name in head):
        return "the source has none"
    theirs, ours = (len(names[HEAD + "bias"]) for names in (state, own))
    if theirs != ours:
        return f"the source has {theirs} classes and the net {ours}"
    if classes is None:
        return None
    if opened.classes is None:
        return "the source does not name its classes"
    return None if sorted(opened.classes) == sorted(classes) else "the source has other classes"


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
    replaced_head: bool,
    source: str | Path,
) -> None:
    optional = (HEAD, _COUNTER) if replaced_head else (_COUNTER,)
    missing = [name for name in own if name not in state and not any(part in name for part in optional)]
    unexpected = [*unexpected, *(name for name in state if name not in own)]
    misshaped = [
        f"{name} {tuple(tensor.shape)} for {tuple(own[name].shape)}"
        for name, tensor in state.items()
        if name in own and tensor.shape != own[name].shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshaped}
    found = "; ".join(f"{len(names)} {kind}: {', '.join(names)}" for kind, names in kinds.items() if names)
    if found:
        raise ValueError(
            f"{source} does not fit the net ({found}); use weights of this net's norm, depth and width, or"
            " set norm, model.depth and model.width to those of the weights."
        )


_COUNTER = "num_batches_tracked"
