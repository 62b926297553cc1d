"""`import vidgn` as a person uses it: build, load, predict, train and evaluate."""

import json

import av
import numpy as np
import pytest
import torch

import vidgn
from vidgn.api import _as_overrides
from vidgn.data.array import ArrayReader


@pytest.fixture(scope="module")
def model(trained):
    return vidgn.load(trained, device="cpu")


@pytest.fixture(scope="module")
def video(trained, motions):
    return sorted((motions / "test").rglob("*.mp4"))[0]


def frames_of(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_every_public_name_can_be_imported():
    assert [name for name in vidgn.__all__ if not hasattr(vidgn, name)] == []
    assert set(vidgn.__all__) <= set(dir(vidgn))
    assert vidgn.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vidgn.nothing


@pytest.mark.parametrize("norm", ["gn", "bn", "ln"])
def test_a_model_is_built_with_any_norm(norm):
    net = vidgn.create_model("i3d_r50", norm=norm, num_classes=5, width=8).eval()
    assert net(torch.zeros(1, 3, 8, 32, 32)).shape == (1, 5)


def test_group_norm_has_as_many_groups_as_asked_for():
    net = vidgn.create_model("i3d_r50", num_classes=5, width=8, num_groups=2)
    assert {norm.num_groups for norm in net.modules() if isinstance(norm, vidgn.GroupNorm3d)} == {2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "i3d_r5"}, "model .'i3d_r5'. must be one of i3d_r50"),
        ({"norm": "gm"}, "norm .'gm'. must be one of gn"),
        ({"wdith": 8}, "i3d_r50 has no option 'wdith'; it has width, dropout, pool1, nonlocal_blocks, crop"),
        ({"norm": "bn", "num_groups": 4}, "num_groups .4. is an option of norm='gn'"),
        ({"width": 0}, "width .0. must be positive"),
    ],
)
def test_a_mistake_in_a_model_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        vidgn.create_model(**{"name": "i3d_r50", **arguments})


def test_what_is_known_about_a_model():
    assert vidgn.model_info("x3d_s")[:4] == ("x3d_s", 13, 78, 160)
    with pytest.raises(ValueError, match="must be one of"):
        vidgn.model_info("resnet")


def test_scores_are_those_of_the_test(model, video, trained, tmp_path):
    result = vidgn.evaluate(trained, f"hydra.run.dir={tmp_path}", trainer={"accelerator": "cpu"})
    assert result.videos_scored == result.videos_expected == 12
    assert result.folder == tmp_path
    assert json.loads((tmp_path / "metrics.json").read_text())["video_top1"] == result.video_top1
    rows = (tmp_path / "predictions.csv").read_text().splitlines()
    assert len(rows) == 13
    scores = model.scores(video)
    assert scores.shape == (12,)
    assert scores.sum() == pytest.approx(1, abs=1e-5)
    best = model.classes[int(scores.argmax())]
    (row,) = [row for row in rows if f"{video.parent.name}/{video.name}" in row]
    assert best in row


def test_frames_in_memory_score_like_their_file(model, video):
    np.testing.assert_allclose(model.scores(frames_of(video)), model.scores(video), atol=1e-6)


def test_one_video_or_several(model, video):
    best = model.predict(video, top=3)
    assert len(best) == 3
    assert best[0].score >= best[1].score >= best[2].score
    assert model.predict([video, str(video)], top=3) == [best, best]
    with pytest.raises(ValueError, match=r"top \(0\) must be at least 1"):
        model.predict(video, top=0)


def test_timeline_features_and_explanation_take_arrays_too(model, video):
    frames = frames_of(video)
    assert model.timeline(frames)[-1].end == len(frames)
    features = model.features(frames, layer="res4")
    assert features.dtype == np.float32
    assert features.ndim == 2
    seen = model.explain(frames, name=model.classes[0])
    assert seen.name == model.classes[0]
    assert seen.heat.shape == (model.clip.clip_len, 37, 37)  # 256/224 of the 32 px crop


def test_a_saved_model_is_the_same_model(model, video, tmp_path):
    path = model.save(tmp_path / "again.ckpt")
    np.testing.assert_array_equal(vidgn.load(path, device="cpu").scores(video), model.scores(video))
    with pytest.raises(FileExistsError, match="exists already"):
        model.save(path)


def test_a_pushed_folder_loads(model, video, trained, tmp_path):
    pytest.importorskip("safetensors")
    from vidgn.inference.hub import run_push

    with open(tmp_path / "out", "w") as out:
        run_push("me/model", ckpt=str(trained), folder=str(tmp_path / "pushed"), private=False, out=out)
    again = vidgn.load(f"hub:{tmp_path / 'pushed'}", device="cpu")
    np.testing.assert_array_equal(again.scores(video), model.scores(video))


@pytest.mark.parametrize(
    ("frames", "error", "message"),
    [
        (np.zeros((4, 8, 8, 3)), TypeError, "frames .float64. must be uint8"),
        (np.zeros((8, 8, 3), np.uint8), ValueError, r"must have the shape \(T, H, W, 3\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), ValueError, "at least one frame"),
    ],
)
def test_an_array_of_another_kind_is_named(frames, error, message):
    with pytest.raises(error, match=message):
        ArrayReader(frames)


def test_an_array_is_read_by_index():
    frames = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    with ArrayReader(frames, fps=25.0) as reader:
        np.testing.assert_array_equal(reader.read(np.array([[4, 0], [4, 2]]))[..., 0, 0, 0], [[4, 0], [4, 2]])
        with pytest.raises(IndexError, match="frame 5 of array does not exist"):
            list(reader.frames([5]))


def test_options_become_overrides():
    given = {"root": "my videos", "strict": True, "lr": 1, "drops": [1, 2], "init": None, "trainer": {"devices": 1}}
    assert _as_overrides(given, config_name="train") == [
        "data.root='my videos'", "strict=true", "lr=1", "drops=[1,2]", "init=null", "trainer.devices=1",
    ]  # fmt: skip


@pytest.mark.slow
def test_training_in_this_process_gives_what_the_command_gives(trained, tiny, tmp_path):
    result = vidgn.train(*tiny, f"hydra.run.dir={tmp_path / 'run'}", log={"percentiles": "res5"})
    assert (tmp_path / "run" / "predictions.csv").read_bytes() == (trained / "predictions.csv").read_bytes()
    assert result.folder == tmp_path / "run"


def test_an_unknown_option_is_named():
    with pytest.raises(ValueError, match="epoch"):
        vidgn.train(epohcs=3)
