import pytest
import torch
from torch import nn

import vidgn
from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.checkpoints.description import KEY, Description
from vidgn.conversion.clips import ClipFile
from vidgn.conversion.weights import convert_weights
from vidgn.data.spec import DataSpec
from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video
from vidgn.evaluation.restore import restore
from vidgn.models.registry import build_net


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two classes of four short videos in train and two in val."""
    folder = tmp_path_factory.mktemp("videos")
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            for label in ("move_up", "move_down"):
                path = folder / split / label / f"{number}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_video(path, draw_video(label, spec=MotionsSpec(num_frames=12, side=40), key=(0, number)))
    return folder


CLASSES = ("move_down", "move_up")
MODEL = {"name": "i3d_r50", "width": 8, "dropout": 0.0, "pool1": "nonlocal"}


def randomize(net):
    """Give every norm a line and statistics that a new net has not."""
    torch.manual_seed(0)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm3d):
            nn.init.uniform_(layer.weight, 0.5, 1)
            nn.init.normal_(layer.bias, std=0.1)
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return net


@pytest.fixture(scope="module")
def teacher(videos, tmp_path_factory):
    """A checkpoint of a batch-norm net."""
    net = randomize(build_net(model=MODEL, norm={"name": "bn"}, crop=32, num_classes=2))
    about = Description(
        classes=CLASSES, model=MODEL, norm={"name": "bn"}, clip_len=8, span=8, crop=32,
        data=dict(vars(DataSpec("folder", root=str(videos), num_workers=0))),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("teacher") / "bn.ckpt"
    state = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({KEY: about.to_plain(), "state_dict": state, "global_step": 9, "epoch": 1}, path)
    return path


@pytest.fixture(scope="module")
def converted(teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("converted") / "gn.ckpt"
    return convert_weights(teacher, out=out, clips=4, batch=4, device="cpu")


@torch.no_grad()
def difference(one, other):
    torch.manual_seed(1)
    x = torch.randn(3, 3, 8, 32, 32)
    return float((one(x) - other(x)).square().mean() / other(x).var())


@pytest.mark.slow
def test_the_checkpoint_describes_a_group_norm_net(converted, teacher):
    checkpoint = read_checkpoint(converted.path)
    about, before = checkpoint.description, read_checkpoint(teacher).description
    assert about.norm == {"name": "gn", "num_groups": 4, "channels_per_group": None, "eps": 1e-5}  # width 8
    assert (about.classes, about.model, about.clip_len, about.crop) == (CLASSES, before.model, 8, 32)
    assert (checkpoint.step, checkpoint.epoch) == (0, 0)
    kernels = [name for name in checkpoint.net if "conv" in name]
    assert len(kernels) == 53
    assert all(torch.equal(checkpoint.net[name], read_checkpoint(teacher).net[name]) for name in kernels)
    assert not any("running" in name for name in checkpoint.net)


@pytest.mark.slow
def test_every_layer_is_reported_in_the_order_of_the_forward_pass(converted):
    assert len(converted.fits) == 53
    assert converted.fits[0].name == "blocks.0.norm"
    assert converted.fits[-1].name == "blocks.5.res_blocks.2.branch2.norm_c"
    assert all(0 < fit.r2 <= 1 for fit in converted.fits)
    text = str(converted)
    assert "4 groups  blocks.0.norm" in text
    assert f"wrote {converted.path}" in text
    assert f"top-1 is the batch-norm net's on {converted.converted:.1f} % of 4 clips of val" in text


@pytest.mark.slow
def test_the_fitted_net_is_nearer_to_the_batch_norm_net_than_the_copied_one(converted, teacher):
    target, fitted = (restore(read_checkpoint(path)).net.eval() for path in (teacher, converted.path))
    copied = build_net(model=MODEL, norm=read_checkpoint(converted.path).description.norm, crop=32, num_classes=2)
    copied.load_state_dict({name: read_checkpoint(teacher).net[name] for name in copied.state_dict()})
    assert difference(fitted, target) < difference(copied.eval(), target)


@pytest.mark.slow
def test_the_function_stands_in_the_front_door():
    assert vidgn.convert_weights is convert_weights


@pytest.mark.slow
def test_frozen_batch_norm_is_exact(teacher, tmp_path):
    done = convert_weights(teacher, out=tmp_path / "frozen.ckpt", norm="frozen_bn", clips=2, batch=2, device="cpu")
    assert (done.fits, done.converted) == ((), 100)
    target, frozen = (restore(read_checkpoint(path)).net.eval() for path in (teacher, done.path))
    assert difference(frozen, target) < 1e-9


@pytest.mark.slow
def test_image_weights_are_inflated_and_calibrated_on_the_videos(videos, tmp_path):
    image = randomize(build_net(model={"name": "c2d_r50", "width": 8}, norm={"name": "bn"}, crop=32, num_classes=5))
    about = Description(
        classes=tuple("abcde"), model={"name": "c2d_r50", "width": 8, "dropout": 0.0}, norm={"name": "bn"},
        clip_len=1, span=1, crop=32,
    )  # fmt: skip
    state = {f"net.{name}": t for name, t in image.state_dict().items() if not name.startswith("blocks.5.")}
    torch.save({KEY: about.to_plain(), "state_dict": state}, tmp_path / "images.ckpt")
    done = convert_weights(
        tmp_path / "images.ckpt", out=tmp_path / "gn.ckpt", model=MODEL, sizes=(8, 8, 32), init_fresh=["res5"],
        data={"name": "folder", "root": str(videos)}, clips=2, batch=2, device="cpu",
    )  # fmt: skip
    about = read_checkpoint(done.path).description
    assert (about.classes, about.clip_len, about.norm["name"], done.converted) == (CLASSES, 8, "gn", None)
    assert len(done.fits) == 53
    assert "top-1" not in str(done)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "bn"}, "norm=bn must be one of gn, ln, frozen_bn"),
        ({"clips": 0}, r"clips \(0\) and batch \(8\) must be at least 1"),
        ({"norm": "ln", "num_groups": 4}, r"num_groups \(4\) is an option of norm=gn; leave it out for norm=ln"),
        ({"data": {"rooot": "x"}}, "unknown option data.rooot"),
    ],
)
def test_what_cannot_be_is_refused(teacher, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        convert_weights(teacher, out=tmp_path / "gn.ckpt", device="cpu", **options)
    assert not (tmp_path / "gn.ckpt").exists()


@pytest.mark.slow
def test_neither_the_source_nor_another_file_is_written_over(teacher, tmp_path):
    with pytest.raises(ValueError, match="is an input of this command"):
        convert_weights(teacher, out=teacher, device="cpu", overwrite=True)
    (tmp_path / "mine.ckpt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"mine\.ckpt exists already; choose another place, or add --overwrite"):
        convert_weights(teacher, out=tmp_path / "mine.ckpt", device="cpu")


@pytest.mark.slow
def test_a_group_norm_checkpoint_is_refused(converted, tmp_path):
    with pytest.raises(ValueError, match="has norm=gn, which keeps no statistics; convert-weights takes"):
        convert_weights(converted.path, out=tmp_path / "twice.ckpt", device="cpu")


@pytest.mark.slow
def test_image_weights_need_the_videos(tmp_path):
    with pytest.raises(ValueError, match=r"image weights name no videos .* set data=folder data.root=DIR"):
        convert_weights("torchvision", out=tmp_path / "gn.ckpt", model=MODEL, device="cpu")


def test_clips_come_back_from_their_file_in_any_batches():
    torch.manual_seed(0)
    clips = torch.randint(0, 256, (5, 3, 2, 4, 4), dtype=torch.uint8)
    with ClipFile(normalize=nn.Identity(), batch=2) as file:
        file.write(clips[:3])
        file.write(clips[3:])
        for _ in range(2):  # it is read once per layer
            assert [len(batch) for batch in file] == [2, 2, 1]
            assert torch.equal(torch.cat(list(file)), clips)
