"""One run: a cell of the table and a seed in, its numbers out."""

import logging
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from experiments.clips import ClipForm, clip_loader, cut_test_clips
from experiments.curves import Curves
from experiments.settings import Setting
from experiments.videos import Videos
from vidgn.callbacks.precise_bn import PreciseBN
from vidgn.classifier import VideoClassifier
from vidgn.data.transforms import Normalize
from vidgn.models.net import VideoNet
from vidgn.models.registry import build_net
from vidgn.norms.precise import statistics_layers
from vidgn.optim import OptimSpec
from vidgn.scores.predictions import label_ranks

CROP = 32  # pixels; the smallest side a net takes


@dataclass(frozen=True)
class Cell:
    """A column of the table.

    Attributes:
        norm: a name of `configs/norm`; `bn` sees the clips of one device, `sync_bn` those of all.
        clip_len: frames the net sees of 64.
        batch: clips per device and step, the unit of the paper's Table 8.
        num_groups: of group norm; None: the published proportion.
        channels: per group, instead.
    """

    norm: str
    clip_len: int
    batch: int
    num_groups: int | None = None
    channels: int | None = None

    @property
    def layer(self) -> str:
        """The norm with its options: `gn`, `gn_g2` (groups) or `gn_c8` (channels per group)."""
        options = (("g", self.num_groups), ("c", self.channels))
        return self.norm + "".join(f"_{letter}{value}" for letter, value in options if value is not None)

    @property
    def name(self) -> str:
        """As files and tables have it: `gn_t32_b8`."""
        return f"{self.layer}_t{self.clip_len}_b{self.batch}"


@dataclass(frozen=True)
class Course:
    """The course of a training: what a run does beyond its cell.

    Attributes:
        epochs: passes over the training videos.
        optim: the recipe.
        spans: raw frames a clip covers; several: drawn per clip.
        num_test_clips: per video.
    """

    epochs: int
    optim: OptimSpec
    spans: tuple[int, ...]
    num_test_clips: int


def build_cell(cell: Cell, *, setting: Setting, num_classes: int) -> VideoNet:
    """Build the net of a cell; batch norm of `devices` devices becomes sub_bn with as many parts."""
    norm: dict[str, Any] = {"name": cell.norm}
    if cell.norm == "gn":
        norm |= {"num_groups": cell.num_groups, "channels_per_group": cell.channels}
    elif cell.norm == "bn":
        norm = {"name": "sub_bn", "num_splits": setting.devices}
    elif cell.norm == "sync_bn":  # of all devices: the whole batch on the one that there is
        norm = {"name": "bn"}
    elif cell.norm == "batch_renorm":  # its limits open at once: the statistics to start from are good
        norm |= {"warmup_steps": 0, "r_ramp_end": 0, "d_ramp_end": 0}
    model = {"name": "i3d_r50", "width": setting.width, "dropout": setting.dropout, "pool1": "nonlocal"}
    return build_net(model=model, norm=norm, crop=CROP, num_classes=num_classes)


def train(
    cell: Cell,
    *,
    setting: Setting,
    course: Course,
    data: Mapping[str, Videos],
    classes: tuple[str, ...],
    seed: int,
    weights: Mapping[str, Tensor] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train a cell and test it; return the weights, with precise statistics, and the numbers of the run.

    Norms that see one device's clips and have no form with parts (batch_renorm) get them one device after the
    other, the gradients added up.
    """
    began, cpu = time.perf_counter(), time.process_time()
    torch.manual_seed(seed)
    net = build_cell(cell, setting=setting, num_classes=len(classes))
    if weights is not None:
        net.load_state_dict(weights, strict=False)
    apart = cell.norm == "batch_renorm"
    batch = cell.batch if apart else cell.batch * setting.devices
    form = ClipForm(cell.clip_len, course.spans, CROP)
    model = VideoClassifier(net, normalize=Normalize(), optim=course.optim, classes=classes, batch=batch, seed=seed)
    precise = PreciseBN(num_batches=max(1, setting.precise_batches * 32 // batch))
    val = clip_loader(data["val"], form=form, batch=32, seed=seed, training=False)
    curves = Curves(val)
    trainer = make_trainer(course.epochs, setting.devices if apart else 1, [precise, curves])
    trainer.fit(model, clip_loader(data["train"], form=form, batch=batch, seed=seed, training=True), val)
    found = {name: value.clone() for name, value in net.state_dict().items()}
    return found, {
        "cell": cell.name,
        "seed": seed,
        "steps": trainer.global_step,
        "test": _tests(trainer, model, precise, data["test"], form=form, num_clips=course.num_test_clips),
        "curves": curves.rows,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def _tests(
    trainer: L.Trainer, model: VideoClassifier, precise: PreciseBN, videos: Videos, *, form: ClipForm, num_clips: int
) -> dict[str, dict[str, float]]:
    """Test the net as it is and, where it has them, with the precise statistics of its last validation."""
    clips = cut_test_clips(videos, form=form._replace(spans=form.spans[-1:]), num_clips=num_clips)
    tests = {}
    if statistics_layers(model):
        tests["precise"] = score_videos(model.net, clips, videos.labels)
        precise.on_train_batch_start(trainer, model, None, 0)  # as if training went on: its running averages
    return tests | {"plain": score_videos(model.net, clips, videos.labels)}


@torch.inference_mode()
def score_videos(net: nn.Module, clips: Tensor, labels: Tensor, *, group: int = 16) -> dict[str, float]:
    """Return video and clip accuracies in percent, of the softmax averaged over the K clips (V, K, 3, T, S, S)."""
    net.eval()
    normalize = Normalize()
    score: Callable[[Tensor], Tensor] = net.scores  # type: ignore[assignment]
    parts = [score(normalize(part.flatten(0, 1))).view(*part.shape[:2], -1) for part in torch.split(clips, group)]
    scores = torch.cat(parts).double()  # (V, K, Q)
    of_videos, of_clips = (
        label_ranks(scores.mean(1), labels),
        label_ranks(scores.flatten(0, 1), labels.repeat_interleave(clips.shape[1])),
    )
    return {
        "video_top1": _percent(of_videos < 1),
        "video_top5": _percent(of_videos < 5),
        "clip_top1": _percent(of_clips < 1),
    }


def _percent(right: Tensor) -> float:
    return round(100 * float(right.double().mean()), 3)


def make_trainer(epochs: int, accumulate: int, callbacks: list[L.Callback]) -> L.Trainer:
    """Return a trainer on one CPU that writes no files and validates every second epoch."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    warnings.filterwarnings("ignore", message="The number of training batches")
    return L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        check_val_every_n_epoch=min(2, epochs),
        accumulate_grad_batches=accumulate,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
