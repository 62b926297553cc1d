import pytest
import torch
from torch.nn import functional as F

from vidgn.evaluation.linear import Features, fit_logistic, logistic, nearest


def blobs(count, *, seed, spread=0.3):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.tensor([[3.0, 0, 0], [0, 3, 0], [0, 0, 3]], dtype=torch.float64)
    labels = torch.arange(count) % 3
    noise = torch.randn(count, 3, dtype=torch.float64, generator=generator)
    return Features(centres[labels] + spread * noise, labels)


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_the_fit_is_the_minimum(strength):
    data = blobs(30, seed=0, spread=2.0)
    weight, bias = fit_logistic(data.features, data.labels, strength=strength, num_classes=3)
    # At the minimum the gradient is 0: mean over videos of (p - y) x^T + W / (C N) = 0, and of (p - y) = 0.
    error = (data.features @ weight.T + bias).softmax(1) - F.one_hot(data.labels, 3)
    assert (error.T @ data.features / 30 + weight / (strength * 30)).abs().max() < 1e-6
    assert error.mean(0).abs().max() < 1e-6
    assert weight.abs().max() > 0.05


def test_separate_classes_are_told_apart_by_both():
    train, val, test = (blobs(count, seed=seed) for count, seed in ((30, 0), (12, 1), (15, 2)))
    for classify in (nearest, logistic):
        chosen = classify(train, val, test.features, num_classes=3)
        assert chosen.val == 100.0
        assert torch.equal(chosen.best, test.labels)


def test_a_single_neighbour_is_the_one_of_largest_cosine():
    train = Features(torch.tensor([[1.0, 0.0], [0.0, 5.0]], dtype=torch.float64), torch.tensor([1, 0]))
    val = Features(torch.tensor([[9.0, 1.0]], dtype=torch.float64), torch.tensor([1]))
    chosen = nearest(train, val, torch.tensor([[0.1, 0.2], [2.0, 1.0]], dtype=torch.float64), num_classes=2)
    assert chosen.value == 1
    assert chosen.best.tolist() == [0, 1]


def test_the_number_is_chosen_on_the_validation_videos():
    train, test = blobs(60, seed=0, spread=2.5), blobs(9, seed=1)
    train.labels[::4] = (train.labels[::4] + 1) % 3  # wrong labels: one neighbour is not enough
    chosen = nearest(train, blobs(60, seed=2, spread=1.0), test.features, num_classes=3)
    assert chosen.value in (5, 20)
