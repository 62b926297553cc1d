"""Several classes per video, and one class of each of several heads: probabilities, ranks and average precision."""

import importlib.util
import itertools

import numpy as np
import pytest
import torch
from torchmetrics.classification import MultilabelAveragePrecision

from vidgn.objective import validation
from vidgn.objective.losses import HeadsLoss, LossSpec
from vidgn.objective.target_tensors import (
    answer_ranks,
    best_combinations,
    dense_targets,
    output_probabilities,
    plain_losses,
)
from vidgn.objective.targets import Targets
from vidgn.objective.validation import ValidationRows, gather_rows
from vidgn.scores.statistics import FAILED, RankedScores

HEADS = Targets("heads", (("verb", 3), ("noun", 7), ("tool", 2)))
MANY = Targets("many")


def drawn(rows=40, classes=6, seed=0):
    """Scores with ties, and classes of which the last has no video."""
    generator = np.random.default_rng(seed)
    scores = np.round(generator.random((rows, classes)), 1)
    positive = generator.random((rows, classes)) < 0.3
    positive[:, -1] = False
    return scores, positive


def precision_of(scores, positive):
    """The definition, row by row, in float64."""
    total, value = positive.sum(), 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        called = scores >= threshold
        value += (positive & (scores == threshold)).sum() / total * positive[called].mean()
    return value


def test_average_precision_is_that_of_its_definition_of_torchmetrics_and_of_scikit_learn():
    scores, positive = drawn()
    values = RankedScores(scores, positive).by_class()
    assert np.isnan(values[-1])
    metric = MultilabelAveragePrecision(num_labels=5, average=None)  # it warns of a class without videos
    others = metric(torch.from_numpy(scores[:, :5]), torch.from_numpy(positive[:, :5].astype(np.int64)))
    for column in range(5):
        assert values[column] == pytest.approx(precision_of(scores[:, column], positive[:, column]), abs=1e-12)
        assert values[column] == pytest.approx(float(others[column]), abs=1e-5)
        if importlib.util.find_spec("sklearn") is not None:
            from sklearn.metrics import average_precision_score

            assert values[column] == pytest.approx(average_precision_score(positive[:, column], scores[:, column]))
    assert RankedScores(scores, positive).mean() == pytest.approx(100 * values[:-1].mean())


def test_weights_count_a_video_several_times():
    scores, positive = drawn(seed=3)
    counts = np.random.default_rng(1).integers(0, 3, len(scores))
    again = RankedScores(np.repeat(scores, counts, 0), np.repeat(positive, counts, 0)).mean()
    assert RankedScores(scores, positive).mean(counts.astype(np.float64)) == pytest.approx(again, abs=1e-9)


def test_the_best_combinations_are_those_of_all_products():
    scores = output_probabilities(HEADS, torch.randn(9, 12, generator=torch.Generator().manual_seed(0)).double())
    classes, products = best_combinations(HEADS, scores)
    for row in range(9):
        choices = itertools.product(*(range(part.start, part.stop) for part in HEADS.slices))
        ordered = sorted(choices, key=lambda choice: -float(scores[row, list(choice)].prod()))
        assert classes[row].tolist() == [list(choice) for choice in ordered[:5]]
        torch.testing.assert_close(products[row, 0], scores[row, list(ordered[0])].prod())
        dense = dense_targets(torch.tensor([ordered[2], ordered[9]]), num_classes=12)
        assert answer_ranks(HEADS, scores[[row, row]], dense).tolist() == [2, 5]


def test_the_rank_of_several_classes_is_that_of_the_best_of_them():
    scores = torch.tensor([[0.1, 0.9, 0.5], [0.1, 0.9, 0.5], [0.3, 0.2, 0.1]])
    dense = dense_targets(torch.tensor([[0, 2], [0, -1], [-1, -1]]), num_classes=3)
    assert answer_ranks(MANY, scores, dense).tolist() == [1, 2, 3]  # the last video has no class


def test_each_head_has_a_softmax_and_a_loss_of_its_own():
    logits = torch.randn(4, 12, generator=torch.Generator().manual_seed(1))
    sums = [output_probabilities(HEADS, logits)[:, part].sum(1) for part in HEADS.slices]
    torch.testing.assert_close(torch.stack(sums), torch.ones(3, 4))
    labels = torch.tensor([[0, 3, 10], [1, 4, 11], [2, 9, 10], [0, 5, 11]])
    dense = dense_targets(labels, num_classes=12)
    offsets = torch.tensor([part.start for part in HEADS.slices])
    wanted = [
        torch.nn.functional.cross_entropy(logits[:, part], labels[:, head] - offsets[head])
        for head, part in enumerate(HEADS.slices)
    ]
    loss = HeadsLoss(LossSpec(), heads=HEADS.slices)
    torch.testing.assert_close(torch.stack(loss.parts(logits, dense)), torch.stack(wanted))
    torch.testing.assert_close(loss(logits, dense), torch.stack(wanted).mean())
    torch.testing.assert_close(plain_losses(HEADS, logits, dense).mean(), torch.stack(wanted).mean())


@pytest.mark.parametrize("targets", [MANY, HEADS], ids=["many", "heads"])
def test_validation_figures_do_not_depend_on_batches_and_ranks(targets, monkeypatch):
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(10, 12, generator=generator)
    columns = [torch.randint(part.start, part.stop, (10,), generator=generator) for part in HEADS.slices]
    dense = dense_targets(torch.stack(columns, 1), num_classes=12)

    def rows(videos, failed=()):
        index = torch.tensor(videos)
        return ValidationRows.of(targets, logits[index], dense[index], videos=index, failed=failed)

    whole = gather_rows([rows(list(range(10)), failed=[4])]).figures(targets)
    ranks = [[rows([9, 0, 3]), rows([4], failed=[0])], [rows([2, 1]), rows([8, 5, 6, 7])]]

    def gather(found, own):
        found[:] = ranks

    monkeypatch.setattr(validation, "distributed", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    assert gather_rows(ranks[0]).figures(targets) == whole
    assert whole["error"] == 100 - whole["map" if targets is MANY else "top1"]


def test_a_video_that_cannot_be_read_comes_last_in_every_class():
    dense = dense_targets(torch.tensor([[0], [0]]), num_classes=2)
    rows = ValidationRows.of(MANY, torch.tensor([[-9.0, 0.0], [9.0, 0.0]]), dense, videos=torch.arange(2), failed=[1])
    assert rows.scores[1].tolist() == [FAILED, FAILED]
    assert rows.figures(MANY)["map"] == 100.0  # of two positives the first comes first, the failed one second
    assert rows.figures(MANY)["top1"] == 0.0
