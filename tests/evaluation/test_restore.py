"""A stranger's checkpoint: its net is planned before it is built, and weights that are not finite are refused."""

import json

import numpy as np
import pytest
import torch

from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.checkpoints.description import Description, TestViews
from vidgn.cli.main import main
from vidgn.data.synthetic.motions import write_video
from vidgn.evaluation.restore import restore
from vidgn.models.registry import build_net

MODEL = {"name": "c2d_r50", "width": 8, "dropout": 0.0}
SECRET = "/home/secret/kinetics"
DATA = {
    "name": "shards", "root": SECRET, "passport": f"{SECRET}/a.parquet", "intersect": f"{SECRET}/b.csv",
    "shards": f"{SECRET}/tars", "classes": f"{SECRET}/classes.txt", "train": f"{SECRET}/train.csv", "seed": 3,
}  # fmt: skip


def save(path, *, spoil=False, **changes):
    """Write the checkpoint of a small net with other values in its description."""
    options = {"model": MODEL, "norm": {"name": "gn", "num_groups": 4}, "clip_len": 8, "span": 8, "crop": 32,
               "test": TestViews(1, 1, "linspace", 1), "data": DATA, "config": f"root: {SECRET}",
               "overrides": (f"data.root={SECRET}",), "job": {"videos": SECRET}}  # fmt: skip
    described = Description(**{"classes": ("sit", "run"), **options, **changes})
    torch.manual_seed(0)
    net = build_net(model=MODEL, norm=options["norm"], crop=32, num_classes=2)
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    if spoil:
        state["net.blocks.0.conv.weight"] = state["net.blocks.0.conv.weight"].clone().fill_(float("nan"))
    torch.save({"vidgn": described.to_plain(), "state_dict": state}, path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda value: value.to(torch.complex64),
            "has complex64 in blocks.0.conv.weight, where .* another kind",
        ),
        (lambda value: value.to(torch.int32), "has int32 in blocks.0.conv.weight, where the net .* another kind"),
        (lambda value: value.double() * 1e300, "has numbers in blocks.0.conv.weight beyond float32"),
    ],
)
def test_weights_that_a_net_would_round_to_others_are_refused(tmp_path, change, message):
    state = torch.load(save(tmp_path / "a.ckpt"), weights_only=True)
    state["state_dict"]["net.blocks.0.conv.weight"] = change(state["state_dict"]["net.blocks.0.conv.weight"])
    torch.save(state, tmp_path / "b.ckpt")
    with pytest.raises(ValueError, match=message):
        restore(read_checkpoint(tmp_path / "b.ckpt"))


def test_a_whole_checkpoint_gives_its_net(tmp_path):
    classifier = restore(read_checkpoint(save(tmp_path / "a.ckpt")))
    assert classifier.classes == ("sit", "run")
    assert classifier.net.state_dict()["blocks.0.conv.weight"].shape[0] == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {**MODEL, "width": 4096}}, "describes another net than its weights are of"),  # 400 GB of weights
        ({"classes": tuple(f"class {n}" for n in range(99_999))}, "describes another net than its weights are of"),
        ({"model": {**MODEL, "name": "c2d_r101"}}, "describes another net than its weights are of"),
        ({"model": {**MODEL, "name": "none"}}, "describes a net that cannot be built"),
        ({"model": {**MODEL, "depth": 50}}, "describes a net that cannot be built"),
        ({"model": {"name": "i3d", "width": 8, "dropout": 0.0}}, "describes (a|another) net"),
        ({"norm": {"name": "gn", "num_groups": 3}}, "describes a net that cannot be built"),
        ({"norm": {"name": "nrm"}}, "describes a net that cannot be built"),
        ({"norm": {"name": "bn"}}, "describes another net than its weights are of"),
    ],
)
def test_a_net_that_is_not_that_of_the_weights_is_one_sentence(tmp_path, changes, message):
    checkpoint = read_checkpoint(save(tmp_path / "a.ckpt", **changes))
    with pytest.raises(ValueError, match=message) as caught:
        restore(checkpoint)
    assert len(str(caught.value)) < 700


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "predict V --ckpt C", "predict V --ckpt C --timeline", "explain V --ckpt C --out D",
        "features V --ckpt C --out D", "push me/x --ckpt C --folder D", "export --ckpt C --to safetensors --out D",
    ],
)  # fmt: skip
def test_no_command_takes_weights_that_are_not_finite(tmp_path, capsys, words):
    write_video(tmp_path / "a.mp4", np.zeros((10, 32, 32, 3), np.uint8))
    places = {"V": tmp_path / "a.mp4", "C": save(tmp_path / "a.ckpt", spoil=True), "D": tmp_path / "out"}
    with pytest.raises(SystemExit, match="2"):
        main([str(places.get(word, word)) for word in words.split()])
    err = capsys.readouterr().err
    assert "a.ckpt has weights that are not finite (1 of " in err
    assert err.strip().count("\n") == 0
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_nothing_of_the_machine_is_pushed(tmp_path, capsys):
    pytest.importorskip("safetensors")
    with pytest.raises(SystemExit, match="0"):
        main(["push", "me/x", "--ckpt", str(save(tmp_path / "a.ckpt")), "--folder", str(tmp_path / "out")])
    pushed = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert b"secret" not in pushed
    assert str(tmp_path).encode() not in pushed
    about = json.loads((tmp_path / "out" / "vidgn.json").read_text())
    assert about["data"] == {"name": "shards", "seed": 3}
