import json

import numpy as np
import pytest
import torch

from experiments import real
from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video
from vidgn.data.transforms import Normalize
from vidgn.models.registry import build_net


def described(num_recordings=12, clips=3, channels=4, seed=0):
    """Two classes that differ in the mean of a channel."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_recordings) % 2
    frames = torch.randn(num_recordings * clips, 5, 2 * channels, generator=generator)
    labels = labels.repeat_interleave(clips)
    frames[:, :, 0] += 20 * labels[:, None]
    return real.Described(frames, labels, np.repeat([f"r{number}" for number in range(num_recordings)], clips))


def test_cells_are_scored_once_and_missing_ones_are_named(tmp_path):
    out = tmp_path / "cells.json"
    train, test = described(), described(seed=1)
    real.run_cells(train, test, out)
    result = json.loads(out.read_text())
    assert len(result["cells"]) == 14  # two methods; 10 and 20 clips with three seeds, all clips once
    assert all(cell["top1"] > 70 for cell in result["cells"].values())
    assert result["cells"]["head_all_s0"]["train_clips"] == 36
    result["cells"]["probe_10_s0"]["top1"] = 0.0
    out.write_text(json.dumps(result))
    real.run_cells(train, test, out)
    again = json.loads(out.read_text())
    assert again["cells"]["probe_10_s0"]["top1"] == 0.0
    lines = real.table(again).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 10", "| 20", "| all"]
    assert all(line.endswith("| missing |") for line in lines[2:])


def test_as_many_clips_of_each_class_are_drawn():
    train = described()
    rows = real.draw(train, clips=5, seed=0)
    assert np.bincount(train.labels[rows]).tolist() == [5, 5]
    assert len(real.draw(train, clips=None, seed=0)) == 36
    assert rows.tolist() != real.draw(train, clips=5, seed=1).tolist()


def test_an_interval_over_recordings_is_wider_than_one_over_clips():
    right = np.repeat([True, False, True, True, False, True, True, True], 10)
    groups = np.repeat([str(number) for number in range(8)], 10)
    low, high = real.group_interval(right, groups)
    apart = real.group_interval(right, np.array([str(number) for number in range(80)]))
    assert low < 75 < high
    assert high - low > 1.5 * (apart[1] - apart[0])


@pytest.mark.slow
def test_descriptors_are_computed_once_per_clip(tmp_path):
    folder = tmp_path / "train"
    for number in range(2):
        path = folder / "move_up" / f"a_g{number}_c1.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, draw_video("move_up", spec=MotionsSpec(num_frames=6, side=40), key=(0, number)))
    model = {"name": "frames_r50", "width": 8, "dropout": 0.0, "last": "res4"}
    net = build_net(model=model, norm={"name": "gn", "num_groups": 4}, crop=112, num_classes=1).eval()
    file = tmp_path / "train.npz"
    real.describe_split(net, Normalize(), folder, file)
    split = real.read_split(file)
    assert split.frames.shape == (2, 8, 2 * 128)
    assert split.groups.tolist() == ["move_up/a_g0", "move_up/a_g1"]
    before = dict(np.load(file))
    real.describe_split(None, Normalize(), folder, file)  # without a net nothing could be computed
    after = dict(np.load(file))
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_weights_without_pixels_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        real.load_trunk(tmp_path / "nowhere.pth", stride_1x1=False)
