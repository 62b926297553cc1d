"""The Lightning module: loss, 1-clip validation error, and the test that averages softmax over clips."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from vidgn.checkpoints.description import KEY, Description
from vidgn.norms import is_norm
from vidgn.norms.weight_standardization import describe_kernels
from vidgn.objective.distillation import Teacher
from vidgn.objective.losses import ClipLoss, HeadsLoss, right_share
from vidgn.objective.target_tensors import output_probabilities, plain_losses, right_clips
from vidgn.objective.targets import ONE, Targets
from vidgn.objective.validation import ValidationRows, gather_rows
from vidgn.optim import OptimSpec, build_optimizer, clip_adaptively
from vidgn.scores.predictions import (
    Begun,
    Prediction,
    Ranks,
    accuracies,
    distributed,
    failed_last,
    mean_loss,
    merge_predictions,
)
from vidgn.scores.scoring import Piece, ViewScorer


class TrainBatch(Protocol):
    """What training and validation steps take (`vidgn.data.dataset.ClipBatch`)."""

    clips: Tensor  # (B, K, 3, T, S, S) uint8
    labels: Tensor  # (B,) int64
    videos: Tensor  # (B,) int64
    failed: Sequence[int]  # positions of videos that could not be read, in validation


class TestBatch(Protocol):
    """What the test step takes (`vidgn.data.views.ViewBatch`)."""

    @property
    def items(self) -> Sequence[Piece]:
        """Whole videos, or pieces of long ones."""


class VideoClassifier(L.LightningModule):
    """Trains a video network on single clips and tests it on the mean softmax of many.

    Args:
        net: `net(x)` gives logits (N, Q), `net.scores(x)` the softmax averaged over positions (N, Q), for x
            (N, 3, T, S, S) float.
        normalize: takes uint8 clips to the floats the network wants, on its device.
        optim: the training recipe.
        classes: names, index = label.
        batch: clips per device and optimizer step, for the linear learning-rate rule.
        view_batch: views scored at a time in the test, across videos.
        description: of the net and the run, for its checkpoints; None: they have none.
        loss: of training; None: the mean cross-entropy.
        stages: parts of the net by name, for rates that differ by stage.
        teacher: a net to imitate in training.
        seed: of dropout: a step's random numbers are a function of (seed, epoch, batch, rank).
        targets: whether a video has one class, several, or one of each head.

    Attributes:
        num_views: of the whole test, over all ranks; None: more than `view_batch`.
        test_ranks: of test videos that have several classes, how many answers come before the right one.
        predictions: of the last test, in manifest order.
        earlier: those of a resumed test, made before it was interrupted.
        begun: what an interrupted test has scored of videos that come in several pieces.
        record: called with each prediction as soon as it is there.
        record_begun: called in each piece of a video but its first with what is scored of it.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        normalize: nn.Module,
        optim: OptimSpec,
        classes: Sequence[str],
        batch: int,
        view_batch: int = 8,
        description: Description | None = None,
        loss: ClipLoss | HeadsLoss | None = None,
        stages: Mapping[str, nn.Module] | None = None,
        teacher: Teacher | None = None,
        seed: int = 0,
        targets: Targets = ONE,
    ) -> None:
        super().__init__()
        self.net = net
        self.normalize = normalize
        self.optim = optim
        self.classes = tuple(classes)
        self.batch = batch
        self.view_batch = view_batch
        self.description = description
        self.loss = loss or ClipLoss()
        self._stages = dict(stages or {})  # a plain dict: the net holds these modules already
        self.teacher = teacher
        self.seed = seed
        self.targets = targets
        if targets.kind != "one":
            net.activate = partial(output_probabilities, targets)  # type: ignore[assignment]
        self.test_ranks: Ranks | None = None
        self._validated: list[ValidationRows] = []
        self.num_views: int | None = None
        self.predictions: list[Prediction] = []
        self.earlier: Mapping[int, Prediction] = {}
        self.begun: Mapping[int, Begun] = {}
        self.record: Callable[[Prediction], None] = lambda prediction: None
        self.record_begun: Callable[[Begun], None] = lambda begun: None
        self._counts = torch.zeros(2, dtype=torch.int64)  # right and all training clips of this epoch on this rank
        num_classes, top5 = len(self.classes), min(5, len(self.classes))
        self.val_loss = MeanMetric()
        self.accuracies = nn.ModuleDict(
            {
                f"val_clip_top{k}": MulticlassAccuracy(num_classes, top_k=top_k, average="micro")
                for k, top_k in ((1, 1), (5, top5))
            }
        )

    def forward(self, clips: Tensor) -> Tensor:
        """Return logits (N, Q) of uint8 clips (N, 3, T, S, S)."""
        logits: Tensor = self.net(self.normalize(clips))
        return logits

    def on_train_batch_start(self, batch: TrainBatch, batch_idx: int) -> None:
        """Seed the step's dropout."""
        seed = step_seed(self.seed, epoch=self.current_epoch, batch=batch_idx, rank=self.global_rank)
        torch.manual_seed(seed)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Return the mean loss over the clips, by default their cross-entropy."""
        logits, labels = self._logits(batch)
        loss: Tensor = self.loss(logits, labels)
        if self.teacher is not None and self.teacher.teaches(self.global_step):
            loss = self.teacher.mix(loss, logits, batch.clips.flatten(0, 1))
        right = right_share(logits, labels) if self.targets.kind == "one" else self._right(logits, labels)
        self._log_heads(logits, labels)
        self._counts = self._counts.to(right.device) + torch.stack([right, torch.full_like(right, len(labels))])
        self.log("train/loss", loss.detach(), prog_bar=True, on_step=True, on_epoch=False)
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the training error of the epoch in percent, over all ranks; kept in checkpoints within the epoch."""
        right, count = self._all_counts().tolist()
        self._counts = torch.zeros_like(self._counts)
        if count:
            self.log("train/error", 100 * (1 - right / count))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip each filter's gradient by the filter's own norm where `optim.agc` asks for it, but the classifier's."""
        if self.optim.agc is not None:
            trained = (value for name, value in self.net.named_parameters() if ".proj." not in f".{name}")
            clip_adaptively(trained, self.optim.agc)

    def validation_step(self, batch: TrainBatch, batch_idx: int) -> None:
        """Measure the 1-clip error of Figure 7: random clips, each by itself, nothing averaged; unreadable is wrong."""
        logits, labels = self._logits(batch)
        if self.targets.kind != "one":
            self._validate_sets(logits, labels, batch)
            return
        num_clips = batch.clips.shape[1]
        failed = [num_clips * video + clip for video in batch.failed for clip in range(num_clips)]
        loss, count = mean_loss(logits, labels, failed)
        # Lightning's own mean cuts the videos per rank to a whole number: wrong where ranks have unequal shares.
        self.val_loss.update(loss.detach(), weight=count)
        self.log("val/failed", float(len(batch.failed)), sync_dist=True, reduce_fx="sum")
        self._accuracy("val_clip", failed_last(logits, labels, failed), labels)

    def on_validation_epoch_end(self) -> None:
        """Log the error in percent."""
        self.log("val/loss", self.val_loss.compute())
        self.val_loss.reset()
        if self.targets.kind != "one":
            self._log_sets()
            return
        top1, top5 = self._compute("val_clip")
        self.log("val/error", 100 - top1, prog_bar=True)
        self.log("val/top1", top1)
        self.log("val/top5", top5)

    def scorer(self, num_views: int | None = None) -> ViewScorer:
        """Return what scores views, `view_batch` at a time, or all at once where the whole test has fewer."""
        group = self.view_batch if num_views is None else min(self.view_batch, max(1, num_views))
        return ViewScorer(
            lambda clips: self.net.scores(self.normalize(clips)),  # type: ignore[operator]
            group=group,
            begun=self.begun,
            record=self.record_begun,
            ranks=self.test_ranks,
        )

    def on_test_epoch_start(self) -> None:
        """Forget the predictions of an earlier test."""
        self.predictions = []
        self._scorer = self.scorer(self.num_views)

    def test_step(self, batch: TestBatch, batch_idx: int) -> None:
        """Score every view of every video once and average the softmax over the views; see `vidgn.scores.scoring`."""
        self._keep(self._scorer.add(batch.items))

    def on_test_epoch_end(self) -> None:
        """Score what is left, put the predictions into manifest order and log the accuracies.

        Of several ranks see `vidgn.scores.predictions.gather_predictions`.
        """
        cut_short = self.trainer.fast_dev_run or self.trainer.limit_test_batches != 1.0  # type: ignore[attr-defined]
        with self.trainer.precision_plugin.test_step_context():
            self._keep(self._scorer.finish_early() if cut_short else self._scorer.finish())
        self.predictions = merge_predictions([self.predictions])
        if not distributed():
            all_videos = [*self.earlier.values(), *self.predictions]
            for name, value in accuracies(all_videos, ranks=self.test_ranks).items():
                self.log(f"test/{name}", value)

    def configure_optimizers(self) -> Any:
        """Build the optimizer and its schedule for the length of this run."""
        optimizer, schedule = build_optimizer(
            self.net,
            self.optim,
            clips_per_step=self.batch * self.trainer.world_size * self.trainer.accumulate_grad_batches,
            total_steps=int(self.trainer.estimated_stepping_batches),
            is_norm=is_norm,
            stages=self._stages,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the checkpoint describe itself under the key `vidgn`, and keep the training error so far."""
        if self.description is not None:
            model = describe_kernels(self.description.model, self.net)
            checkpoint[KEY] = dataclasses.replace(self.description, model=model).to_plain()
        checkpoint["train_counts"] = self._all_counts().tolist()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue counting the training error; the first rank counts for all."""
        if self._trainer is not None and self.global_rank == 0:
            self._counts = torch.tensor(checkpoint.get("train_counts", [0, 0]))  # int64, float32 of mixed clips

    def _keep(self, predictions: Iterable[Prediction]) -> None:
        for prediction in predictions:
            self.record(prediction)
            self.predictions.append(prediction)

    def _logits(self, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        num_clips = batch.clips.shape[1]
        logits = self(batch.clips.flatten(0, 1))  # (B*K, Q)
        targets = getattr(batch, "targets", None)  # (B, K, Q), of clips that are mixed
        return logits, batch.labels.repeat_interleave(num_clips) if targets is None else targets.flatten(0, 1)

    def _right(self, logits: Tensor, targets: Tensor) -> Tensor:
        return right_clips(self.targets, logits.detach(), targets).sum()

    def _log_heads(self, logits: Tensor, targets: Tensor) -> None:
        if isinstance(self.loss, HeadsLoss):
            parts = self.loss.parts(logits.detach(), targets)
            for (name, _), part in zip(self.targets.heads, parts, strict=True):
                self.log(f"train/loss_{name}", part, on_step=True, on_epoch=False)

    def _validate_sets(self, logits: Tensor, dense: Tensor, batch: TrainBatch) -> None:
        rows = ValidationRows.of(self.targets, logits, dense, videos=batch.videos, failed=batch.failed)
        self._validated.append(rows)
        losses, count = plain_losses(self.targets, logits, dense), len(dense) - len(batch.failed)
        losses[list(batch.failed)] = 0
        self.val_loss.update(losses.sum() / max(1, count), weight=count)
        self.log("val/failed", float(len(batch.failed)), sync_dist=True, reduce_fx="sum")

    def _log_sets(self) -> None:
        """Log the figures of all validation videos, those of all ranks together."""
        rows, self._validated = gather_rows(self._validated), []
        for name, value in rows.figures(self.targets).items():
            self.log(f"val/{name}", value, prog_bar=name == "error")

    def _accuracy(self, name: str, scores: Tensor, labels: Tensor) -> None:
        for k in (1, 5):
            cast("MulticlassAccuracy", self.accuracies[f"{name}_top{k}"]).update(scores, labels)

    def _compute(self, name: str) -> tuple[float, float]:
        """Return (top-1, top-5) in percent over all ranks, and start again."""
        metrics = [cast("MulticlassAccuracy", self.accuracies[f"{name}_top{k}"]) for k in (1, 5)]
        top1, top5 = (100 * float(metric.compute()) for metric in metrics)
        for metric in metrics:
            metric.reset()
        return top1, top5

    def _all_counts(self) -> Tensor:
        counts = self._counts.clone()
        if distributed():
            counts = counts.to(self.device)
            torch.distributed.all_reduce(counts)
        return counts


def step_seed(seed: int, *, epoch: int, batch: int, rank: int) -> int:
    """Return the seed of a training step: a function of its place, so that a resumed run draws the same.

    >>> step_seed(0, epoch=1, batch=2, rank=0) == step_seed(0, epoch=1, batch=2, rank=0)
    True
    """
    return int(np.random.SeedSequence([seed, epoch, batch, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))
