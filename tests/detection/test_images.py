"""Annotated images: exact resize and flip, COCO's format and its mistakes, the drawn set."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from vidgn.detection.data import Annotated, CocoImages, DrawnShapes
from vidgn.detection.data.images import mirror_annotated, resize_annotated, resized_sides


def item():
    image = torch.zeros(3, 2, 4, dtype=torch.uint8)
    image[:, 0, 1] = 200
    masks = torch.tensor([[[0, 1, 1, 0], [0, 0, 0, 0]]], dtype=torch.uint8)
    one = torch.ones(1, dtype=torch.int64)
    return Annotated("a", image, torch.tensor([[1.0, 0, 3, 1]]), one, masks, 0 * one, 2.0 * one)


def test_a_mirrored_image_has_its_objects_on_the_other_side():
    seen = mirror_annotated(item()._replace(boxes=torch.tensor([[0.5, 0.25, 3, 1]])))
    assert seen.boxes.tolist() == [[1.0, 0.25, 3.5, 1.0]]
    assert seen.masks.tolist() == [[[0, 1, 1, 0], [0, 0, 0, 0]]]
    assert seen.image[0].tolist() == [[0, 0, 200, 0], [0, 0, 0, 0]]
    twice = mirror_annotated(mirror_annotated(item()))
    assert all(torch.equal(a, b) for a, b in zip(twice[1:], item()[1:], strict=True))


def test_a_resized_image_has_its_objects_in_proportion():
    seen = resize_annotated(item(), 4, 6)
    assert seen.boxes.tolist() == [[1.5, 0.0, 4.5, 2.0]]
    # Column k of six is column floor((k + 1/2) 4/6) of four: 0 1 1 2 3 3.
    assert seen.masks.tolist() == [[[0, 1, 1, 1, 0, 0]] * 2 + [[0] * 6] * 2]
    assert seen.image.shape == (3, 4, 6)
    smaller = resize_annotated(seen, 2, 4)
    assert smaller.boxes.tolist() == item().boxes.tolist()
    assert smaller.masks.tolist() == item().masks.tolist()


# Shorter side 800, at most 1333 (Detectron's TRAIN.SCALES and MAX_SIZE).
@pytest.mark.parametrize(
    ("sides", "wanted"), [((480, 640), (800, 1067)), ((640, 480), (1067, 800)), ((100, 400), (333, 1333))]
)
def test_the_shorter_side_decides_up_to_the_longest(sides, wanted):
    assert resized_sides(*sides, shorter=800, longest=1333) == wanted


@pytest.fixture
def coco(tmp_path):
    """Write a data set of two images, one of them without objects to learn; return its content and a reader."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "small").mkdir()
    for name in ("b.png", "a.png"):
        Image.fromarray(np.full((6, 8, 3), 50, np.uint8)).save(tmp_path / "small" / name)
    square = [[1, 1, 5, 1, 5, 4, 1, 4]]
    content = {
        "images": [{"id": 7, "file_name": "b.png", "height": 6, "width": 8}, {"id": 3, "file_name": "a.png"}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 2, "name": "car"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [1, 1, 4, 3], "area": 12, "segmentation": square},
            {
                "id": 2, "image_id": 3, "category_id": 2, "bbox": [0, 0, 2, 6], "area": 12, "iscrowd": 1,
                "segmentation": {"size": [6, 8], "counts": [0, 12, 36]},
            },
        ],
    }  # fmt: skip

    def read(**options):
        (tmp_path / "annotations" / "instances_small.json").write_text(json.dumps(content))
        return CocoImages(tmp_path, "small", **options)

    return content, read


def test_cocos_format_is_read(coco):
    _, read = coco
    images = read(train=False)
    assert images.classes == ("car", "dog")  # by id
    assert [images.name(index) for index in range(len(images))] == ["a.png", "b.png"]  # by id
    first, second = images[0], images[1]
    assert (second.boxes.tolist(), second.labels.tolist()) == ([[1.0, 1.0, 5.0, 4.0]], [2])
    wanted = np.zeros((6, 8), int)
    wanted[1:4, 1:5] = 1
    assert second.masks[0].tolist() == wanted.tolist()
    assert (first.crowd.tolist(), first.area.tolist()) == ([1], [12.0])
    assert first.masks[0].sum(0).tolist() == [6, 6, 0, 0, 0, 0, 0, 0]  # run lengths go down the columns


def test_training_leaves_out_what_cannot_be_learned(coco):
    content, read = coco
    assert [read(train=True).name(0), len(read(train=True))] == ["b.png", 1]  # the other has a crowd alone
    content["annotations"][0]["bbox"][2] = 0
    with pytest.raises(ValueError, match=r"instances_small\.json has no image with an object to learn"):
        read(train=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 9}, r"instances_small\.json: annotation 1 of image 9 is of an image that is not in the file"),
        ({"category_id": 1}, r"annotation 1 of image 7 has category_id 1, which is not in the file"),
        ({"bbox": [1, 1, -4, 3]}, r"annotation 1 of image 7 has bbox \[1, 1, -4, 3\]; give \[x, y, width, height\]"),
        ({"bbox": [1, 1, "4", 3]}, r"annotation 1 of image 7 has bbox"),
        ({"id": None}, r"instances_small\.json: the annotation .* has no id"),
    ],
)
def test_a_wrong_annotation_is_named_with_its_file_and_image(coco, change, message):
    content, read = coco
    content["annotations"][0].update(change)
    with pytest.raises(ValueError, match=message):
        read(train=False)


def test_what_is_found_when_an_image_is_read_is_named_too(coco):
    content, read = coco
    content["images"][0]["width"] = 9
    with pytest.raises(ValueError, match=r"b\.png has 8x6 pixels, but .*instances_small\.json says 9x6 \(image 7\)"):
        read(train=False)[1]
    content["images"][0]["width"] = 8
    content["annotations"][0]["segmentation"] = "x"
    with pytest.raises(ValueError, match=r"annotation 1 of image 7 has a segmentation that cannot be drawn"):
        read(train=False)[1]
    del content["annotations"][0]["segmentation"]
    with pytest.raises(ValueError, match=r"annotation 1 of image 7 has no segmentation"):
        read(train=False)


def test_a_file_that_is_not_cocos_is_named(coco, tmp_path):
    content, read = coco
    with pytest.raises(FileNotFoundError, match=r"instances_large\.json is missing, where the annotations"):
        CocoImages(tmp_path, "large", train=False)
    del content["categories"]
    with pytest.raises(ValueError, match=r"instances_small\.json has no list 'categories' of objects"):
        read(train=False)
    content["categories"] = []
    content["annotations"] = []
    with pytest.raises(ValueError, match=r"has 2 images and 0 categories"):
        read(train=False)
    file = tmp_path / "annotations" / "instances_small.json"
    for text, message in (("{", "is not JSON"), ("[]", "holds a list; an object with images")):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            CocoImages(tmp_path, "small", train=False)


def test_drawn_images_are_a_function_of_seed_split_and_index():
    first, again = DrawnShapes("train", size=20, seed=3), DrawnShapes("train", size=40, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(first[5][1:], again[5][1:], strict=True))
    assert not torch.equal(first[5].image, DrawnShapes("val", size=20, seed=3)[5].image)
    assert not torch.equal(first[5].image, DrawnShapes("train", size=20, seed=4)[5].image)
    with pytest.raises(ValueError, match=r"data\.train \(0\) must be at least 1 image"):
        DrawnShapes("train", size=0, seed=0)


def test_drawn_objects_have_tight_boxes_and_masks_that_do_not_overlap():
    images = DrawnShapes("train", size=60, seed=0)
    labels = []
    for index in range(len(images)):
        drawn = images[index]
        labels += drawn.labels.tolist()
        assert int(drawn.masks.sum(0).max()) == 1
        for (x1, y1, x2, y2), mask, area in zip(drawn.boxes.int().tolist(), drawn.masks, drawn.area, strict=True):
            assert int(mask.sum()) == int(mask[y1:y2, x1:x2].sum()) == int(area)
            assert mask[y1].any()
            assert mask[y2 - 1].any()
            assert mask[:, x1].any()
            assert mask[:, x2 - 1].any()
    assert set(labels) == {1, 2, 3}
    assert 60 < len(labels) <= 180
