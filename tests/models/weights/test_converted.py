"""Weights in the formats of others become group norm, layer norm and frozen batch norm."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from pytorchvideo.models import hub

from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.conversion import weights as conversion
from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video
from vidgn.evaluation.published import open_checkpoint

CLASSES = [f"class{number}" for number in range(9)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for split in ("train", "val"):
        for number, name in enumerate(CLASSES[:2]):
            (folder / split / name).mkdir(parents=True)
            frames = draw_video("move_up", spec=MotionsSpec(num_frames=12, side=40), key=(0, number))
            write_video(folder / split / name / "a.mp4", frames)
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    return folder


def write_published(source, sources, path):
    """Write an I3D of full width and 9 classes with random weights as `source` names it; return the file."""
    if source == "pytorchvideo":
        torch.manual_seed(0)
        torch.save({"model_state": hub.i3d_r50(model_num_class=9).state_dict()}, path / "net.pyth")
        return path / "net.pyth"
    blobs = sources.random_blobs(width=64, num_classes=9)
    if source == "video-nonlocal-net":
        (path / "net.pkl").write_bytes(pickle.dumps({"blobs": {name: np.asarray(t) for name, t in blobs.items()}}))
        return path / "net.pkl"
    rename = {"PySlowFast": sources.slowfast_name, "mmaction2": sources.mmaction_name}[source]
    key = "model_state" if source == "PySlowFast" else "state_dict"
    torch.save({key: {rename(name): torch.as_tensor(value) for name, value in blobs.items()}}, path / "net.pyth")
    return path / "net.pyth"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "norm"),
    [("pytorchvideo", "gn"), ("PySlowFast", "ln"), ("video-nonlocal-net", "frozen_bn"), ("mmaction2", "gn")],
)
def test_published_video_nets_are_converted(source, norm, sources, videos, tmp_path, monkeypatch):
    def small(*args, **options):  # clips that a test can afford
        found = open_checkpoint(*args, **options)
        return dataclasses.replace(
            found, description=dataclasses.replace(found.description, clip_len=8, span=8, crop=32)
        )

    monkeypatch.setattr(conversion, "open_checkpoint", small)
    file = write_published(source, sources, tmp_path)
    done = conversion.convert_weights(
        file, out=tmp_path / "out.ckpt", norm=norm, classes=str(videos / "classes.txt"), clips=2, batch=2, device="cpu",
        data={"name": "folder", "root": str(videos), "num_workers": 0},
    )  # fmt: skip
    converted, published = read_checkpoint(done.path), open_checkpoint(file, classes=str(videos / "classes.txt"))
    about = converted.description
    assert (about.norm["name"], list(about.classes), about.model) == (norm, CLASSES, published.description.model)
    assert (about.mean, about.std) == (published.description.mean, published.description.std)
    assert len(done.fits) == (0 if norm == "frozen_bn" else 53)
    assert done.converted == 100 or norm != "frozen_bn"
    kernel = "blocks.5.res_blocks.2.branch2.conv_b.weight"
    assert torch.equal(converted.net[kernel], published.net[kernel])


@pytest.mark.slow
def test_image_weights_are_calibrated_on_frames_and_on_pictures(videos, tmp_path):
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet50().state_dict(), tmp_path / "resnet50.pth")
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "pictures" / split / name).mkdir(parents=True)
            pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / split / name / "one.png")
    frames = {"name": "folder", "root": str(videos), "num_workers": 0}
    pictures = {"name": "images", "root": str(tmp_path / "pictures"), "num_workers": 0}
    for model, data, sizes in (("i3d_r50", frames, (8, 8, 32)),
                               ("c2d_r50", pictures, (1, 1, 32))):  # fmt: skip
        done = conversion.convert_weights(
            tmp_path / "resnet50.pth", out=tmp_path / f"{model}.ckpt", model={"name": model, "width": 64}, sizes=sizes,
            data=data, clips=2, batch=2, device="cpu",
        )  # fmt: skip
        assert len(done.fits) == 53
        assert done.converted is None  # the classifier is new
