import os
import pickle

import pytest
import torch

from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.checkpoints.description import Description

DESCRIPTION = Description(
    ("a", "b"), model={"name": "i3d_r50", "width": 8}, norm={"name": "gn"}, clip_len=8, span=16, crop=32,
    versions={"vidgn": "0.1.0"},
)  # fmt: skip
DESCRIBE = DESCRIPTION.to_plain()


def save(path, **changes):
    state = {
        "state_dict": {"net.weight": torch.arange(3.0), "other.weight": torch.zeros(1)},
        "vidgn": DESCRIBE,
        "global_step": 7,
        "epoch": 2,
    }
    torch.save({**state, **changes}, path)
    return path


def test_a_checkpoint_gives_the_nets_tensors_and_its_description(tmp_path):
    checkpoint = read_checkpoint(save(tmp_path / "a.ckpt"))
    assert list(checkpoint.net) == ["weight"]
    assert checkpoint.net["weight"].tolist() == [0, 1, 2]
    assert checkpoint.description == DESCRIPTION
    assert (checkpoint.step, checkpoint.epoch) == (7, 2)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ckpt=.*none.ckpt does not exist; give a file such as"):
        read_checkpoint(tmp_path / "none.ckpt")


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is a folder"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("size", [0, 100])  # empty, cut off
def test_a_cut_off_file_is_no_whole_checkpoint(tmp_path, size):
    path = save(tmp_path / "a.ckpt")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=rf"\({size} bytes\) is not a whole checkpoint"):
        read_checkpoint(path)


def test_weights_without_a_description_are_pointed_to_init(tmp_path):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    with pytest.raises(ValueError, match=r"does not describe itself .* use such weights with train.py init=PATH"):
        read_checkpoint(tmp_path / "resnet.pth")


def test_another_format_names_the_version_that_wrote_it(tmp_path):
    path = save(tmp_path / "a.ckpt", vidgn={**DESCRIBE, "format": 9, "versions": {"vidgn": "7.0"}})
    with pytest.raises(ValueError, match=r"has format 9, this vidgn reads 1; use the version that wrote it \(7.0\)"):
        read_checkpoint(path)


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"vidgn": DESCRIBE, "state_dict": Evil()}, tmp_path / "evil.ckpt", pickle_module=pickle)
    with pytest.raises(ValueError, match=r"cannot be read as tensors and plain values"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()
