"""What a run writes down after each epoch: the two errors of Figures 5 and 7, the percentiles of Figure 6."""

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vidgn.classifier import VideoClassifier
from vidgn.data.batches import ClipBatch

PERCENTILES = (1, 20, 80, 99)  # of Figure 6


class Curves(L.Callback):
    """Collect a row per epoch; the percentiles are of what the net's last norm is given, over fixed clips.

    Args:
        clips: the loader whose first batch the percentiles are taken over.
    """

    def __init__(self, clips: "DataLoader[ClipBatch]") -> None:
        self.rows: list[dict[str, object]] = []
        self._clips = next(iter(clips)).clips.flatten(0, 1)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the validation error and the percentiles, with the statistics of the validation."""
        assert isinstance(pl_module, VideoClassifier)
        self.rows.append(
            {
                "epoch": trainer.current_epoch + 1,
                "val_error": round(float(trainer.callback_metrics["val/error"]), 2),
                "percentiles": self._percentiles(pl_module),
            }
        )

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the training error of the epoch before, which is logged after all callbacks."""
        if self.rows:
            self.rows[-1]["train_error"] = round(float(trainer.callback_metrics["train/error"]), 2)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the training error of the last epoch."""
        self.on_train_epoch_start(trainer, pl_module)

    @torch.no_grad()
    def _percentiles(self, model: VideoClassifier) -> list[float]:
        seen: list[Tensor] = []
        hook = _last_norm(model.net).register_forward_pre_hook(lambda layer, args: seen.append(args[0]))
        try:
            model(self._clips)
        finally:
            hook.remove()
        points = torch.tensor(PERCENTILES, dtype=torch.float32) / 100
        return [round(value, 4) for value in torch.quantile(seen[0].flatten(), points).tolist()]


def _last_norm(net: nn.Module) -> nn.Module:
    """Return the last norm of res5's 3x3 convolutions' results: the counterpart of VGG's conv5_3."""
    return net.get_submodule([name for name, _ in net.named_modules() if name.endswith("branch2.norm_b")][-1])
