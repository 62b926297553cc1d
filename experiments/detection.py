"""Tables 4 to 7 in miniature: norms of a small Mask R-CNN on drawn shapes, at 1 and 2 images per step.

    python -m experiments.detection            # every run without a result; stop and start it as you like
    python -m experiments.detection --smoke    # one run of a few steps, kept nowhere
    python -m experiments.detection --print    # the table of the results there are

The settings below were written before the first run. They are those of `data=shapes`, with a smaller net and fewer
images, and were not tuned for any of the norms. Raw results: experiments/results/detection/RUN.json.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidgn.data.loading.sampler import epoch_order
from vidgn.data.transforms import Normalize
from vidgn.detection.data.batches import ResizedImages, collate_images
from vidgn.detection.data.shapes import SHAPES, SIDE, DrawnShapes
from vidgn.detection.detect import detect_images, normalize_images, sides_of
from vidgn.detection.metric import average_precision, pack_record
from vidgn.detection.network import Detector, DetectorSpec, build_detector
from vidgn.detection.network.body import Body
from vidgn.detection.network.norms import norm_layer
from vidgn.detection.optim import DetectorOptim, build_detector_optimizer

RESULTS = Path(__file__).parent / "results" / "detection"
SEEDS = (0, 1, 2)
IMAGES_PER_STEP = (2, 1)
WIDTH, TRAIN, TEST, EPOCHS = 8, 200, 100, 4  # images; the data of all runs is that of seed 0
RECIPE = DetectorOptim(lr=0.02, lr_images=2, steps=EPOCHS * TRAIN // 2, drops=(266, 355), warmup_steps=50)
# The source task of the starting weights: which of the three shapes are in an image.
SOURCE_IMAGES, SOURCE_EPOCHS, SOURCE_BATCH, SOURCE_RATE, SOURCE_SEED = 800, 6, 16, 0.05, 77


class Arm(NamedTuple):
    """Norms of the body and of pyramid and heads, and whether the body starts from trained weights."""

    body: str
    heads: str
    trained: bool


ARMS = {
    "frozen_bn": Arm("frozen_bn", "none", True),  # BN*
    "bn": Arm("bn", "none", True),  # fine-tuned BN
    "gn_heads": Arm("frozen_bn", "gn", True),
    "gn": Arm("gn", "gn", True),
    "bn_random": Arm("bn", "none", False),
    "gn_random": Arm("gn", "gn", False),
}


def main() -> None:
    """Run what has no result, seed by seed, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one run of a few steps, kept nowhere")
    parser.add_argument("--print", action="store_true", dest="table", help="the table of the results there are")
    options = parser.parse_args()
    if options.table:
        print(table(read_results()))
        return
    if options.smoke:
        print(json.dumps(run(ARMS["gn_random"], images=2, seed=0, body=None, epochs=1, train=4, test=2), indent=1))
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        for name, arm in ARMS.items():
            for images in IMAGES_PER_STEP:
                file = RESULTS / f"{name}_i{images}_s{seed}.json"
                if not file.exists():
                    body = trained_body("gn" if arm.body == "gn" else "bn") if arm.trained else None
                    result = {"arm": name, **arm._asdict(), **run(arm, images=images, seed=seed, body=body)}
                    part = file.with_suffix(".part")
                    part.write_text(json.dumps(result, indent=1) + "\n")
                    part.replace(file)
                    print(f"{file.stem}: box AP {result['box_ap']}, mask AP {result['mask_ap']}", flush=True)


def run(
    arm: Arm, *, images: int, seed: int, body: dict[str, Tensor] | None, epochs: int = EPOCHS, train: int = TRAIN,
    test: int = TEST,
) -> dict[str, Any]:  # fmt: skip
    """Train one net and score its last weights on the test images."""
    began = time.process_time()
    torch.manual_seed(seed)
    spec = DetectorSpec(
        name="mask_rcnn_r18_fpn", width=WIDTH, anchor=8, rois=32, proposals=50, frozen_stages=0, backbone_norm=arm.body,
        fpn_norm=arm.heads, box_norm=arm.heads, mask_norm=arm.heads,
    )  # fmt: skip
    net = build_detector(spec, num_classes=len(SHAPES))
    if body is not None:
        net.backbone.body.load_state_dict(
            {k: v for k, v in body.items() if not k.endswith("num_batches_tracked")}, strict=False
        )
    optimizer, schedule = build_detector_optimizer(net, RECIPE, images=images)
    data = ResizedImages(
        DrawnShapes("train", size=train, seed=0), shorter=SIDE, longest=SIDE, flip=True, seed=seed, train=True
    )
    normalize, losses = Normalize(), []
    for epoch in range(epochs):
        order = epoch_order(train, seed=seed, epoch=epoch)
        for first in range(0, train, images):
            batch = collate_images([data[epoch, int(index)] for index in order[first : first + images]])
            parts = net.train()(normalize_images(normalize, batch.images), batch.targets)
            loss = torch.stack(list(parts.values())).sum()
            losses.append(float(loss.detach()))
            if not np.isfinite(losses[-1]):
                return {**_about(images, seed, losses, began), "box_ap": None, "mask_ap": None, "stopped": len(losses)}
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    scored = {name: round(value, 3) for name, value in score(net.eval(), normalize, size=test).items()}
    return {**_about(images, seed, losses, began), **scored}


def _about(images: int, seed: int, losses: list[float], began: float) -> dict[str, Any]:
    return {
        "images": images, "seed": seed, "steps": len(losses), "loss_first": statistics.mean(losses[:20]),
        "loss_last": statistics.mean(losses[-20:]), "cpu_seconds": round(time.process_time() - began, 1),
        "torch": torch.__version__, "processor": processor(),
    }  # fmt: skip


def score(net: Detector, normalize: Normalize, *, size: int) -> dict[str, float]:
    """Return AP of boxes and masks on the test images."""
    data = ResizedImages(DrawnShapes("test", size=size, seed=0), shorter=SIDE, longest=SIDE, train=False)
    records = []
    for index in range(size):
        batch = collate_images([data[index]])
        found = detect_images(net, normalize, batch.images, sides=sides_of(batch.originals))
        records.append(pack_record(index, found[0], batch.originals[0]))
    return average_precision(records, masks=True)


def trained_body(norm: str) -> dict[str, Tensor]:
    """Return a body trained on the source task with its own norm; trained once and kept beside the results."""
    file = RESULTS / f"source_{norm}.pt"
    if file.exists():
        state: dict[str, Tensor] = torch.load(file, weights_only=True)
        return state
    torch.manual_seed(SOURCE_SEED)
    body = Body(18, width=WIDTH, norm=norm_layer(norm, width=WIDTH))
    head = nn.Linear(body.channels, len(SHAPES))
    parameters = [*body.parameters(), *head.parameters()]
    steps = SOURCE_EPOCHS * SOURCE_IMAGES // SOURCE_BATCH
    optimizer = torch.optim.SGD(parameters, lr=SOURCE_RATE, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    data, normalize = DrawnShapes("train", size=SOURCE_IMAGES, seed=SOURCE_SEED), Normalize()
    for epoch in range(SOURCE_EPOCHS):
        order = epoch_order(SOURCE_IMAGES, seed=SOURCE_SEED, epoch=epoch)
        for first in range(0, SOURCE_IMAGES, SOURCE_BATCH):
            items = [data[int(index)] for index in order[first : first + SOURCE_BATCH]]
            pixels = torch.stack(normalize_images(normalize, [item.image for item in items]))
            wanted = torch.stack([(item.labels[:, None] == torch.arange(1, 4)).any(0).float() for item in items])
            loss = F.binary_cross_entropy_with_logits(head(features(body, pixels)), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    torch.save(body.state_dict(), file)
    return body.state_dict()


def features(body: Body, pixels: Tensor) -> Tensor:
    """Return the averaged last map (B, C) of images (B, 3, H, W)."""
    x = body.maxpool(body.relu(body.bn1(body.conv1(pixels))))
    maps: Tensor = body.layer4(body.layer3(body.layer2(body.layer1(x))))
    return maps.mean((2, 3))


def read_results() -> list[dict[str, Any]]:
    """Return the results there are."""
    return [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]


def table(results: list[dict[str, Any]]) -> str:
    """Return means and ranges over the seeds as a Markdown table; a run that diverged has no AP and is counted."""
    lines = ["| norms | 2 images: box AP | mask AP | 1 image: box AP | mask AP |", "|---|---|---|---|---|"]
    for name in ARMS:
        cells = [
            _cell([row[kind] for row in results if (row["arm"], row["images"]) == (name, images)])
            for images in IMAGES_PER_STEP
            for kind in ("box_ap", "mask_ap")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not values:
        return "not run"
    diverged = f", {len(values) - len(known)} diverged" if len(known) < len(values) else ""
    if not known:
        return f"all {len(values)} diverged"
    return f"{statistics.mean(known):.1f} ({min(known):.1f} to {max(known):.1f}, n = {len(known)}{diverged})"


def processor() -> str:
    """Return the name of this processor."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else "unknown"


if __name__ == "__main__":
    main()
