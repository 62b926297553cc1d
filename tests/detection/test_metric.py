"""COCO's metric: known values, and the same number whatever the ranks."""

import sys

import pytest
import torch

from vidgn.detection.data import Annotated, DrawnShapes
from vidgn.detection.metric import (
    Detections,
    average_precision,
    gather_records,
    pack_masks,
    pack_record,
    require_metric,
    unpack_masks,
)


def image(boxes, labels, *, crowd=None, side=100):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    masks = torch.zeros(len(boxes), side, side, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    crowds = torch.tensor(crowd or [0] * len(boxes))
    area = masks.sum((1, 2)).float()
    return Annotated(
        "x", torch.zeros(3, side, side, dtype=torch.uint8), boxes, torch.tensor(labels), masks, crowds, area
    )


def found(item, scores, *, shift=0):
    boxes = item.boxes + torch.tensor([shift, 0, shift, 0], dtype=torch.float32)
    return Detections(boxes, torch.tensor(scores, dtype=torch.float32), item.labels, item.masks.roll(shift, 2))


def score(pairs, *, masks=True):
    return average_precision([pack_record(k, one, item) for k, (one, item) in enumerate(pairs)], masks=masks)


def test_what_is_found_exactly_scores_100():
    item = image([[10, 10, 50, 50], [60, 60, 90, 90]], [1, 2])
    values = score([(found(item, [0.9, 0.8]), item)])
    assert values == pytest.approx(dict.fromkeys(values, 100.0))
    assert set(values) == {"box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75"}


def test_a_shift_counts_up_to_its_overlap():
    item = image([[10, 10, 50, 50]], [1])
    values = score([(found(item, [0.9], shift=8), item)])  # IoU 32/48 = 2/3: right at 0.5, 0.55, 0.6, 0.65
    assert values["box_ap50"] == pytest.approx(100)
    assert values["box_ap75"] == pytest.approx(0)
    assert values["box_ap"] == values["mask_ap"] == pytest.approx(40)


def test_a_crowd_takes_what_lies_in_it_and_is_not_missed():
    item = image([[10, 10, 50, 50], [0, 0, 100, 100]], [1, 1], crowd=[0, 1])
    wrong = torch.tensor([[60.0, 60, 90, 90]])
    masks = torch.zeros(2, 100, 100, dtype=torch.uint8)
    masks[0], masks[1, 60:90, 60:90] = item.masks[0], 1
    seen = Detections(torch.cat([item.boxes[:1], wrong]), torch.tensor([0.5, 0.9]), torch.tensor([1, 1]), masks)
    assert score([(seen, item)])["box_ap"] == pytest.approx(100)
    plain = item._replace(crowd=torch.zeros(2, dtype=torch.int64))
    assert score([(seen, plain)])["box_ap"] < 50


def test_boxes_alone_need_no_masks():
    item = image([[10, 10, 50, 50]], [1])
    values = score([(found(item, [0.9])._replace(masks=None), item)], masks=False)
    assert values == pytest.approx({"box_ap": 100.0, "box_ap50": 100.0, "box_ap75": 100.0})


def test_an_image_without_detections_is_missed_and_one_without_objects_is_not():
    item, nothing = image([[10, 10, 50, 50]], [1]), image([], [])
    empty = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 100, 100))
    assert score([(found(item, [0.9]), item), (empty, item)])["box_ap50"] == pytest.approx(
        50.495, abs=0.01
    )  # 51 of 101
    assert score([(found(item, [0.9]), item), (empty, nothing)])["box_ap"] == pytest.approx(100)
    assert torch.tensor(score([(empty, nothing)])["box_ap"]).isnan()


def test_masks_survive_packing():
    drawn = DrawnShapes("val", size=3, seed=1)[2]
    assert torch.equal(unpack_masks(pack_masks(drawn.masks), (64, 64)), drawn.masks)
    assert unpack_masks([], (4, 5)).shape == (0, 4, 5)


def test_the_order_in_which_ranks_scored_does_not_matter(monkeypatch):
    images = DrawnShapes("val", size=8, seed=1)
    records = [
        pack_record(
            k, found(images[k], torch.linspace(0.9, 0.5, len(images[k].labels)).tolist(), shift=k % 4), images[k]
        )
        for k in range(8)
    ]
    ranks = [records[1::2], records[::2]]

    def gather(parts, mine):
        parts[:] = ranks

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    merged = gather_records(ranks[0])
    assert [record.image for record in merged] == list(range(8))
    monkeypatch.undo()
    assert average_precision(merged, masks=True) == average_precision(records, masks=True)
    with pytest.raises(RuntimeError, match=r"image 3 was scored twice"):
        gather_records([records[3], records[3]])


def test_a_run_without_the_metrics_package_is_told_before_it_trains(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"task=detect needs the package faster-coco-eval .* 'vidgn\[detect\]'"
    ):
        require_metric()
