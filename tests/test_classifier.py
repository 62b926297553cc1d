from types import SimpleNamespace

import lightning as L
import pytest
import torch
from torch import nn

from vidgn.checkpoints.description import Description
from vidgn.classifier import VideoClassifier, step_seed
from vidgn.optim import OptimSpec
from vidgn.scores.predictions import Prediction, merge_predictions


class Constant(nn.Module):
    """Scores that say the first pixel of the clip is the class."""

    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return 8 * nn.functional.one_hot(x[:, 0, 0, 0, 0].long(), self.num_classes).float() * self.weight

    def scores(self, x):
        return self(x).softmax(-1)


class Video:
    """A test video whose views are constant clips."""

    first_view = 0

    def __init__(self, video, label, pixels, error):
        self.video, self.label, self.error, self.pixels = video, label, error, pixels
        self.num_views = self.total_views = len(pixels)

    def views(self):
        for pixel in self.pixels:
            yield torch.full((3, 8, 4, 4), pixel, dtype=torch.uint8)


class Views:
    """A test batch."""

    def __init__(self, videos, labels, pixels, errors):
        self.items = [Video(*facts) for facts in zip(videos, labels, pixels, errors, strict=True)]

    def to(self, device):
        return self


def classifier(num_classes=6, **kwargs):
    return VideoClassifier(
        Constant(num_classes),
        normalize=nn.Identity(),
        optim=OptimSpec(),
        classes=[f"class {k}" for k in range(num_classes)],
        batch=2,
        **kwargs,
    )


def trainer(tmp_path):
    return L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, default_root_dir=tmp_path, use_distributed_sampler=False,
    )  # fmt: skip


def run_test(tmp_path, module, batches):
    loader = torch.utils.data.DataLoader(batches, batch_size=None)
    return trainer(tmp_path).test(module, loader, verbose=False)[0]


@pytest.mark.slow
@pytest.mark.parametrize("view_batch", [1, 2, 7])
def test_the_scores_of_a_video_are_the_mean_softmax_of_its_views(tmp_path, view_batch):
    module = classifier(view_batch=view_batch)
    run_test(tmp_path, module, [Views([4, 2], [1, 0], [[1, 1, 0], [3, 3, 3]], [None, None])])
    first, second = module.predictions
    assert (first.video, second.video) == (2, 4)  # manifest order
    high, low = 2.718281828**8, 1.0
    total = high + 5 * low
    assert second.scores == pytest.approx(
        [(high + 2 * low) / total / 3, (2 * high + low) / total / 3] + [low / total] * 4, rel=1e-5
    )
    assert first.scores[3] == pytest.approx(high / total, rel=1e-6)


@pytest.mark.slow
def test_clip_and_video_accuracy_differ_where_clips_disagree(tmp_path):
    # Video 0: two of three clips right, so the video is; video 1: one of three, so it is not.
    module = classifier()
    metrics = run_test(tmp_path, module, [Views([0, 1], [1, 2], [[1, 1, 0], [2, 3, 3]], [None, None])])
    assert metrics["test/video_top1"] == pytest.approx(50)
    assert metrics["test/clip_top1"] == pytest.approx(50)
    metrics = run_test(tmp_path, module, [Views([0, 1], [1, 2], [[1, 1, 0], [2, 3, 2]], [None, None])])
    assert metrics["test/video_top1"] == pytest.approx(100)
    assert metrics["test/clip_top1"] == pytest.approx(100 * 4 / 6)


@pytest.mark.slow
def test_a_video_that_cannot_be_read_counts_as_wrong(tmp_path):
    module = classifier()
    batch = Views([0, 1, 2, 3], [1, 2, 3, 4], [[1, 1], [], [3, 3], [0, 0]], [None, "b.mp4: empty file", None, None])
    metrics = run_test(tmp_path, module, [batch])
    assert metrics["test/video_top1"] == pytest.approx(50)  # 2 of 4, not 2 of 3
    assert metrics["test/clip_top1"] == pytest.approx(50)
    assert module.predictions[1] == Prediction(1, 2, None, "b.mp4: empty file")


@pytest.mark.slow
def test_nothing_readable_is_zero_percent_and_no_crash(tmp_path):
    metrics = run_test(tmp_path, classifier(), [Views([0], [1], [[]], ["a.mp4: empty file"])])
    assert metrics["test/video_top1"] == 0
    assert metrics["test/video_top5"] == 0


@pytest.mark.slow
def test_top_5_of_three_classes_is_top_3(tmp_path):
    metrics = run_test(tmp_path, classifier(3), [Views([0], [1], [[2]], [None])])
    assert (metrics["test/video_top1"], metrics["test/video_top5"]) == (0, 100)


@pytest.mark.slow
def test_scores_that_are_no_numbers_are_an_error_and_not_a_result(tmp_path):
    module = classifier()
    module.net.weight.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="the scores of video 3 of the manifest are not finite"):
        run_test(tmp_path, module, [Views([3], [1], [[1, 1]], [None])])


def test_a_step_has_its_own_random_numbers():
    seeds = {step_seed(s, epoch=e, batch=b, rank=r) for s in (0, 1) for e in (0, 1) for b in (0, 1) for r in (0, 1)}
    assert len(seeds) == 16


@pytest.mark.slow
def test_a_video_scored_twice_is_an_error():
    twice = [[Prediction(0, 1, (1.0,), None)], [Prediction(0, 1, (1.0,), None), Prediction(1, 1, (1.0,), None)]]
    with pytest.raises(RuntimeError, match=r"videos \[0\] of the manifest were scored more than once"):
        merge_predictions(twice)


@pytest.mark.slow
def test_the_predictions_of_all_ranks_come_in_manifest_order():
    parts = [[Prediction(0, 0, None, "x"), Prediction(2, 0, None, "x")], [Prediction(1, 0, None, "x")]]
    assert [prediction.video for prediction in merge_predictions(parts)] == [0, 1, 2]


def test_a_checkpoint_describes_itself():
    checkpoint = {}
    described = Description(("a", "b"), model={"name": "i3d_r50"}, norm={"name": "gn"}, clip_len=8, span=16, crop=32)
    classifier(description=described).on_save_checkpoint(checkpoint)
    assert checkpoint == {"vidgn": described.to_plain(), "train_counts": [0, 0]}


def test_the_loss_is_the_mean_cross_entropy_over_all_clips():
    module = classifier()
    module.log = lambda *args, **kwargs: None
    clips = torch.stack([torch.full((2, 3, 8, 4, 4), pixel, dtype=torch.uint8) for pixel in (1, 3)])  # (B,K,...)
    loss = module.training_step(SimpleNamespace(clips=clips, labels=torch.tensor([1, 0])), 0)
    total = 2.718281828**8 + 5
    right, wrong = torch.tensor(2.718281828**8 / total).log(), torch.tensor(1 / total).log()
    assert float(loss.detach()) == pytest.approx(float(-(right + wrong) / 2), rel=1e-5)


@pytest.mark.slow
def test_a_test_of_a_few_steps_may_end_within_a_video(tmp_path):
    first, second = Views([0], [1], [[1]], [None]), Views([1], [1], [[1, 1]], [None])
    second.items[0].total_views = 4
    loader = torch.utils.data.DataLoader([first, second, second], batch_size=None)
    module = classifier()
    limited = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False, limit_test_batches=2,
        enable_model_summary=False, default_root_dir=tmp_path, use_distributed_sampler=False,
    )  # fmt: skip
    limited.test(module, loader, verbose=False)
    assert [prediction.video for prediction in module.predictions] == [0]


def test_soft_labels_reach_the_loss_and_the_training_error():
    module = classifier()
    module.log = lambda *args, **kwargs: None
    clips = torch.stack([torch.full((1, 3, 8, 4, 4), pixel, dtype=torch.uint8) for pixel in (1, 3)])
    targets = torch.zeros(2, 1, 6)
    targets[0, 0, 1], targets[0, 0, 2], targets[1, 0, 0] = 0.75, 0.25, 1.0
    batch = SimpleNamespace(clips=clips, labels=torch.tensor([1, 0]), targets=targets)
    loss = module.training_step(batch, 0)
    total = 2.718281828**8 + 5
    right, wrong = torch.tensor(2.718281828**8 / total).log(), torch.tensor(1 / total).log()
    assert float(loss.detach()) == pytest.approx(float(-(0.75 * right + 0.25 * wrong + wrong) / 2), rel=1e-5)
    checkpoint = {}
    module.on_save_checkpoint(checkpoint)
    assert checkpoint["train_counts"] == [0.75, 2.0]


@pytest.mark.slow
def test_clips_of_a_validation_count_by_themselves_and_unreadable_videos_as_wrong(tmp_path):
    """Two clips each of three videos of class 1: right, half right, unreadable (though its empty pixels say 1)."""
    pixels = torch.tensor([[1, 1], [1, 2], [1, 1]], dtype=torch.uint8)
    clips = pixels[:, :, None, None, None, None].expand(3, 2, 3, 8, 4, 4)
    batch = SimpleNamespace(clips=clips, labels=torch.ones(3, dtype=torch.long), failed=[2])
    loader = torch.utils.data.DataLoader([batch], batch_size=None)
    (result,) = trainer(tmp_path).validate(classifier(3), loader, verbose=False)
    assert result["val/error"] == pytest.approx(50.0)
    wrong = 8 + torch.log(1 + 2 * torch.exp(torch.tensor(-8.0)))  # cross-entropy of logits 0, 0, 8
    assert result["val/loss"] == pytest.approx(float(wrong) / 4, rel=1e-2)
    assert result["val/failed"] == 1
