"""The Lightning module: loss, 1-clip validation error, and the test that averages softmax over clips."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, cast

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

from vidgn.norms import is_norm
from vidgn.optim import OptimSpec, build_optimizer


class TrainBatch(Protocol):
    """What training and validation steps take (`vidgn.data.dataset.ClipBatch`)."""

    clips: Tensor  # (B, K, 3, T, S, S) uint8
    labels: Tensor  # (B,) int64
    videos: Tensor  # (B,) int64


class TestBatch(Protocol):
    """What the test step takes (`vidgn.data.dataset.ViewBatch`)."""

    labels: Tensor  # (B,) int64
    videos: Tensor  # (B,) int64
    errors: Sequence[str | None]  # why a video could not be read

    def views(self, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (clips (n,3,T,S,S') uint8, position of each in the batch (n,) int64), n <= chunk."""
        ...


class Prediction(NamedTuple):
    """What the test says of one video. `scores` is None where the video could not be read."""

    video: int  # row of the manifest
    label: int
    scores: tuple[float, ...] | None  # (Q,) mean of the views' softmax
    error: str | None


class VideoClassifier(L.LightningModule):
    """Trains a video network on single clips and tests it on the mean softmax of many.

    Args:
        net: `net(x)` gives logits (N, Q), `net.scores(x)` the softmax averaged over positions (N, Q), for x
            (N, 3, T, S, S) float.
        normalize: takes uint8 clips to the floats the network wants, on its device.
        optim: the training recipe.
        classes: names, index = label.
        batch: clips per device and optimizer step, for the linear learning-rate rule.
        view_batch: views scored at a time in the test.
        describe: what a checkpoint says of itself; plain containers and primitives only.
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
        describe: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.normalize = normalize
        self.optim = optim
        self.classes = tuple(classes)
        self.batch = batch
        self.view_batch = view_batch
        self.describe = describe or {}
        self.predictions: list[Prediction] = []
        num_classes, top5 = len(self.classes), min(5, len(self.classes))
        self.accuracies = nn.ModuleDict(
            {
                f"{split}_{unit}_top{k}": MulticlassAccuracy(num_classes, top_k=top_k, average="micro")
                for split, unit in (("val", "clip"), ("test", "clip"), ("test", "video"))
                for k, top_k in ((1, 1), (5, top5))
            }
        )

    def forward(self, clips: Tensor) -> Tensor:
        """Return logits (N, Q) of uint8 clips (N, 3, T, S, S)."""
        logits: Tensor = self.net(self.normalize(clips))
        return logits

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Return the mean cross-entropy over the clips."""
        logits, labels = self._logits(batch)
        loss = F.cross_entropy(logits, labels)
        correct = (logits.detach().argmax(1) == labels).float().mean()
        self.log("train/loss", loss.detach(), prog_bar=True, on_step=True, on_epoch=False)
        self.log("train/error", 100 * (1 - correct), on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def validation_step(self, batch: TrainBatch, batch_idx: int) -> None:
        """Measure the 1-clip error of Figure 7: one random clip per video, nothing averaged."""
        logits, labels = self._logits(batch)
        self.log("val/loss", F.cross_entropy(logits, labels), sync_dist=True, batch_size=len(labels))
        self._accuracy("val_clip", logits, labels)

    def on_validation_epoch_end(self) -> None:
        """Log the error in percent."""
        top1, top5 = self._compute("val_clip")
        self.log("val/error", 100 - top1, prog_bar=True)
        self.log("val/top1", top1)
        self.log("val/top5", top5)

    def on_test_epoch_start(self) -> None:
        """Forget the predictions of an earlier test."""
        self.predictions = []

    def test_step(self, batch: TestBatch, batch_idx: int) -> None:
        """Score every view of every video of the batch once and average the softmax over the views."""
        num_videos = len(batch.labels)
        sums = torch.zeros(num_videos, len(self.classes), dtype=torch.float64)
        counts = torch.zeros(num_videos, dtype=torch.int64)
        for clips, slot in batch.views(self.view_batch):
            scores = self.net.scores(self.normalize(clips))  # type: ignore[operator]  # (n, Q)
            self._accuracy("test_clip", scores, batch.labels[slot])
            slot = slot.cpu()
            sums.index_add_(0, slot, scores.double().cpu())
            counts += torch.bincount(slot, minlength=num_videos)
        for position, error in enumerate(batch.errors):
            video, label = int(batch.videos[position]), int(batch.labels[position])
            scores = None if error else sums[position] / counts[position]
            if scores is not None:
                self._accuracy("test_video", scores[None].to(self.device), batch.labels[position, None])
            plain = None if scores is None else tuple(scores.tolist())
            self.predictions.append(Prediction(video, label, plain, error))

    def on_test_epoch_end(self) -> None:
        """Gather the predictions of all ranks, each video exactly once, and log the accuracies in percent.

        A video that could not be read counts as wrong: the accuracies are over all videos and all their views.
        """
        self.predictions = _gather(self.predictions)
        scored = sum(prediction.scores is not None for prediction in self.predictions)
        share = scored / max(1, len(self.predictions))
        for unit in ("clip", "video"):
            top1, top5 = self._compute(f"test_{unit}") if scored else (0.0, 0.0)
            self.log(f"test/{unit}_top1", share * top1, rank_zero_only=True)
            self.log(f"test/{unit}_top5", share * top5, rank_zero_only=True)

    def configure_optimizers(self) -> Any:
        """Build SGD and its schedule for the length of this run."""
        optimizer, schedule = build_optimizer(
            self.net,
            self.optim,
            clips_per_step=self.batch * self.trainer.world_size * self.trainer.accumulate_grad_batches,
            total_steps=int(self.trainer.estimated_stepping_batches),
            is_norm=is_norm,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the checkpoint describe itself under the key `vidgn`."""
        checkpoint["vidgn"] = self.describe

    def _logits(self, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        num_clips = batch.clips.shape[1]
        logits = self(batch.clips.flatten(0, 1))  # (B*K, Q)
        return logits, batch.labels.repeat_interleave(num_clips)

    def _accuracy(self, name: str, scores: Tensor, labels: Tensor) -> None:
        for k in (1, 5):
            cast("MulticlassAccuracy", self.accuracies[f"{name}_top{k}"]).update(scores, labels)

    def _compute(self, name: str) -> tuple[float, float]:
        """Return (top-1, top-5) in percent over all ranks, and start anew."""
        metrics = [cast("MulticlassAccuracy", self.accuracies[f"{name}_top{k}"]) for k in (1, 5)]
        top1, top5 = (100 * float(metric.compute()) for metric in metrics)
        for metric in metrics:
            metric.reset()
        return top1, top5


def merge_predictions(parts: Sequence[Sequence[Prediction]]) -> list[Prediction]:
    """Put the predictions of all ranks into manifest order.

    Raises:
        RuntimeError: a video was scored more than once.
    """
    together = sorted((item for part in parts for item in part), key=lambda prediction: prediction.video)
    double = [one.video for one, other in pairwise(together) if one.video == other.video]
    if double:
        raise RuntimeError(f"videos {double[:10]} of the manifest were scored more than once; please report this")
    return together


def _gather(predictions: list[Prediction]) -> list[Prediction]:
    parts = [predictions]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        parts = [[] for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather_object(parts, predictions)
    return merge_predictions(parts)
