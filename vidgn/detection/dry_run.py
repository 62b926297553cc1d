"""A dry run of task=detect: steps at full size on made images, and what the whole run would take on this device."""

import json
import time
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from vidgn.data.transforms import Normalize
from vidgn.detection.config import DetectionConfig
from vidgn.detection.data.images import resized_sides
from vidgn.detection.detect import detect_images, normalize_images
from vidgn.detection.network import Detector, build_detector
from vidgn.detection.optim import build_detector_optimizer
from vidgn.runs.config import DrySpec
from vidgn.terminal.console import say

_COCO = (480, 640)  # usual height and width of an image
_COCO_CLASSES = 80
_OBJECTS = 7  # of an image of COCO, on average


class DryDetection(NamedTuple):
    """What was measured, and what follows from it.

    Attributes:
        device: cpu or cuda.
        sides: height and width of an image.
        images_per_step: of the run: batch x trainer.dry.gpus.
        steps: of the run.
        step_seconds: of a step of one device.
        test_seconds: of an image.
        peak_gib: memory of the device; None on a CPU.
        hours: of the whole training on that many devices of this kind, reading and waiting left out.
        loss: of the last step.
    """

    device: str
    sides: tuple[int, int]
    images_per_step: int
    steps: int
    step_seconds: float
    test_seconds: float
    peak_gib: float | None
    hours: float
    loss: float


def dry_run_detection(config: DetectionConfig, wanted: DrySpec) -> DryDetection:
    """Measure the steps of a run; `dry.json` has the same numbers. Images are made, and init is left out.

    Raises:
        ValueError: an option is out of its range, as training itself would find.
    """
    images, optim = config.data, config.optim
    device = torch.device("cuda" if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu")
    torch.manual_seed(config.seed)
    num_classes = _COCO_CLASSES if images.name == "coco" else 3
    net = build_detector(config.model, num_classes=num_classes).to(device)
    sides = resized_sides(*_COCO, shorter=images.shorter_side, longest=images.longest_side)
    if images.name == "shapes":
        sides = (images.shorter_side, images.shorter_side)
    per_step = config.batch * wanted.gpus
    optimizer, _ = build_detector_optimizer(net, optim, images=per_step)
    seconds, loss = _steps(net, optimizer, batch=config.batch, sides=sides, steps=wanted.steps, classes=num_classes)
    test = _test_seconds(net, sides=sides, images=wanted.videos)
    steps = optim.total_steps(per_step)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
    estimate = DryDetection(
        device.type,
        sides,
        per_step,
        steps,
        round(seconds, 4),
        round(test, 4),
        peak,
        round(steps * seconds / 3600, 2),
        loss,
    )
    (config.folder / "dry.json").write_text(json.dumps(estimate._asdict(), indent=1) + "\n", encoding="utf-8")
    say(describe_dry_run(estimate, batch=config.batch, gpus=wanted.gpus))
    return estimate


def describe_dry_run(estimate: DryDetection, *, batch: int, gpus: int) -> str:
    """Return the result in words."""
    memory = "" if estimate.peak_gib is None else f", {estimate.peak_gib:.1f} GiB"
    return (
        f"measured on {estimate.device}: a step of {batch} images of {estimate.sides[1]}x{estimate.sides[0]} takes "
        f"{estimate.step_seconds:.2f} s{memory}; an image of the test {estimate.test_seconds:.2f} s\n"
        f"the run: {estimate.steps:,} steps of {estimate.images_per_step} images on {gpus} such devices take "
        f"{estimate.hours:,.1f} hours, reading and waiting left out"
    )


def _steps(
    net: Detector, optimizer: torch.optim.Optimizer, *, batch: int, sides: tuple[int, int], steps: int, classes: int
) -> tuple[float, float]:
    """Return the median time of a step after one to warm up, and the last loss."""
    device = next(net.parameters()).device
    normalize = Normalize().to(device)
    images = [torch.randint(0, 256, (3, *sides), dtype=torch.uint8, device=device) for _ in range(batch)]
    targets = [_made_objects(sides, classes=classes, device=device) for _ in range(batch)]
    times, loss = [], torch.zeros(())
    for _ in range(steps + 1):
        began = time.perf_counter()
        loss = torch.stack(list(net.train()(normalize_images(normalize, images), targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        _wait(device)
        times.append(time.perf_counter() - began)
    return median(times[1:]), float(loss.detach())


def _made_objects(sides: tuple[int, int], *, classes: int, device: torch.device) -> dict[str, Tensor]:
    height, width = sides
    corner = torch.rand(_OBJECTS, 2) * torch.tensor([0.6 * width, 0.6 * height])
    boxes = torch.cat([corner, corner + torch.tensor([0.3 * width, 0.3 * height])], 1).round()
    masks = torch.zeros(_OBJECTS, height, width, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    labels = torch.randint(1, classes + 1, (_OBJECTS,))
    return {"boxes": boxes.to(device), "labels": labels.to(device), "masks": masks.to(device)}


def _test_seconds(net: Detector, *, sides: tuple[int, int], images: int) -> float:
    device = next(net.parameters()).device
    normalize = Normalize().to(device)
    pixels = torch.randint(0, 256, (3, *sides), dtype=torch.uint8, device=device)
    net.eval()
    began = time.perf_counter()
    for _ in range(images):
        detect_images(net, normalize, [pixels], sides=[sides])
    _wait(device)
    return (time.perf_counter() - began) / max(1, images)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
