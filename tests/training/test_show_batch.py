import json

import numpy as np
import pytest
import torch
from PIL import Image

from vidgn.data.batches import ClipBatch
from vidgn.training.batch_strip import draw_batch
from vidgn.training.show_batch import first_batch, run_show_batch

WORDS = ["data.train=2", "data.val=1", "data.test=1", "data.num_workers=0", "crop=32", "clip_len=8", "span=16"]


def test_a_strip_shows_the_frames_of_a_clip_in_turn():
    clips = torch.zeros((2, 1, 3, 4, 6, 6), dtype=torch.uint8)
    for t in range(4):
        clips[:, :, :, t] = 60 * t
    page = np.asarray(draw_batch(ClipBatch(clips, torch.tensor([0, 1]), torch.tensor([0, 1])), ["a", "b"]))
    assert page.shape == (2 * (6 + 16), 4 * 6, 3)
    assert page[-3, 3::6, 0].tolist() == [0, 60, 120, 180]
    assert page[:16].min() < 100  # the label is written


def test_the_command_draws_the_batch_that_training_sees(cache, tmp_path, capsys):
    import sys

    target = tmp_path / "b.png"
    words = [*WORDS, "mixup=0.8", "randaugment=9", "batch=4"]
    arguments = {"clips": 3, "epoch": 1, "overwrite": False, "out": sys.stdout, "as_json": True}
    assert run_show_batch(words, target=str(target), **arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["clips"] == 3
    with Image.open(target) as page:
        assert page.size == (8 * 32, 3 * (32 + 16))
    batch, classes = first_batch(words, epoch=1)
    assert batch.videos.tolist() == told["videos"]
    assert batch.targets.shape == (4, 1, len(classes))
    with pytest.raises(FileExistsError, match=r"b\.png"):
        run_show_batch(words, target=str(target), **arguments)


@pytest.mark.parametrize(
    ("words", "clips", "message"),
    [
        (["mixpu=1"], 4, "did you mean '?mixup"),
        (["mixup=3", *WORDS], 4, r"mixup \(3\) must be in 0..1"),
        ([], 0, r"--clips \(0\) must be at least 1"),
    ],
)
def test_a_mistake_is_one_sentence(cache, tmp_path, words, clips, message):
    with pytest.raises(ValueError, match=message):
        run_show_batch(words, target=str(tmp_path / "b.png"), clips=clips, epoch=0, overwrite=False, out=None)
