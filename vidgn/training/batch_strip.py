"""A training batch as the net sees it: one film strip per clip, with its label."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vidgn.data.batches import ClipBatch
from vidgn.files.outputs import replacing

STRIP = "batch.png"  # of a run folder
FRAMES = 8  # of each clip, evenly spread
_LINE = 16  # px


def draw_batch(batch: ClipBatch, classes: Sequence[str], *, clips: int = 16) -> Image.Image:
    """Draw the first clips of a batch below each other; mixed clips have both labels with their shares."""
    pixels = batch.clips.flatten(0, 1).cpu()[:clips]  # (N,3,T,S,S)
    num_clips = batch.clips.shape[1]
    rows = []
    for number, clip in enumerate(pixels):
        rows.append((_label(batch, classes, number // num_clips, number % num_clips), _strip(clip)))
    height, width = rows[0][1].shape[:2]
    page = Image.new("RGB", (width, len(rows) * (height + _LINE)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(_LINE - 4)
    for number, (text, strip) in enumerate(rows):
        top = number * (height + _LINE)
        draw.text((2, top), text, fill="black", font=font)
        page.paste(Image.fromarray(strip.numpy()), (0, top + _LINE))
    return page


class BatchStrip(L.Callback):
    """Draw the first batch of a run into its folder, once.

    Args:
        folder: of the run.
        classes: names, index = label.
    """

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        self._path = folder / STRIP
        self._classes = tuple(classes)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Draw where it was not drawn before."""
        if batch_idx == 0 and trainer.is_global_zero and not self._path.exists():
            with replacing(self._path) as part:
                draw_batch(batch, self._classes).save(part, format="PNG")


def _strip(clip: Tensor) -> Tensor:
    """Return frames of uint8 (3,T,S,S) beside each other, (S, n*S, 3)."""
    length = clip.shape[1]
    chosen = torch.linspace(0, length - 1, min(FRAMES, length)).round().long()
    return torch.cat([clip[:, index] for index in chosen.tolist()], 2).permute(1, 2, 0).contiguous()


def _label(batch: ClipBatch, classes: Sequence[str], video: int, clip: int) -> str:
    if batch.targets is None:
        return classes[int(batch.labels[video])]
    shares, labels = batch.targets[video, clip].topk(min(2, len(classes)))
    parts = [f"{classes[label]} {share:.2f}" for share, label in zip(shares.tolist(), labels.tolist(), strict=True)]
    return ", ".join(parts if shares[1] > 0 else parts[:1]) if len(parts) > 1 else parts[0]
