import doctest

import numpy as np
import pytest
import torch
from torch import nn

from vidgn.classifier import VideoClassifier
from vidgn.data.batches import ClipBatch
from vidgn.objective import distillation
from vidgn.objective.distillation import DistillSpec, Teacher, class_order, imitation_loss
from vidgn.optim import OptimSpec


class Net(nn.Module):
    """Logits from the mean colour."""

    def __init__(self, classes, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.proj = nn.Linear(3, classes)

    def forward(self, clips):
        return self.proj(clips.float().mean((2, 3, 4)) / 255)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    clips = torch.randint(0, 256, (4, 1, 3, 2, 8, 8), dtype=torch.uint8)
    return ClipBatch(clips, torch.tensor([0, 1, 1, 0]), torch.arange(4))


def loss_of(batch, spec, *, step=0, order=(0, 1)):
    teacher = Teacher(Net(3, seed=2), nn.Identity(), order=order, spec=spec)
    classifier = VideoClassifier(
        Net(2, seed=1), normalize=nn.Identity(), optim=OptimSpec(), classes=["a", "b"], batch=4, teacher=teacher
    )
    classifier.log = lambda *args, **options: None
    VideoClassifier.global_step = property(lambda self: step)
    try:
        return classifier, classifier.training_step(batch, 0)
    finally:
        del VideoClassifier.global_step


def expected(batch, *, temperature, order=(0, 1)):
    """The divergence and the cross-entropy in float64 by numpy."""
    clips = batch.clips.flatten(0, 1)
    with torch.no_grad():
        ours = Net(2, seed=1)(clips).double().numpy()
        theirs = Net(3, seed=2)(clips).double().numpy()[:, list(order)]

    def log_softmax(values):
        return values - np.log(np.exp(values).sum(1, keepdims=True))

    z, t = log_softmax(ours / temperature), log_softmax(theirs / temperature)
    labels = -log_softmax(ours)[np.arange(4), batch.labels.numpy()].mean()
    return temperature**2 * (np.exp(t) * (t - z)).sum(1).mean(), labels


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 1.0), (2.0, 0.5), (4.0, 0.25)])
def test_the_loss_is_that_of_the_paper(batch, temperature, weight):
    _, loss = loss_of(batch, DistillSpec("t.ckpt", temperature=temperature, weight=weight))
    divergence, labels = expected(batch, temperature=temperature)
    assert loss.item() == pytest.approx((1 - weight) * labels + weight * divergence, rel=1e-5)


def test_the_teachers_classes_are_put_into_the_order_of_the_run(batch):
    _, loss = loss_of(batch, DistillSpec("t.ckpt", weight=1.0), order=(2, 0))
    assert loss.item() == pytest.approx(expected(batch, temperature=1.0, order=(2, 0))[0], rel=1e-5)
    assert class_order(["b", "c"], ["c", "a", "b"]) == [2, 0]
    with pytest.raises(ValueError, match=r"does not know 1 of 2 classes \(d\); give the checkpoint of a net"):
        class_order(["b", "d"], ["c", "a", "b"])


def test_after_its_steps_the_labels_alone_are_learned(batch):
    spec = DistillSpec("t.ckpt", steps=3, weight=1.0)
    divergence, labels = expected(batch, temperature=1.0)
    assert loss_of(batch, spec, step=2)[1].item() == pytest.approx(divergence, rel=1e-5)
    assert loss_of(batch, spec, step=3)[1].item() == pytest.approx(labels, rel=1e-5)


def test_the_teacher_learns_nothing_and_is_in_no_checkpoint(batch):
    classifier, loss = loss_of(batch, DistillSpec("t.ckpt"))
    loss.backward()
    assert classifier.net.proj.weight.grad.abs().sum() > 0
    assert set(classifier.state_dict()) == {"net.proj.weight", "net.proj.bias"}
    teacher = classifier.teacher._net
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_equal_logits_cost_nothing():
    logits = torch.randn(3, 5)
    assert float(imitation_loss(logits, logits, temperature=3.0)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, r"distill.steps \(0\) must be 1 or more, or null"),
        ({"temperature": 0.0}, r"distill.temperature \(0.0\) must be a positive number"),
        ({"weight": 0.0}, r"distill.weight \(0.0\) must be in \(0, 1\]"),
        ({"weight": 1.5}, r"distill.weight \(1.5\) must be in \(0, 1\]"),
    ],
)
def test_values_out_of_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DistillSpec("t.ckpt", **options)


def test_the_example_in_the_docstring_runs():
    assert doctest.testmod(distillation) == (0, 2)
