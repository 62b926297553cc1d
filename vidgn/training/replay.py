"""Run one training step again from its dump: `vidgn replay DUMP`."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidgn.checkpoints.checkpoint import read_checkpoint, read_state
from vidgn.classifier import step_seed
from vidgn.evaluation.restore import restore
from vidgn.models.drop_path import add_drop_path
from vidgn.objective.losses import loss_from_plain


class Replay(NamedTuple):
    """What a step gave again: the loss, and the parameters whose gradient is not finite.

    `without_teacher`: the step imitated a net (`distill`), whose part of the loss is left out here.
    """

    loss: float
    recorded: float
    bad_gradients: tuple[str, ...]
    first_bad_layer: str | None
    without_teacher: bool = False


def replay(dump: str | Path) -> Replay:
    """Run the forward and backward of the step that `nonfinite-step*.pt` holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no dump of a step.
    """
    checkpoint = read_checkpoint(dump, must_be_finite=False)
    step = read_state(dump).get("replay")
    if not isinstance(step, dict):
        raise ValueError(f"{dump} is a checkpoint without a step to replay; give a file nonfinite-step*.pt")
    classifier = restore(checkpoint)
    _drop_paths(classifier.net, step.get("drop_path"))
    classifier.train()
    bad_layers: list[str] = []
    for name, module in classifier.net.named_modules():
        if not list(module.children()):
            module.register_forward_hook(
                lambda _, __, out, name=name: None if bool(torch.isfinite(out).all()) else bad_layers.append(name)
            )
    torch.manual_seed(step_seed(step["seed"], epoch=checkpoint.epoch, batch=step["batch"], rank=step["rank"]))
    logits = classifier(step["clips"].flatten(0, 1))
    loss = _loss_of(step)(logits, _targets_of(step))
    loss.backward()  # type: ignore[no-untyped-call]
    bad = tuple(
        name
        for name, parameter in classifier.net.named_parameters()
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all())
    )
    layer = bad_layers[0] if bad_layers else None
    return Replay(float(loss.detach()), float(step["loss"]), bad, layer, bool(step.get("teacher", False)))


def _drop_paths(net: nn.Module, dropped: Mapping[str, Any] | None) -> None:
    """Give a net the drop path of the step with its draws; dumps of older versions do not have them."""
    if dropped is not None:
        for path, draws in zip(add_drop_path(net, dropped["rate"]), dropped["draws"], strict=True):
            path.draws = draws


def _loss_of(step: Mapping[str, Any]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of the run; dumps of older versions do not say it, and have the cross-entropy."""
    return loss_from_plain(step["minimized"]) if "minimized" in step else F.cross_entropy


def _targets_of(step: Mapping[str, Any]) -> Tensor:
    """Return the classes of the clips (N,), or their targets (N, Q)."""
    targets: Tensor | None = step.get("targets")
    labels: Tensor = step["labels"]
    return labels.repeat_interleave(step["clips"].shape[1]) if targets is None else targets.flatten(0, 1)


def run_replay(dump: str | Path, *, out: TextIO, as_json: bool = False) -> int:
    """Print what the step gives again; 1 if it is not finite.

    Raises:
        FileNotFoundError, ValueError: as `replay` does.
    """
    result = replay(dump)
    if as_json:
        print(json.dumps({name: _plain(value) for name, value in result._asdict().items()}, indent=1), file=out)
    else:
        print(
            f"loss {result.loss} (recorded {result.recorded}"
            f"{', with the part of distill, which is left out here' if result.without_teacher else ''})\n"
            f"first layer whose output is not finite: {result.first_bad_layer or 'none'}\n"
            f"parameters whose gradient is not finite: {', '.join(result.bad_gradients[:10]) or 'none'}"
            f"{f', and {len(result.bad_gradients) - 10} more' if len(result.bad_gradients) > 10 else ''}",
            file=out,
        )
    return int(not math.isfinite(result.loss) or bool(result.bad_gradients))


def _plain(value: object) -> object:
    """Return a number that JSON has no word for (nan, inf) as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
