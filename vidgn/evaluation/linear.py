"""Classifiers of fixed features: nearest neighbours and logistic regression, fitted in seconds.

k-NN        the k training features of largest cosine vote with exp(cosine / 0.07)  ("Unsupervised Feature Learning
via Non-Parametric Instance Discrimination", arXiv 1805.01978, sec. 3.4)
logistic    min over W, b of  mean cross-entropy + |W|^2 / (2 C N),  features scaled to mean 0 and deviation 1
(scikit-learn's LogisticRegression, divided by C N)
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

NEIGHBOURS = (1, 5, 20)
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)  # C
_TEMPERATURE = 0.07


class Features(NamedTuple):
    """Features (N, D) float64 and labels (N,) int64 of the videos of a split."""

    features: Tensor
    labels: Tensor


class Chosen(NamedTuple):
    """A classifier whose one number was chosen on the validation videos.

    Attributes:
        value: k, or C.
        val: top-1 in percent on the validation videos.
        best: the best classes of the test videos, (N,).
    """

    value: float
    val: float
    best: Tensor


def nearest(train: Features, val: Features, test: Tensor, *, num_classes: int) -> Chosen:
    """Classify by neighbours, with the k of `NEIGHBOURS` that is best on the validation videos."""
    choices = [k for k in NEIGHBOURS if k <= len(train.labels)]
    votes = {k: _vote(train, val.features, k, num_classes=num_classes) for k in choices}
    k = _best(choices, [_top1(votes[k], val.labels) for k in choices])
    return Chosen(k, _top1(votes[int(k)], val.labels), _vote(train, test, int(k), num_classes=num_classes))


def logistic(train: Features, val: Features, test: Tensor, *, num_classes: int) -> Chosen:
    """Classify by logistic regression, with the C of `STRENGTHS` that is best on the validation videos."""
    mean, std = train.features.mean(0), train.features.std(0, correction=0).clamp_min(1e-12)
    scaled = [(features - mean) / std for features in (train.features, val.features, test)]
    fits = {c: fit_logistic(scaled[0], train.labels, strength=c, num_classes=num_classes) for c in STRENGTHS}
    scores = [_top1(_classify(scaled[1], fits[c]), val.labels) for c in STRENGTHS]
    c = _best(STRENGTHS, scores)
    return Chosen(c, scores[STRENGTHS.index(c)], _classify(scaled[2], fits[c]))


def fit_logistic(features: Tensor, labels: Tensor, *, strength: float, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return W (Q, D) and b (Q,) of the minimum, found by L-BFGS from zero."""
    weight = torch.zeros(num_classes, features.shape[1], dtype=features.dtype, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=features.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=200, tolerance_grad=1e-8, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(features @ weight.T + bias, labels)
        value = value + weight.square().sum() / (2 * strength * len(labels))
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def _vote(train: Features, queries: Tensor, k: int, *, num_classes: int) -> Tensor:
    cosines = F.normalize(queries, dim=1) @ F.normalize(train.features, dim=1).T
    near, index = cosines.topk(k, dim=1)
    votes = torch.zeros(len(queries), num_classes, dtype=queries.dtype)
    return votes.scatter_add_(1, train.labels[index], (near / _TEMPERATURE).exp()).argmax(1)


def _classify(features: Tensor, fit: tuple[Tensor, Tensor]) -> Tensor:
    weight, bias = fit
    return (features @ weight.T + bias).argmax(1)


def _top1(best: Tensor, labels: Tensor) -> float:
    return 100 * float((best == labels).double().mean())


def _best(choices: Sequence[float], scores: Sequence[float]) -> float:
    """Return the choice with the highest score, the first of several."""
    return choices[max(range(len(choices)), key=lambda number: (scores[number], -number))]
