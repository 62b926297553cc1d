import math

import pytest
import torch

from vidgn.objective.losses import ClipLoss, LossSpec, right_share

LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 0.0]])
LABELS = torch.tensor([0, 2])


def softmax(row):
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


P = [softmax(row) for row in LOGITS.tolist()]


def test_the_default_is_torchs_cross_entropy_to_the_bit():
    assert torch.equal(ClipLoss()(LOGITS, LABELS), torch.nn.functional.cross_entropy(LOGITS, LABELS))


def test_label_smoothing_gives_all_classes_a_share():
    smooth = [[0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3], [0.1 / 3, 0.1 / 3, 0.9 + 0.1 / 3]]
    pairs = [(t, p) for row, ps in zip(smooth, P, strict=True) for t, p in zip(row, ps, strict=True)]
    expected = -sum(t * math.log(p) for t, p in pairs) / 2
    loss = ClipLoss(LossSpec(label_smoothing=0.1))
    assert float(loss(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-6)
    weighted = ClipLoss(LossSpec(label_smoothing=0.1), weights=(1, 1, 1))
    assert float(weighted(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-6)


def test_soft_targets_are_weighed_by_their_shares():
    targets = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.5, 0.5]])
    expected = -(0.25 * math.log(P[0][0]) + 0.75 * math.log(P[0][1]) + 0.5 * math.log(P[1][1] * P[1][2])) / 2
    assert float(ClipLoss()(LOGITS, targets)) == pytest.approx(expected, rel=1e-6)


def test_class_weights_weigh_clips_and_are_not_divided_by_their_sum():
    loss = ClipLoss(LossSpec(class_weights=[3, 1, 0.5]), weights=(3, 1, 0.5))
    expected = -(3 * math.log(P[0][0]) + 0.5 * math.log(P[1][2])) / 2
    assert float(loss(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-6)
    parts = [float(loss(LOGITS[i : i + 1], LABELS[i : i + 1])) for i in (0, 1)]
    assert sum(parts) / 2 == pytest.approx(expected, rel=1e-6)  # two ranks of one clip


def test_focal_loss_counts_sure_clips_less():
    expected = -((1 - P[0][0]) ** 2 * math.log(P[0][0]) + (1 - P[1][2]) ** 2 * math.log(P[1][2])) / 2
    assert float(ClipLoss(LossSpec(loss="focal"))(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-6)
    plain = ClipLoss(LossSpec(loss="focal", focal_gamma=0))(LOGITS, LABELS)
    assert float(plain) == pytest.approx(float(ClipLoss()(LOGITS, LABELS)), rel=1e-6)


def test_bce_asks_every_class_by_itself():
    right = torch.tensor([[1.0, 0, 0], [0, 0, 1]])
    sigmoid = 1 / (1 + (-LOGITS).exp())
    expected = -(right * sigmoid.log() + (1 - right) * (1 - sigmoid).log()).mean()
    assert float(ClipLoss(LossSpec(loss="bce"))(LOGITS, LABELS)) == pytest.approx(float(expected), rel=1e-6)


def test_balanced_weights_give_every_class_the_same_sum():
    weights = LossSpec(class_weights="balanced").weights([6, 3, 1])
    assert weights == pytest.approx((10 / 18, 10 / 9, 10 / 3))  # N / (Q N_c), as scikit-learn's "balanced"


def test_soft_targets_count_by_the_share_of_the_best_class():
    assert right_share(LOGITS, LABELS).item() == 1
    assert right_share(LOGITS, torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.5, 0.5]])).item() == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, r"loss \(hinge\) must be one of cross_entropy, focal, bce"),
        ({"label_smoothing": 1.0}, r"label_smoothing \(1.0\) must be in \[0, 1\)"),
        ({"focal_gamma": -1.0}, r"focal_gamma \(-1.0\) must be 0 or more"),
        ({"class_weights": "balance"}, r"class_weights \(balance\) must be balanced, null, or one number"),
    ],
)
def test_a_wrong_value_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        LossSpec(**options)


@pytest.mark.parametrize(
    ("weights", "counts", "message"),
    [
        ([1, 2], [3, 3, 3], r"class_weights \(\[1.0, 2.0\]\) must be 3 numbers"),
        ([1, -2], [3, 3], r"class_weights \(\[1.0, -2.0\]\) must be 2 numbers of 0 or more"),
        ("balanced", [3, 0], r"class_weights=balanced needs videos of every class, but class 1 has none"),
    ],
)
def test_weights_that_do_not_fit_the_classes_are_refused(weights, counts, message):
    with pytest.raises(ValueError, match=message):
        LossSpec(class_weights=weights).weights(counts)
