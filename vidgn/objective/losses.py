"""What is minimized: cross-entropy, focal loss or binary cross-entropy, of hard labels or of soft targets.

With logits z (N, Q), p = softmax z, s = sigmoid z and targets t (N, Q) that sum to one (one-hot for labels):

    cross_entropy   -sum_c t_c log p_c
    focal           -sum_c t_c (1 - p_c)^gamma log p_c                  "Focal Loss", arXiv 1708.02002, eq. 4
    bce             -mean_c (t_c log s_c + (1 - t_c) log(1 - s_c))      every class by itself

Each is weighted by class (t_c becomes w_c t_c), then averaged over the clips. Weights are not divided by their sum in
the batch, as torch divides, so that the mean over ranks is that of one process.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

LossName = Literal["cross_entropy", "focal", "bce"]


@dataclass(frozen=True)
class LossSpec:
    """A loss, as the options of the same names say it.

    Attributes:
        loss: cross_entropy, focal or bce.
        label_smoothing: share of each target that all classes get alike ("Inception-v3", arXiv 1512.00567, sec. 7).
        class_weights: `balanced` weighs class c by N / (Q N_c), as scikit-learn does; or one number per class.
        focal_gamma: how little an easy clip counts.

    Raises:
        ValueError: a value out of its range.
    """

    loss: LossName = "cross_entropy"
    label_smoothing: float = 0.0
    class_weights: Literal["balanced"] | Sequence[float] | None = None
    focal_gamma: float = 2.0

    def __post_init__(self) -> None:
        if self.loss not in get_args(LossName):
            raise ValueError(f"loss ({self.loss}) must be one of {', '.join(get_args(LossName))}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing ({self.label_smoothing}) must be in [0, 1); 0.1 is usual, 0 is none")
        if self.focal_gamma < 0 or not math.isfinite(self.focal_gamma):
            raise ValueError(f"focal_gamma ({self.focal_gamma}) must be 0 or more; the paper's is 2")
        if isinstance(self.class_weights, str) and self.class_weights != "balanced":
            raise ValueError(
                f"class_weights ({self.class_weights}) must be balanced, null, or one number per class such as [1,2,1]"
            )

    def weights(self, counts: Sequence[int] | NDArray[np.int64]) -> tuple[float, ...] | None:
        """Return the weight of each class, None where all weigh alike.

        Args:
            counts: training videos of each class, (Q,).

        Raises:
            ValueError: not one positive number per class, or a class without a video to balance by.

        >>> LossSpec(class_weights="balanced").weights([6, 2])
        (0.6666666666666666, 2.0)
        """
        if self.class_weights is None:
            return None
        if self.class_weights == "balanced":
            empty = [number for number, count in enumerate(counts) if count == 0]
            if empty:
                raise ValueError(
                    f"class_weights=balanced needs videos of every class, but class {empty[0]} has none; "
                    "give one number per class"
                )
            return tuple(float(sum(counts)) / (len(counts) * float(count)) for count in counts)
        weights = tuple(float(weight) for weight in self.class_weights)
        if len(weights) != len(counts) or any(not (weight >= 0 and math.isfinite(weight)) for weight in weights):
            raise ValueError(
                f"class_weights ({list(weights)}) must be {len(counts)} numbers of 0 or more, one per class; "
                "use balanced for weights from the counts"
            )
        return weights


class ClipLoss(nn.Module):
    """The loss of clips.

    Args:
        spec: which.
        weights: of the classes, (Q,); see `LossSpec.weights`.
    """

    class_weights: Tensor | None

    def __init__(self, spec: LossSpec | None = None, *, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.spec = spec or LossSpec()
        values = None if weights is None else torch.tensor(list(weights), dtype=torch.float32)
        self.register_buffer("class_weights", values, persistent=False)

    def to_plain(self) -> dict[str, Any]:
        """Return the loss as plain values; see `loss_from_plain`."""
        weights = None if self.class_weights is None else self.class_weights.tolist()
        return {"spec": {**asdict(self.spec), "class_weights": weights}}

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over the clips.

        Args:
            logits: (N, Q).
            targets: class indices int64 (N,), or soft targets (N, Q).
        """
        spec, weights = self.spec, self.class_weights
        if spec.loss == "cross_entropy" and weights is None:
            return F.cross_entropy(logits, targets, label_smoothing=spec.label_smoothing)
        soft = soft_targets(targets, num_classes=logits.shape[1]).to(torch.float32)
        if spec.label_smoothing:
            soft = soft * (1 - spec.label_smoothing) + spec.label_smoothing / logits.shape[1]
        if spec.loss == "bce":
            losses = F.binary_cross_entropy_with_logits(logits.float(), soft, weight=weights, reduction="none")
            return losses.mean()
        log_p = logits.float().log_softmax(1)
        losses = -soft * log_p
        if spec.loss == "focal":
            losses = losses * (1 - log_p.exp()).pow(spec.focal_gamma)
        if weights is not None:
            losses = losses * weights
        return losses.sum(1).mean()


class HeadsLoss(nn.Module):
    """The mean over several heads of the loss of each.

    Args:
        spec: of every head.
        heads: outputs of each.
    """

    def __init__(self, spec: LossSpec, *, heads: Sequence[slice]) -> None:
        super().__init__()
        self.spec = spec
        self.heads = tuple(heads)
        self.one = ClipLoss(spec)

    def parts(self, logits: Tensor, targets: Tensor) -> list[Tensor]:
        """Return the loss of each head, of logits and targets (N, Q)."""
        return [self.one(logits[:, part], targets[:, part]) for part in self.heads]

    def to_plain(self) -> dict[str, Any]:
        """Return the loss as plain values; see `loss_from_plain`."""
        return {**self.one.to_plain(), "heads": [[part.start, part.stop] for part in self.heads]}

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over heads and clips."""
        return torch.stack(self.parts(logits, targets)).mean()


def loss_from_plain(plain: Mapping[str, Any]) -> ClipLoss | HeadsLoss:
    """Return the loss whose `to_plain` gave these values.

    >>> loss_from_plain(ClipLoss(LossSpec("focal")).to_plain()).spec.loss
    'focal'
    """
    spec = LossSpec(**plain["spec"])
    if "heads" in plain:
        return HeadsLoss(spec, heads=[slice(start, stop) for start, stop in plain["heads"]])
    return ClipLoss(spec, weights=None if spec.class_weights is None else [float(w) for w in spec.class_weights])


def soft_targets(targets: Tensor, *, num_classes: int) -> Tensor:
    """Return targets (N, Q) of labels (N,); those that are soft already stay.

    >>> soft_targets(torch.tensor([2, 0]), num_classes=3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if targets.ndim == 2:
        return targets
    return F.one_hot(targets, num_classes).to(torch.float32)


def right_share(logits: Tensor, targets: Tensor) -> Tensor:
    """Return how much of the targets is on the best class of each clip, summed: a count where targets are labels.

    >>> right_share(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 1]))
    tensor(1)
    >>> right_share(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.25, 0.75]]))
    tensor(0.7500)
    """
    best = logits.detach().argmax(1)
    if targets.ndim == 1:
        return (best == targets).sum()
    return targets.gather(1, best[:, None]).sum()
