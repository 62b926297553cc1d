"""Learn what another net gives the same clips: its softened probabilities beside the labels.

With logits z of the net and t of its teacher, and a temperature T ("Distilling the Knowledge in a Neural Network",
arXiv 1503.02531, sec. 2):

    loss = (1 - weight) * loss of the labels + weight * T^2 * KL(softmax(t / T) || softmax(z / T))
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class DistillSpec:
    """A distillation, as the options `distill.*` say it.

    Attributes:
        ckpt: checkpoint of the teacher; None: there is none.
        steps: optimizer steps with the teacher, after which the labels alone are learned; None: all.
        temperature: divides the logits of both nets.
        weight: share of the teacher in the loss; with 1 the labels are not used.

    Raises:
        ValueError: a value out of its range.
    """

    ckpt: str | None = None
    steps: int | None = None
    temperature: float = 1.0
    weight: float = 0.5

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"distill.steps ({self.steps}) must be 1 or more, or null for the whole run.")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ValueError(f"distill.temperature ({self.temperature}) must be a positive number; 1 to 4 are usual.")
        if not 0 < self.weight <= 1:
            raise ValueError(
                f"distill.weight ({self.weight}) must be in (0, 1]; 1 leaves the labels out, without distill= there is"
                " no teacher."
            )


class Teacher:
    """A net that is imitated; no part of the module that holds it, so that no checkpoint has its weights.

    Args:
        net: gives logits (N, Q'); its parameters become constants and it stays in evaluation mode.
        normalize: takes uint8 clips to what the net wants.
        order: position in the net's classes of each class of the run.
        spec: how much it counts.
    """

    def __init__(self, net: nn.Module, normalize: nn.Module, *, order: Sequence[int], spec: DistillSpec) -> None:
        self.spec = spec
        self._net = nn.Sequential(normalize, net).requires_grad_(False).eval()
        self._order = list(order)

    def teaches(self, step: int) -> bool:
        """Tell whether the teacher counts at an optimizer step."""
        return self.spec.steps is None or step < self.spec.steps

    def mix(self, loss: Tensor, logits: Tensor, clips: Tensor) -> Tensor:
        """Return the loss of the labels mixed with that of the teacher on uint8 clips (N, 3, T, S, S)."""
        self._net.to(clips.device)
        with torch.no_grad():
            target = self._net(clips)[:, self._order]
        own = imitation_loss(logits, target, temperature=self.spec.temperature)
        return own if self.spec.weight == 1 else (1 - self.spec.weight) * loss + self.spec.weight * own


def imitation_loss(logits: Tensor, target: Tensor, *, temperature: float) -> Tensor:
    """Return T^2 KL(softmax(target / T) || softmax(logits / T)), the mean over the clips, of logits (N, Q).

    >>> logits = torch.tensor([[1.0, 2.0]])
    >>> round(abs(float(imitation_loss(logits, logits + 3, temperature=2.0))), 5)
    0.0
    """
    ours, theirs = (values.float().div(temperature).log_softmax(1) for values in (logits, target))
    return temperature**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def class_order(classes: Sequence[str], known: Sequence[str]) -> list[int]:
    """Return the position in `known`, the teacher's classes, of each class of the run.

    Raises:
        ValueError: the teacher does not know one.
    """
    positions = {name: position for position, name in enumerate(known)}
    unknown = [name for name in classes if name not in positions]
    if unknown:
        raise ValueError(
            f"distill: the teacher does not know {len(unknown)} of {len(classes)} classes ({', '.join(unknown[:5])});"
            " give the checkpoint of a net that was trained on these classes."
        )
    return [positions[name] for name in classes]
