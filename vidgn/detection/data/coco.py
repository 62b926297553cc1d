"""COCO's format: a JSON file with images, annotations and categories, and a folder of images."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidgn.data.images.dataset import read_picture
from vidgn.detection.data.images import Annotated


class CocoImages:
    """A split of a data set in COCO's format: ROOT/annotations/instances_SPLIT.json and the images in ROOT/SPLIT/.

    Classes are the categories in the order of their ids, as Detectron numbers them.

    Args:
        root: folder of the data set.
        split: such as train2017.
        train: leave out what cannot be learned, as Detectron does: crowds, objects without area, and then images
            without objects.

    Raises:
        FileNotFoundError: the JSON file or the folder is missing.
        ValueError: the file is not in COCO's format; the message names file, image and annotation.
    """

    def __init__(self, root: str | Path, split: str, *, train: bool) -> None:
        self.file = Path(root).expanduser() / "annotations" / f"instances_{split}.json"
        self.folder = Path(root).expanduser() / split
        content = _read_json(self.file, self.folder)
        categories = sorted(_rows(content, "categories", self.file), key=lambda row: self._id(row, "category"))
        self.classes = tuple(str(row.get("name", row["id"])) for row in categories)
        self._label = {row["id"]: number for number, row in enumerate(categories, 1)}
        images = {self._id(row, "image"): row for row in _rows(content, "images", self.file)}
        objects: dict[int, list[Mapping[str, Any]]] = {number: [] for number in images}
        for row in _rows(content, "annotations", self.file):
            self._check(row, images)
            if not train or _is_learned(row):
                objects[row["image_id"]].append(row)
        if not self.classes or not images:
            raise ValueError(
                f"{self.file} has {len(images)} images and {len(self.classes)} categories; at least one each"
            )
        self._images = [images[number] for number in sorted(images) if objects[number] or not train]
        self._objects = objects
        if not self._images:
            raise ValueError(
                f"{self.file} has no image with an object to learn; give annotations with a bbox and an area"
            )

    def __len__(self) -> int:
        return len(self._images)

    def name(self, index: int) -> str:
        """Return the name of an image: its file."""
        return str(self._images[index].get("file_name", self._images[index]["id"]))

    def __getitem__(self, index: int) -> Annotated:
        """Read an image.

        Raises:
            OSError: its file is missing or cannot be read.
            ValueError: it has other sides than the JSON file says, or a mask cannot be drawn.
        """
        row = self._images[index]
        image = read_picture(str(self.folder / self.name(index)))
        height, width = image.shape[:2]
        if (height, width) != (row.get("height", height), row.get("width", width)):
            raise ValueError(
                f"{self.folder / self.name(index)} has {width}x{height} pixels, but {self.file} says "
                f"{row.get('width')}x{row.get('height')} (image {row['id']}); correct the one that is wrong."
            )
        objects = self._objects[row["id"]]
        masks = np.zeros((len(objects), height, width), np.uint8)
        for number, item in enumerate(objects):
            masks[number] = self._mask(item, height, width)
        boxes = np.array([item["bbox"] for item in objects], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return Annotated(
            self.name(index),
            torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            torch.from_numpy(boxes.clip(0, np.array([width, height] * 2, np.float32))),
            torch.tensor([self._label[item["category_id"]] for item in objects], dtype=torch.int64),
            torch.from_numpy(masks),
            torch.tensor([int(item.get("iscrowd", 0)) for item in objects], dtype=torch.int64),
            torch.tensor([float(item.get("area", item["bbox"][2] * item["bbox"][3])) for item in objects]),
        )

    def _mask(self, item: Mapping[str, Any], height: int, width: int) -> NDArray[np.uint8]:
        """Draw the polygons, or unpack the run lengths, of an annotation."""
        from faster_coco_eval.core import mask as coco_mask

        shape = item.get("segmentation")
        try:
            if isinstance(shape, list):
                packed = coco_mask.merge(coco_mask.frPyObjects(shape, height, width))
            elif isinstance(shape, dict) and isinstance(shape.get("counts"), list):
                packed = coco_mask.frPyObjects(shape, height, width)
            else:
                packed = shape
            mask: NDArray[np.uint8] = coco_mask.decode(packed)
            if mask.shape != (height, width):
                raise ValueError(f"its size is {mask.shape}, of an image of {(height, width)}")
        except Exception as err:  # the library's own kinds
            raise ValueError(
                f"{self.file}: annotation {item['id']} of image {item['image_id']} has a segmentation that cannot be "
                f"drawn ({err}); give polygons [[x,y,x,y,...]] or run lengths."
            ) from err
        return mask

    def _id(self, row: Mapping[str, Any], kind: str) -> int:
        if type(row.get("id")) is not int:
            raise ValueError(f"{self.file}: the {kind} {str(row)[:120]} has no id; give it a whole number.")
        return int(row["id"])

    def _check(self, row: Mapping[str, Any], images: Mapping[int, Any]) -> None:
        where = f"{self.file}: annotation {self._id(row, 'annotation')} of image {row.get('image_id')}"
        if row.get("image_id") not in images:
            raise ValueError(f"{where} is of an image that is not in the file; add the image or remove the annotation.")
        if row.get("category_id") not in self._label:
            raise ValueError(
                f"{where} has category_id {row.get('category_id')}, which is not in the file; add the category."
            )
        box = row.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(_is_number(side) for side in box) or min(box[2:]) < 0:
            raise ValueError(f"{where} has bbox {box}; give [x, y, width, height] in pixels.")
        if "segmentation" not in row:
            raise ValueError(
                f"{where} has no segmentation; give its polygons, or model.masks=false and the box as one."
            )


def _is_learned(row: Mapping[str, Any]) -> bool:
    """Tell whether an object is trained on (Detectron lib/datasets/json_dataset.py:193-216)."""
    width, height = row["bbox"][2:]
    return not row.get("iscrowd", 0) and row.get("area", 1) > 0 and width > 0 and height > 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _read_json(file: Path, folder: Path) -> Mapping[str, Any]:
    for path, holds in ((file, "the annotations"), (folder, "the images")):
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is missing, where {holds} of the split are looked for; set data.root to the folder that holds "
                "annotations/ and the image folders, and data.train and data.test to their names."
            )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as err:
        raise ValueError(f"{file} is not JSON ({err}); get it again.") from err
    if not isinstance(content, dict):
        raise ValueError(
            f"{file} holds a {type(content).__name__}; an object with images, annotations and categories is needed."
        )
    return content


def _rows(content: Mapping[str, Any], key: str, file: Path) -> list[Mapping[str, Any]]:
    rows = content.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(
            f"{file} has no list {key!r} of objects; COCO's format has images, annotations and categories."
        )
    return rows
