import json

import numpy as np
import pytest
import torch
from torch import nn

from experiments import convert
from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for split in ("train", "val"):
        for number in range(2):
            path = folder / split / "move_up" / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, draw_video("move_up", spec=MotionsSpec(num_frames=4, side=40), key=(0, number)))
    return folder


class Three(nn.Module):
    def __init__(self, noise):
        super().__init__()
        self.noise = noise

    def forward(self, x):
        return x, x + self.noise, -x


def test_correlations_are_numpys():
    torch.manual_seed(0)
    frames, noise = torch.randn(20, 3, 4, 4), torch.randn(1, 3, 4, 4)
    got = convert.correlations(Three(0), Three(noise), frames)
    a, b = frames.numpy().ravel(), (frames + noise).numpy().ravel()
    assert got == pytest.approx([1, np.corrcoef(a, b)[0, 1], 1], abs=1e-4)


def test_published_weights_without_layer4_are_compared(videos, tmp_path, capsys):
    torch.manual_seed(0)
    weights = tmp_path / "weights.pth"
    torch.save(convert.Trunk().state_dict(), weights)
    out = tmp_path / "stages.json"
    options = ["--weights", str(weights), "--videos", str(videos), "--clips", "2", "--out", str(out)]
    convert.main(["stages", *options, "--methods", "copy"])
    row = json.loads(out.read_text())["methods"]["copy"]
    assert set(row["correlation"]) == {"layer1", "layer2", "layer3"}
    assert all(-1 <= value <= 1 for value in row["correlation"].values())
    assert "copy  layer1" in capsys.readouterr().out


def test_what_is_missing_is_named(videos, tmp_path):
    state = convert.Trunk().state_dict()
    del state["layer3.5.bn3.bias"]
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"lacks layer3\.5\.bn3\.bias; give a ResNet-50"):
        convert.load_trunk(tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="train holds 2 videos in class folders; give a folder with 3 or more"):
        convert.read_frames(videos / "train", count=3)
