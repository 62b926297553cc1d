"""Published weights as a checkpoint: files in their exact format, with random weights."""

import csv
import json
import pickle
import re

import numpy as np
import pytest
import torch
from pytorchvideo.models import hub

from vidgn.data.clips import ClipSpec
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video
from vidgn.data.transforms import CropSpec
from vidgn.data.views import ViewDataset
from vidgn.evaluation.published import open_checkpoint, respell
from vidgn.inference.model import open_model
from vidgn.models.registry import build_model
from vidgn.norms import make_norm

SMALL = ("num_clips=1", "num_crops=1", "crop=32", "data.num_workers=0", "trainer.accelerator=cpu",
         "trainer.enable_progress_bar=false")  # fmt: skip


@pytest.fixture(scope="module")
def theirs():
    """pytorchvideo's own I3D with random weights: the norms, too, so that nothing passes unnoticed."""
    torch.manual_seed(0)
    net = hub.i3d_r50(head_activation=None).eval()
    for name, tensor in net.state_dict().items():
        if "norm" in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    torch.nn.init.normal_(net.blocks[6].proj.weight, std=0.05)
    return net


@pytest.fixture(scope="module")
def i3d(theirs, tmp_path_factory):
    path = tmp_path_factory.mktemp("zoo") / "I3D_8x8_R50.pyth"
    torch.save({"model_state": theirs.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Folders of two classes of Kinetics-400, one spelt as many copies spell it."""
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(("riding_a_bike", "zumba")):
        for split in ("train", "val"):
            (folder / split / name).mkdir(parents=True)
            frames = draw_video("move_up", spec=MotionsSpec(num_frames=12, side=40), key=(0, number))
            write_video(folder / split / name / "a.mp4", frames)
    return folder


def caffe2_name(name):
    """The name that video-nonlocal-net's Kinetics models have for a tensor of pytorchvideo's."""
    what = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}[name.rpartition(".")[2]]
    if name.startswith("blocks.6."):
        return {"s": "pred_w", "b": "pred_b"}[what]
    if name.startswith("blocks.0."):
        return "conv1_w" if ".conv." in name else f"res_conv1_bn_{what}"
    stage, block, rest = re.fullmatch(r"blocks\.(\d)\.res_blocks\.(\d)\.(.+)\.\w+", name).groups()
    place = {"branch1_conv": "1", "branch1_norm": "1"}.get(rest) or "2" + rest[-1]
    kind = "w" if "conv" in rest else f"bn_{what}"
    return f"res{ {'1': 2, '3': 3, '4': 4, '5': 5}[stage] }_{block}_branch{place}_{kind}"


@pytest.mark.slow
@torch.no_grad()
def test_a_published_checkpoint_is_evaluated_directly(run, theirs, i3d, videos, tmp_path):
    words = ("data=folder", f"data.root={videos}", *SMALL, f"hydra.run.dir={tmp_path}")
    outcome = run("eval", f"ckpt={i3d}", *words)
    assert outcome.status == 0, outcome.err
    assert "I3D_8x8_R50.pyth (pytorchvideo): i3d_r50_8x8 with bn, 400 classes, 320 tensors" in outcome.out
    assert "1 clip (linspace) x 1 crop of 37, 8 frames x stride 8" in outcome.out
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["videos_scored"], metrics["classes"]) == (2, 400)
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["riding a bike", "zumba"]

    names = sorted(path.relative_to(videos).as_posix() for path in (videos / "val").rglob("*.mp4"))
    manifest = Manifest.from_rows([(name, 0) for name in names], root=videos, classes=["a"])
    pixels = ViewDataset(manifest, clip=ClipSpec(8, 64), crop=CropSpec(32), num_clips=1, num_crops=1, rule="linspace")
    theirs.blocks[6].pool = torch.nn.AdaptiveAvgPool3d(1)  # its own window is larger than 37 pixels leave
    for row, item in zip(rows, pixels, strict=True):
        clip = (next(item.views())[None].double() / 255 - 0.45) / 0.225
        best = theirs(clip.float()).softmax(-1)[0].topk(5).values
        found = [float(row[f"score{k}"]) for k in range(1, 6)]
        np.testing.assert_allclose(found, best.numpy(), rtol=0, atol=2e-6)


@pytest.mark.slow
def test_a_file_with_non_local_blocks_is_read_with_all_of_them(tmp_path):
    net = build_model("i3d_r50_8x8", num_classes=400, norm=make_norm("bn"), nonlocal_blocks=5)
    torch.save({"model_state": net.state_dict()}, tmp_path / "I3D_NLN_8x8_R50.pyth")
    found = open_checkpoint(tmp_path / "I3D_NLN_8x8_R50.pyth")
    assert found.description.model["nonlocal"] == 5
    assert all(torch.equal(found.net[name], value) for name, value in net.state_dict().items())


def test_a_caffe2_pickle_is_taken_for_either_of_its_two_networks(theirs, i3d, tmp_path, capsys):
    state = {name: value for name, value in theirs.state_dict().items() if "num_batches" not in name}
    blobs = {caffe2_name(name): value.numpy() for name, value in state.items()}
    path = tmp_path / "I3D_8x8_R50.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs}))
    found = open_checkpoint(path)
    assert found.description.model == {"name": "i3d_r50", "width": 64, "dropout": 0.5, "pool1": "nonlocal"}
    assert (found.description.clip_len, found.description.span) == (32, 64)
    assert found.description.test.clip_rule == "nonlocal"
    assert (
        "taken for the former; for the latter use model=i3d_r50_8x8, or network=i3d_r50_8x8" in capsys.readouterr().out
    )
    found = open_checkpoint(path, network="i3d_r50_8x8")
    assert found.description.model["pool1"] == "pytorchvideo"
    assert (found.description.clip_len, found.description.span) == (8, 64)
    assert "taken for" not in capsys.readouterr().out
    expected = open_checkpoint(i3d).net
    assert all(torch.equal(found.net[name], expected[name]) for name in expected if "num_batches" not in name)
    with pytest.raises(ValueError, match=r"network=slow_r50, but I3D_8x8_R50.pkl has the tensors of i3d_r50; leave"):
        open_checkpoint(path, network="slow_r50")


@pytest.fixture(scope="module")
def x3d(tmp_path_factory):
    """A file of three classes, whose names are nowhere in it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("zoo") / "x3d.pyth"
    torch.save({"model_state": hub.x3d_s(model_num_class=3).state_dict()}, path)
    return path


def test_classes_that_a_file_does_not_name_are_given_in_a_file(x3d, tmp_path):
    with pytest.raises(ValueError, match=r"x3d.pyth does not name its 3 classes; give a file with one name per line"):
        open_checkpoint(x3d)
    (tmp_path / "two.txt").write_text("run\njump\n")
    with pytest.raises(ValueError, match=r"two.txt has 2 names and x3d.pyth 3 classes; give one name per line"):
        open_checkpoint(x3d, classes=str(tmp_path / "two.txt"))
    (tmp_path / "three.txt").write_text("run\njump\n\nsit\n")
    assert open_checkpoint(x3d, classes=str(tmp_path / "three.txt")).description.classes == ("run", "jump", "sit")


def test_the_commands_open_it_too(i3d):
    model = open_model(i3d, device="cpu")
    assert (model.classes[0], model.classes[399]) == ("abseiling", "zumba")
    assert (model.clip.clip_len, model.crop.crop) == (8, 224)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.ckpt", b"<html>404</html>", "is not a whole checkpoint"),
        ("a.pyth", bytes(999), "is not a whole checkpoint"),
        ("a.pkl", pickle.dumps({"w": print}), "cannot be read as a dictionary of numeric arrays"),
        ("a.npz", b"no archive", "cannot be read as an archive of numeric arrays"),
    ],
)
def test_what_nobody_published_is_refused(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_checkpoint(tmp_path / name)


@pytest.mark.slow
def test_pictures_and_unknown_tensors_are_refused(tmp_path):
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    with pytest.raises(
        ValueError, match=r"holds weights of a picture net, not a published video net; use it with init="
    ):
        open_checkpoint(tmp_path / "resnet.pth")
    torch.save({"encoder.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other.pth is not a weights file of a known format: it holds encoder"):
        open_checkpoint(tmp_path / "other.pth")
    torch.save({"vidgn": {"format": 99}, "state_dict": {}}, tmp_path / "later.ckpt")
    with pytest.raises(ValueError, match="has format 99"):
        open_checkpoint(tmp_path / "later.ckpt")
    with pytest.raises(FileNotFoundError, match=r"none.pyth does not exist"):
        open_checkpoint(tmp_path / "none.pyth")


def test_names_that_two_classes_share_stay_as_they_are():
    assert respell(["a_b", "c"], ["a b", "C", "d"]) == ("a b", "C")
    assert respell(["a_b"], ["a_b", "a b"]) == ("a_b",)


@pytest.mark.slow
def test_a_network_it_is_not_and_embedded_videos_are_one_sentence(run, x3d, tmp_path):
    (tmp_path / "classes.txt").write_text("run\njump\nsit\n")
    words = (f"ckpt={x3d}", f"classes={tmp_path / 'classes.txt'}", f"hydra.run.dir={tmp_path / 'run'}")
    outcome = run("eval", *words, "network=i3d_r50", "data=folder", f"data.root={tmp_path}")
    assert outcome.status == 2
    assert "network=i3d_r50, but x3d.pyth has the tensors of x3d_s; leave network out." in outcome.err
    outcome = run("eval", *words, "data=motions", "data.train=1", "data.val=1", "data.test=1")
    assert outcome.status == 2
    assert "12 of the 12 classes" in outcome.err
    assert "are unknown to the checkpoint (move_down, " in outcome.err
