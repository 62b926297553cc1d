import json

import numpy as np
import pytest
import torch
from torch import nn

from vidgn.data.synthetic.motions import write_video
from vidgn.inference.explain import grad_cam
from vidgn.inference.features import extract, features_of
from vidgn.inference.model import open_model
from vidgn.models.registry import build_model
from vidgn.norms import make_norm


@pytest.mark.slow
def test_windows_have_features_scores_and_times(vidgn, trained, video, tmp_path):
    status, out, _ = vidgn(
        "features", video, "--ckpt", trained, "--layer", "res4", "--window", "16", "--stride", "20", "--out", tmp_path
    )
    assert status == 0
    assert out == f"{tmp_path}/noise.npz  (4, 128)\n"  # res4 of a net of width 8 has 128 channels
    with np.load(tmp_path / "noise.npz") as file:
        assert file["features"].dtype == np.float32
        np.testing.assert_array_equal(file["start_frame"], [0, 20, 40, 44])
        np.testing.assert_array_equal(file["end_frame"], [16, 36, 56, 60])
        np.testing.assert_allclose(file["start_seconds"], [0, 0.8, 1.6, 1.76])
        np.testing.assert_allclose(file["scores"].sum(1), 1, rtol=1e-5)
        assert list(file["classes"])[:2] == ["move_down", "move_left"]
        assert float(file["fps"]) == 25.0


@pytest.mark.slow
def test_windows_of_an_uneven_video_have_the_seconds_at_which_frames_are_shown(trained, tmp_path):
    shown = np.concatenate([np.arange(30) / 30, 1 + np.arange(31) / 2])  # mean rate: 2.8 frames per second
    path = tmp_path / "uneven.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3), np.uint8), seconds=shown)
    model = open_model(trained, device="cpu")
    arrays = extract(str(path), model, layer="res5", clip=model.clip, stride=28)
    np.testing.assert_array_equal(arrays["start_frame"], [0, 28, 44])
    np.testing.assert_allclose(arrays["start_seconds"], [0, 28 / 30, 8.0], atol=0.001)
    np.testing.assert_allclose(arrays["end_seconds"], [16 / 30, 8.0, 16.0], atol=0.6)
    assert float(arrays["fps"]) == pytest.approx(60 / 16, rel=0.05)


@pytest.mark.slow
def test_the_classifier_on_pooled_res5_gives_the_logits(trained, video):
    """With a map of one window (the whole clip) the head is a linear layer of the mean of res5."""
    model = open_model(trained, device="cpu")
    arrays = extract(str(video), model, layer="res5", clip=model.clip, stride=16, pool=False)
    assert arrays["features"].shape[1:] == (256, 1, 2, 2)
    head = model.classifier.net.blocks[6]
    assert head.window == 1  # 32 px / 32: each of the 2 x 2 positions is classified by itself
    positions = torch.from_numpy(arrays["features"]).mean(2).flatten(2).transpose(1, 2)  # (n, 4, 256)
    with torch.inference_mode():
        scores = head.proj(positions).softmax(-1).mean(1)
    np.testing.assert_allclose(scores.numpy(), arrays["scores"], rtol=1e-4)


@pytest.mark.slow
def test_json_lists_files_and_a_broken_video_is_status_1(vidgn, trained, video, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"")
    status, out, _ = vidgn("features", tmp_path, "--ckpt", trained, "--out", tmp_path / "f", "--json")
    records = {record["video"].rpartition("/")[2]: record for record in json.loads(out)["videos"]}
    assert status == 1
    assert records["noise.mp4"]["shape"] == [4, 256]
    assert "empty file" in records["broken.mp4"]["error"]
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["noise.npz"]


@pytest.mark.slow
def test_equal_names_in_two_folders_make_two_files(vidgn, trained, video, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / "v" / folder).mkdir(parents=True)
        (tmp_path / "v" / folder / "one.mp4").symlink_to(video)
    status, _, _ = vidgn("features", tmp_path / "v", "--ckpt", trained, "--out", tmp_path / "f")
    assert status == 0
    assert sorted(path.name for path in (tmp_path / "f").iterdir()) == ["a__one.mp4.npz", "b__one.mp4.npz"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--layer", "res6"],
            "--layer res6 is not a stage of the checkpoint's net, i3d_r50; use one of res2, res3, ",
        ),
        (["--window", "20"], "--window (20) must be a multiple of the 8 frames the net takes; use 16, as in training."),
        (["--stride", "-1"], "--stride (-1) must be at least 1 frame"),
    ],
)
def test_a_mistake_is_one_sentence(vidgn, trained, video, tmp_path, words, said):
    status, _, err = vidgn("features", video, "--ckpt", trained, "--out", tmp_path, *words)
    assert status == 2
    assert said in err


@pytest.mark.slow
def test_a_net_without_stages_is_refused(trained, video):
    model = open_model(trained, device="cpu")
    model.classifier.net.blocks = nn.ModuleList([nn.Identity()])
    with pytest.raises(ValueError, match=r"--layer res5 is not a stage of .* i3d_r50; use a net of the ResNet family"):
        extract(str(video), model, layer="res5", clip=model.clip, stride=16)


# What each stage puts out for a clip of 16 frames at 32 px, from the tables of the articles: channels, frames and
# rows of res2 and of res5. SlowFast: the channels of both paths (res2 with the slow path's lateral ones), slow frames.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "res2", "res5"),
    [
        ("slow_r50", (32, 16, 8), (256, 16, 1)),
        ("c2d_r50", (32, 16, 8), (256, 8, 1)),
        ("r2plus1d_r50", (32, 16, 8), (256, 4, 1)),
        ("csn_r101", (32, 16, 8), (256, 2, 1)),
        ("x3d_s", (8, 16, 8), (64, 16, 1)),
        ("bit_r50", (32, 16, 8), (256, 16, 1)),
        ("slowfast_r50", (40 + 4, 4, 8), (256 + 32, 4, 1)),
    ],
)
def test_every_network_has_features_and_heat(name, res2, res5):
    net = build_model(name, num_classes=3, norm=make_norm("bn"), width=8).eval()
    clip = torch.randn(1, 3, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    for layer, (channels, frames, rows) in {"res2": res2, "res5": res5}.items():
        features, _ = features_of(net, net.stages[layer], clip)
        assert features.shape == (channels, frames, rows, rows)
    heat = grad_cam(net, clip, label=1)
    assert heat.shape == (16, 32, 32)
    assert 0 <= heat.min() <= heat.max() <= 1


@pytest.mark.slow
def test_real_videos_have_features(vidgn, trained, real_videos, tmp_path):
    status, out, _ = vidgn("features", real_videos / "clips", "--ckpt", trained, "--out", tmp_path)
    assert status == 0
    assert len(out.splitlines()) == len(list((real_videos / "clips").iterdir()))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["features", "explain"])
def test_a_name_with_a_line_break_makes_no_line_of_its_own(vidgn, trained, video, tmp_path, command):
    path = tmp_path / "a\nerror: all is lost.mp4"
    path.write_bytes(video.read_bytes())
    status, out, err = vidgn(command, path, "--ckpt", trained, "--out", tmp_path / "out")
    assert status == 0, err
    assert "a\\nerror: all is lost" in out
    assert not [line for line in out.splitlines() if line.startswith("error")]
