"""The Lightning module: Detectron's losses in training, COCO's metric in validation and test."""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from vidgn.checkpoints.description import KEY, Description
from vidgn.classifier import step_seed
from vidgn.data.transforms import Normalize
from vidgn.detection.data.batches import ImageBatch
from vidgn.detection.detect import detect_images, normalize_images, sides_of
from vidgn.detection.metric import Record, average_precision, gather_records, pack_record
from vidgn.detection.network import Detector
from vidgn.detection.optim import DetectorOptim, build_detector_optimizer


class DetectionModule(L.LightningModule):
    """Trains a detector and scores it.

    Args:
        net: the detector.
        normalize: takes uint8 images to the floats it wants.
        optim: the recipe.
        batch: images per device and step.
        description: of net and run, for the checkpoints.
        seed: of the sampled boxes: a function of (seed, epoch, batch, rank).

    Attributes:
        records: of the last test, of all ranks, in the order of the images.
    """

    def __init__(
        self,
        net: Detector,
        *,
        normalize: Normalize,
        optim: DetectorOptim,
        batch: int,
        description: Description | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.net = net
        self.normalize = normalize
        self.optim = optim
        self.batch = batch
        self.description = description
        self.seed = seed
        self.records: list[Record] = []
        self._mine: list[Record] = []

    def on_train_batch_start(self, batch: ImageBatch, batch_idx: int) -> None:
        """Seed the sampling of boxes."""
        torch.manual_seed(step_seed(self.seed, epoch=self.current_epoch, batch=batch_idx, rank=self.global_rank))

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Return the sum of the losses."""
        losses: dict[str, Tensor] = self.net(normalize_images(self.normalize, batch.images), batch.targets)
        loss = torch.stack(list(losses.values())).sum()
        self.log("train/loss", loss.detach(), prog_bar=True, on_step=True, on_epoch=False, batch_size=self.batch)
        for name, value in losses.items():
            self.log(f"train/{name}", value.detach(), on_step=True, on_epoch=False, batch_size=self.batch)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the records of an earlier validation."""
        self._mine = []

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Detect."""
        self._keep(batch)

    def on_validation_epoch_end(self) -> None:
        """Log AP, the same number on all ranks."""
        for name, value in self._score(gather_records(self._mine)).items():
            self.log(f"val/{name}", value, prog_bar=name == "box_ap")

    def on_test_epoch_start(self) -> None:
        """Forget the records of an earlier test."""
        self._mine = []

    def test_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Detect."""
        self._keep(batch)

    def on_test_epoch_end(self) -> None:
        """Gather the records of all ranks."""
        self.records = gather_records(self._mine)

    def configure_optimizers(self) -> Any:
        """Build the optimizer and its schedule."""
        images = self.batch * self.trainer.world_size * self.trainer.accumulate_grad_batches
        optimizer, schedule = build_detector_optimizer(self.net, self.optim, images=images)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the checkpoint describe itself."""
        if self.description is not None:
            checkpoint[KEY] = self.description.to_plain()

    def _keep(self, batch: ImageBatch) -> None:
        detections = detect_images(self.net, self.normalize, batch.images, sides=sides_of(batch.originals))
        for row, one, item in zip(batch.videos.tolist(), detections, batch.originals, strict=True):
            self._mine.append(pack_record(row, one, item))

    def _score(self, records: list[Record]) -> dict[str, float]:
        return average_precision(records, masks=self.net.spec.masks)
