import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vidgn.data.synthetic.motions import write_video
from vidgn.data.video import open_video
from vidgn.inference.explain import Explanation, grad_cam, overlay
from vidgn.inference.windows import Window


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(3, 2, bias=False)

    def forward(self, x):
        return self.proj(x.mean((2, 3, 4)))


class Linear(nn.Module):
    """A net whose map is the clip itself, so that the heat is known: relu of the weighted sum of channels."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Identity(), nn.Identity(), Head()])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x

    @property
    def map_block(self):
        return self.blocks[1]

    def as_map(self, output):
        return output


def test_the_heat_of_a_linear_net_is_its_weighted_sum():
    net = Linear()
    with torch.no_grad():
        net.blocks[2].proj.weight.copy_(torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, -1.0]]))
    clip = torch.randn(1, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    wanted = (clip[0, 0] - 2 * clip[0, 1] + 0.5 * clip[0, 2]).clamp_min(0)
    np.testing.assert_allclose(grad_cam(net, clip, label=0), (wanted / wanted.max()).numpy(), atol=1e-6)
    wanted = (-clip[0, 2]).clamp_min(0)
    np.testing.assert_allclose(grad_cam(net, clip, label=1), (wanted / wanted.max()).numpy(), atol=1e-6)


def test_no_heat_where_nothing_speaks_for_the_class():
    net = Linear()
    with torch.no_grad():
        net.blocks[2].proj.weight.fill_(-1.0)
    assert (grad_cam(net, torch.ones(1, 3, 2, 4, 4), label=0) == 0).all()


def test_where_there_is_no_heat_the_picture_stays():
    clip = torch.randint(0, 256, (3, 2, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    heat = np.zeros((2, 8, 8), np.float32)
    heat[1, 0, 0] = 1
    blended = overlay(Explanation("run", 0.5, Window(0, 4, clip), heat, np.arange(5) / 25))
    plain = clip.permute(1, 2, 3, 0).numpy()
    np.testing.assert_array_equal(blended[0], plain[0])
    assert (blended[1, 0, 0] != plain[1, 0, 0]).any()


def test_a_film_strip_and_a_film_are_written(vidgn, trained, video, tmp_path):
    status, out, _ = vidgn("explain", video, "--ckpt", trained, "--out", tmp_path / "x", "--class", "zoom_in")
    assert status == 0
    assert out.startswith("zoom_in ")
    with Image.open(tmp_path / "x" / "noise.png") as picture:
        assert picture.size == (1200, 370)
    with open_video(tmp_path / "x" / "noise.mp4") as reader:
        assert (len(reader), reader.height, reader.width) == (8, 36, 36)  # clip of 8 frames, 37 px made even


def test_a_second_chooses_the_window(vidgn, trained, video, tmp_path):
    status, out, _ = vidgn("explain", video, "--ckpt", trained, "--out", tmp_path / "x", "--at", "1.2", "--json")
    told = json.loads(out)
    assert status == 0
    assert (told["start"], told["end"]) == (22, 38)  # 16 raw frames around frame 30


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--class", "jump"], "--class jump is unknown to the checkpoint; it knows move_down, move_left"),
        (["--at", "99"], "--at 99.0 is outside the video (0..2.40 s); give a second within it"),
    ],
)
def test_a_mistake_is_one_sentence(vidgn, trained, video, tmp_path, words, said):
    status, _, err = vidgn("explain", video, "--ckpt", trained, "--out", tmp_path / "x", *words)
    assert status == 2
    assert said in err


def test_a_folder_of_videos_is_refused(vidgn, trained, video, tmp_path):
    (tmp_path / "two.mp4").symlink_to(video)
    status, _, err = vidgn("explain", tmp_path, "--ckpt", trained)
    assert status == 2
    assert "holds 2 videos; explain takes one file." in err


def test_a_real_video_is_explained(vidgn, trained, real_videos, tmp_path):
    path = real_videos / "odd" / "video_90.mov"
    status, _, _ = vidgn("explain", path, "--ckpt", trained, "--out", tmp_path)
    assert status == 0
    assert (tmp_path / "video_90.mp4").stat().st_size > 0


def test_the_second_of_an_uneven_video_chooses_the_frame_that_is_shown_then(vidgn, trained, tmp_path):
    # 30 frames in the first second, then one every half second, where the mean rate would say one every quarter.
    shown = np.concatenate([np.arange(30) / 30, 1 + np.arange(31) / 2])
    path = tmp_path / "uneven.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3), np.uint8), seconds=shown)
    status, out, _ = vidgn("explain", path, "--ckpt", trained, "--out", tmp_path / "x", "--at", "9.2", "--json")
    told = json.loads(out)
    assert status == 0
    assert (told["start"], told["end"]) == (38, 54)  # around frame 46, shown from 9.0 s to 9.5 s
    with open_video(tmp_path / "x" / "uneven.mp4") as film:
        np.testing.assert_allclose(film.seconds()[:-1], (shown[38:54:2] - shown[38]), atol=0.001)
