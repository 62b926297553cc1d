import json

import numpy as np
import pytest
import torch
from torch import nn

from experiments import convert, convert_motions, convert_trials
from vidgn import create_model
from vidgn.data.synthetic.motions import MotionsSpec, draw_video, write_video


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for split in ("train", "val"):
        for number in range(2):
            path = folder / split / "move_up" / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, draw_video("move_up", spec=MotionsSpec(num_frames=4, side=40), key=(0, number)))
    return folder


class Three(nn.Module):
    def __init__(self, noise):
        super().__init__()
        self.noise = noise

    def forward(self, x):
        return x, x + self.noise, -x


def test_correlations_are_numpys():
    torch.manual_seed(0)
    frames, noise = torch.randn(20, 3, 4, 4), torch.randn(1, 3, 4, 4)
    got = convert.correlations(Three(0), Three(noise), frames)
    a, b = frames.numpy().ravel(), (frames + noise).numpy().ravel()
    assert got == pytest.approx([1, np.corrcoef(a, b)[0, 1], 1], abs=1e-4)


@pytest.mark.slow
def test_published_weights_without_layer4_are_compared(videos, tmp_path, capsys):
    torch.manual_seed(0)
    weights = tmp_path / "weights.pth"
    torch.save(convert.Trunk().state_dict(), weights)
    out = tmp_path / "stages.json"
    options = ["--weights", str(weights), "--videos", str(videos), "--clips", "2", "--out", str(out)]
    convert.main(["stages", *options, "--methods", "copy"])
    row = json.loads(out.read_text())["methods"]["copy"]
    assert set(row["correlation"]) == {"layer1", "layer2", "layer3"}
    assert all(-1 <= value <= 1 for value in row["correlation"].values())
    assert "copy  layer1" in capsys.readouterr().out


@pytest.mark.slow
def test_what_is_missing_is_named(videos, tmp_path):
    state = convert.Trunk().state_dict()
    del state["layer3.5.bn3.bias"]
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"lacks layer3\.5\.bn3\.bias; give a ResNet-50"):
        convert.load_trunk(tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="train holds 2 videos in class folders; give a folder with 3 or more"):
        convert.read_frames(videos / "train", count=3)


def test_strides_move_to_the_1x1_convolutions():
    trunk = convert.Trunk()
    shapes = [y.shape for y in trunk(torch.zeros(1, 3, 64, 64))]
    convert.move_strides(trunk)
    assert [y.shape for y in trunk(torch.zeros(1, 3, 64, 64))] == shapes
    assert (trunk.layer2[0].conv1.stride, trunk.layer3[0].conv2.stride) == ((2, 2), (1, 1))


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Record the commands, which write what the next ones read."""
    commands = []

    def run(*options):
        commands.append(options)
        folder = next((option.partition("=")[2] for option in options if option.startswith("hydra.run.dir=")), None)
        if options[0] == "eval":
            convert.Path(folder).mkdir(parents=True, exist_ok=True)
            convert.Path(folder, "metrics.json").write_text(json.dumps({"video_top1": 90.0, "videos_scored": 240}))
        if options[0] == "convert-weights" and len(commands) == 5:
            raise RuntimeError("interrupted")
        return "top-1 is the batch-norm net's on 60.0 % of 96 clips of val (10.0 % with copied weights)\n"

    monkeypatch.setattr(convert_motions, "_vidgn", run)
    return commands


@pytest.mark.slow
def test_motions_go_on_where_they_stopped(started, tmp_path):
    options = ["motions", "--seeds", "3", "--work", str(tmp_path / "work"), "--results", str(tmp_path)]
    with pytest.raises(RuntimeError, match="interrupted"):
        convert.main(options)
    first = [command[0] for command in started]
    assert first == ["train", "eval", "convert-weights", "eval", "convert-weights"]
    started.clear()
    started.extend([("",)] * 10)  # no interruption
    convert.main(options)
    rows = json.loads((tmp_path / "convert-motions-s3.json").read_text())
    assert {"bn", "gn", "gn, distilled", *convert_motions.STARTS} <= set(rows)
    assert rows["gn, distilled"]["options"] == ["--norm", "gn", "--distill", "120"]
    assert rows["gn"]["top1"] == 90
    again = [command[0] for command in started[10:]]
    assert again.count("eval") + first.count("eval") == 5  # no net is tested twice


def test_absorbed_means_leave_the_outputs_of_a_batch_norm_net():
    torch.manual_seed(0)
    net = create_model("i3d_r50", norm="bn", num_classes=3, width=8).eval()
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    clips = torch.randn(2, 3, 8, 32, 32)
    before = net(clips)
    convert_trials.absorb_means(net)
    assert all(not b.any() for name, b in net.named_buffers() if name.endswith("running_mean"))
    torch.testing.assert_close(net(clips), before, rtol=1e-4, atol=1e-4)


def test_trials_are_measured_once_and_tabled(tmp_path, capsys):
    torch.manual_seed(0)
    teacher = create_model("i3d_r50", norm="bn", num_classes=3, width=8).eval()
    clips = [torch.randn(2, 3, 8, 32, 32) for _ in range(2)]
    rows = {name: convert_trials.measure(name, teacher, clips, clips) for name in ("affine", "affine, means absorbed")}
    assert all(0 <= row["agreement"] <= 100 and row["groups"] for row in rows.values())
    out = tmp_path / "trials.json"
    out.write_text(json.dumps({"runs": {"seed 0": rows, "seed 1": {"affine": {"agreement": 50.0}}}}))
    convert_trials.main(["--table", "--out", str(out)])
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert head == "| fit | seed 0 | seed 1 |"
    assert [line.split(" | ")[2] for line in lines] == ["50.0 |", " |"]
