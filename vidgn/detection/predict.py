"""Detect in images with a checkpoint: `vidgn predict IMAGE --ckpt CKPT`."""

import csv
import json
from collections.abc import Sequence
from typing import Any, TextIO

import torch

from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.data.images.dataset import read_picture
from vidgn.detection.data.images import Annotated, resize_annotated, resized_sides
from vidgn.detection.data.module import images_spec
from vidgn.detection.detect import detect_images
from vidgn.detection.evaluate import restore_detector
from vidgn.detection.metric import pack_record
from vidgn.detection.results import detection_rows
from vidgn.files.run_folder import checkpoint_of
from vidgn.inference.model import choose_device
from vidgn.terminal.escape import plain_cell


def run_detect(inputs: Sequence[str], *, ckpt: str, out: TextIO, device: str, form: str) -> int:
    """Print what is in each image, best first: as lines, CSV or JSON (masks as COCO's run lengths).

    Args:
        inputs: image files.
        ckpt: a checkpoint of task=detect, or its run folder.
        out: where to print.
        device: auto, cpu, cuda, ...
        form: text, csv or json.

    Returns:
        The exit status, 0.

    Raises:
        OSError: a file is missing.
        VideoDecodeError: one is not an image.
    """
    checkpoint = read_checkpoint(checkpoint_of(ckpt, option="--ckpt "))
    classes = checkpoint.description.classes
    spec = images_spec(checkpoint.description.data)
    on = choose_device(device)
    module = restore_detector(checkpoint).to(on)
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(inputs):
        item = _read_image(name)
        sides = (int(item.image.shape[1]), int(item.image.shape[2]))
        wanted = resized_sides(*sides, shorter=spec.shorter_side, longest=spec.longest_side)
        image = resize_annotated(item, *wanted).image.to(on)
        detections = detect_images(module.net, module.normalize, [image], sides=[sides])[0]
        rows += detection_rows(pack_record(number, detections, item), names=inputs, classes=classes)
    _print_rows(rows, inputs, out=out, form=form)
    return 0


def _read_image(name: str) -> Annotated:
    """Read an image without objects."""
    pixels = torch.from_numpy(read_picture(name).transpose(2, 0, 1).copy())
    nothing = torch.zeros(0, dtype=torch.int64)
    masks = torch.zeros(0, *pixels.shape[1:], dtype=torch.uint8)
    return Annotated(name, pixels, torch.zeros(0, 4), nothing, masks, nothing, torch.zeros(0))


def _print_rows(rows: Sequence[dict[str, Any]], inputs: Sequence[str], *, out: TextIO, form: str) -> None:
    if form == "json":
        print(json.dumps(rows, ensure_ascii=False), file=out)
    elif form == "csv":
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["image", "class", "score", "x", "y", "width", "height"])
        writer.writerows(
            [plain_cell(row["image"]), plain_cell(row["class"]), row["score"], *row["bbox"]] for row in rows
        )
    else:
        for name in inputs:
            mine = [row for row in rows if row["image"] == name]
            print(f"{name}: {len(mine)} objects", file=out)
            for row in mine:
                x, y, width, height = row["bbox"]
                print(f"  {row['class']} {row['score']:.2f} at {x:.0f},{y:.0f}, {width:.0f}x{height:.0f}", file=out)
