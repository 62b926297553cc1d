"""The weights that come with the package: whole, as good as their card says, and a start for other classes."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch

import vidgn
from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.cli.main import main
from vidgn.data.synthetic.motions import CLASSES, MotionsSpec, draw_video, write_video
from vidgn.files import shipped
from vidgn.files.run_folder import checkpoint_of
from vidgn.files.shipped import SHIPPED, shipped_card, shipped_checkpoint

OTHER_SEED = MotionsSpec(seed=77)  # no video of the training


def drawn(label):
    return draw_video(label, spec=OTHER_SEED, key=(2, CLASSES.index(label)))


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_fits_the_file(name):
    path, card = shipped_checkpoint(name), shipped_card(name)
    assert card["bytes"] == path.stat().st_size <= 4_000_000
    assert card["measured"]["video_top1"] >= 98
    assert card["measured"]["videos_failed"] == 0
    assert (card["command"], card["seed"], card["dtype"]) == ("vidgn train", 0, "float16")
    checkpoint = read_checkpoint(path)
    assert {tensor.dtype for tensor in checkpoint.net.values()} == {torch.float16}
    assert checkpoint.description.config == ""  # no path of the machine that trained it
    assert checkpoint.description.data["root"] is None


def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    for file in shipped._FOLDER.iterdir():
        shutil.copy(file, tmp_path)
    data = bytearray((tmp_path / "motions.ckpt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "motions.ckpt").write_bytes(data)
    monkeypatch.setattr(shipped, "_FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"motions\.ckpt is damaged: its SHA-256 is not .*; install vidgn again"):
        shipped_checkpoint("motions")
    with pytest.raises(ValueError, match="weights=kinetics do not come with the package; use one of motions"):
        shipped_checkpoint("kinetics")


def test_the_sum_beside_the_file_is_that_of_the_file():
    path = shipped_checkpoint("motions")
    assert path.with_name("motions.ckpt.sha256").read_text().split()[0] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert checkpoint_of("motions") == path


@pytest.mark.slow
def test_it_names_videos_that_it_has_not_seen():
    model = vidgn.load("motions", device="cpu")
    labels = ["move_left", "rotate_clockwise"]
    assert [model.predict(drawn(label), top=1)[0].name for label in labels] == labels


@pytest.mark.slow
def test_predict_takes_it_by_name(tmp_path, capsys):
    write_video(tmp_path / "a.mp4", drawn("zoom_in"))
    words = ["predict", str(tmp_path / "a.mp4"), "--ckpt", "motions", "--device", "cpu", "--json", "--num-clips", "2"]
    with pytest.raises(SystemExit, match="0"):
        main(words)
    assert '"zoom_in"' in capsys.readouterr().out


@pytest.mark.slow
def test_a_model_is_created_with_its_weights_and_its_options():
    net = vidgn.create_model("i3d_r50", num_classes=12, weights="motions").eval()
    clip = torch.from_numpy(drawn("orbit_clockwise")[:64:2].astype(np.float32)).permute(3, 0, 1, 2)[
        None, :, :, :64, :64
    ]
    clip = (clip / 255 - 0.45) / 0.225
    with torch.no_grad():
        torch.testing.assert_close(net(clip), vidgn.load("motions", device="cpu").net(clip), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_other_classes_get_a_new_classifier_on_the_same_trunk():
    torch.manual_seed(0)
    net = vidgn.create_model("i3d_r50", num_classes=3, weights="motions")
    stored = read_checkpoint(shipped_checkpoint("motions")).net
    assert torch.equal(net.blocks[0].conv.weight, stored["blocks.0.conv.weight"].float())
    assert net(torch.zeros(1, 3, 8, 32, 32)).shape == (1, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "slow_r50"}, r"name \('slow_r50'\) is not that of weights='motions'; use name='i3d_r50'"),
        ({"name": "i3d_r50", "norm": "bn"}, r"norm \('bn'\) is not that of weights='motions'; use norm='gn'"),
        ({"name": "i3d_r50", "num_groups": 2}, r"num_groups \(2\) is not that of weights='motions'; use num_groups=8"),
    ],
)
def test_another_net_than_that_of_the_weights_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        vidgn.create_model(**options, weights="motions")


@pytest.mark.slow
def test_a_run_starts_from_it(run, tiny, tmp_path):
    words = [word for word in tiny if not word.startswith("model.width")]
    done = run(
        "train", *words, "data.opposites=together", "init=motions", "trainer.max_steps=1", "test=false",
        f"hydra.run.dir={tmp_path}/run",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "the classifier is new: the source has 12 classes and the net 7" in done.out
    description = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt").description
    assert (description.model["width"], description.model["weight_standardization"]) == (16, True)
    assert json.dumps(description.norm, sort_keys=True) == json.dumps(
        read_checkpoint(shipped_checkpoint("motions")).description.norm, sort_keys=True
    )
