import pytest
from omegaconf import OmegaConf

from vidgn.models.table import MODELS
from vidgn.tools.clip import fill_clip, own_clip


@pytest.mark.parametrize(
    ("model", "clip"),
    [
        ({"name": "i3d", "depth": 50, "pool1": "nonlocal"}, (32, 64, 224)),
        ({"name": "i3d", "depth": 101, "pool1": "paper"}, (32, 64, 224)),
        ({"name": "i3d", "depth": 50, "pool1": "pytorchvideo"}, (8, 64, 224)),
        ({"name": "slowfast_r50", "width": 64}, (32, 64, 224)),
        ({"name": "x3d_s", "width": 24}, (13, 78, 160)),
        ({"name": "vgg"}, (32, 64, 224)),  # unknown: refused where the net is built
    ],
)
def test_a_model_has_its_published_clip(model, clip):
    assert own_clip(model) == clip


def test_what_is_said_stays():
    config = OmegaConf.create({"model": {"name": "x3d_s"}, "clip_len": None, "span": 26, "crop": 64})
    fill_clip(config)
    assert (config.clip_len, config.span, config.crop) == (13, 26, 64)


def test_every_row_says_a_clip_whose_frames_divide_its_span():
    assert all(row.clip.span % row.clip.clip_len == 0 for row in MODELS.values())
