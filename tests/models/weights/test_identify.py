import pickle

import numpy as np
import pytest
import torch
import torchvision
from pytorchvideo.models import hub

from vidgn.models.registry import build_model
from vidgn.models.weights.identify import identify
from vidgn.norms import make_norm

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
KINETICS = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))


def empty_state(build):
    """The names and shapes of a net of full width, each tensor one number in memory."""
    with torch.device("meta"):
        state = build().state_dict()
    return {name: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape) for name, tensor in state.items()}


def saved(state, tmp_path, name="weights.pyth"):
    torch.save({"model_state": state}, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize(
    ("build", "model", "pool1", "clip"),
    [
        (hub.i3d_r50, "i3d_r50_8x8", "pytorchvideo", (8, 64, 224)),
        (hub.c2d_r50, "c2d_r50", None, (8, 64, 224)),
        (hub.slow_r50, "slow_r50", None, (8, 64, 224)),
        (hub.slowfast_r50, "slowfast_r50", None, (32, 64, 224)),
        (hub.r2plus1d_r50, "r2plus1d_r50", None, (16, 64, 224)),
        (hub.csn_r101, "csn_r101", None, (32, 64, 224)),
        (hub.x3d_s, "x3d_s", None, (13, 78, 160)),
    ],
)
def test_a_net_of_pytorchvideos_hub_is_known_by_its_tensors(build, model, pool1, clip, tmp_path):
    state = empty_state(build)
    found = identify(saved(state, tmp_path))
    assert (found.model, found.norm, found.num_classes, found.pool1, found.clip) == (model, "bn", 400, pool1, clip)
    assert (found.mean, found.std, found.source_format, found.notes) == (*KINETICS, "pytorchvideo", ())
    assert (found.classes[0], found.classes[399]) == ("abseiling", "zumba")


@pytest.fixture(scope="module")
def shapes(sources):
    """The I3D at full width, 9 classes: shapes by Caffe2's names."""
    return {name: value.shape for name, value in sources.random_blobs(width=64, num_classes=9).items()}


@pytest.mark.parametrize(
    ("source", "model", "pool1", "frames", "pixels"),
    [
        ("slowfast", "i3d_r50_8x8", "pytorchvideo", 8, KINETICS),
        ("mmaction", "i3d_r50", "mmaction2", 32, IMAGENET),
        ("gluon", "i3d_r50", "mmaction2", 32, IMAGENET),
    ],
)
def test_an_i3d_in_other_names_is_known_with_its_stem(source, model, pool1, frames, pixels, sources, shapes, tmp_path):
    rename = getattr(sources, f"{source}_name")
    state = {rename(name): torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    found = identify(saved(state, tmp_path))
    assert (found.model, found.num_classes, found.pool1, found.clip.clip_len) == (model, 9, pool1, frames)
    assert (found.mean, found.std) == pixels
    assert found.classes is None  # nine are not Kinetics'


@pytest.mark.slow
def test_group_norm_is_told_from_batch_norm(tmp_path):
    state = empty_state(lambda: build_model("slow_r50", num_classes=7, norm=make_norm("gn")))
    assert identify(saved(state, tmp_path))[:3] == ("slow_r50", "gn", 7)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "count"), [("i3d_r50_8x8", 5), ("i3d_r50_8x8", 10), ("i3d_r101", 5)])
def test_non_local_blocks_are_counted(model, count, tmp_path):
    options = {"num_classes": 7, "norm": make_norm("bn"), "nonlocal_blocks": count}
    found = identify(saved(empty_state(lambda: build_model(model, **options)), tmp_path))
    assert (found.model, found.num_classes, found.nonlocal_blocks) == (model, 7, count)


def test_a_caffe2_pickle_says_what_it_leaves_open(shapes, tmp_path):
    blobs = {name: np.zeros(shape, np.int8) for name, shape in shapes.items()}  # a quarter of the bytes
    (tmp_path / "i3d.pkl").write_bytes(pickle.dumps({"blobs": blobs}))
    found = identify(tmp_path / "i3d.pkl")
    assert (found.model, found.pool1, found.num_classes, found.clip) == ("i3d_r50", "nonlocal", 9, (32, 64, 224))
    assert found.notes == (
        "names and shapes are those of video-nonlocal-net's 32-frame I3D and of PySlowFast's 8-frame I3D_8x8_R50.pkl;"
        " taken for the former; for the latter use model=i3d_r50_8x8, or network=i3d_r50_8x8 of eval.py",
    )


def test_what_fits_no_network_is_refused(tmp_path):
    state = empty_state(hub.slowfast_r101)
    with pytest.raises(
        ValueError, match=r"weights.pyth \(pytorchvideo\) has the tensors of no network here; there are i3d"
    ):
        identify(saved(state, tmp_path))
    del state["blocks.6.proj.bias"]
    with pytest.raises(ValueError, match="has the tensors of no network here"):
        identify(saved(state, tmp_path))


def test_picture_weights_and_our_own_checkpoints_are_named(tmp_path):
    state = empty_state(torchvision.models.resnet50)
    with pytest.raises(
        ValueError, match="holds weights of a picture net, not a published video net; use it with init="
    ):
        identify(saved(state, tmp_path))
    ours = {"vidgn": {}, "state_dict": {"net.blocks.0.conv.weight": torch.zeros(1)}}
    torch.save(ours, tmp_path / "ours.ckpt")
    with pytest.raises(ValueError, match="holds a vidgn checkpoint, which describes itself, not a published video net"):
        identify(tmp_path / "ours.ckpt")
