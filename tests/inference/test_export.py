import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vidgn.data.synthetic.motions import write_video
from vidgn.inference.export import Exported, compare_outputs
from vidgn.inference.model import open_model

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:onnxscript"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.onnx"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.onnx"),
]


def need_onnx():
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra `export`)")


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "noise.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), np.uint8))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "torch-export", "safetensors"])
def test_the_exported_net_gives_the_same_scores(vidgn, trained, video, tmp_path, to):
    if to == "onnx":
        need_onnx()
    status, out, err = vidgn("export", video, "--ckpt", trained, "--to", to, "--out", tmp_path / "net", "--json")
    assert status == 0, err
    told = json.loads(out[out.index("{") :])
    assert told["difference"] < 1e-5
    assert (told["agree"], told["clips"], told["on"]) == (1, 1, "videos")
    assert told["bytes"] == (tmp_path / "net").stat().st_size


def test_without_videos_random_clips_are_compared(vidgn, trained, tmp_path):
    status, out, _ = vidgn("export", "--ckpt", trained, "--to", "safetensors", "--out", tmp_path / "net.safetensors")
    assert status == 0
    assert "largest difference of a score 0.0e+00, top-1 agrees on 4 of 4 random clips" in out


@pytest.mark.slow
def test_the_file_says_what_a_runner_must_know(vidgn, trained, tmp_path):
    from safetensors import safe_open

    vidgn("export", "--ckpt", trained, "--to", "safetensors", "--out", tmp_path / "net.safetensors")
    with safe_open(tmp_path / "net.safetensors", "pt") as file:
        told = file.metadata()
    assert json.loads(told["classes"])[:2] == ["move_down", "move_left"]
    assert json.loads(told["clip"]) == {"clip_len": 8, "span": 16}
    assert told["side"] == "37"
    assert json.loads(told["normalize"])["mean"] == [0.45] * 3


@pytest.mark.slow
def test_the_example_runs_the_onnx_file_on_its_own(vidgn, trained, video, tmp_path):
    need_onnx()
    status, _, _ = vidgn("export", "--ckpt", trained, "--to", "onnx", "--out", tmp_path / "net.onnx")
    assert status == 0
    script = Path(__file__).parents[2] / "docs" / "run_onnx.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "net.onnx"), str(video)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert set(open_model(trained, device="cpu").classes) >= {line.split()[-1] for line in lines}


@pytest.mark.slow
def test_another_net_is_noticed(trained):
    model = open_model(trained, device="cpu")
    net = Exported(model.classifier.normalize, model.classifier.net).eval()
    clip = np.zeros((1, 3, 8, 37, 37), np.uint8)
    with torch.inference_mode():
        right = net(torch.from_numpy(clip)).numpy()
    wrong = np.roll(right, 1, axis=1)
    told = compare_outputs(net, lambda clips: np.repeat(wrong, len(clips), 0), [clip])
    assert told["agree"] == 0
    assert told["difference"] > 0
    with pytest.raises(RuntimeError, match="does not take a batch of two clips"):
        compare_outputs(net, lambda clips: right, [clip])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "tflite"], "--to tflite is unknown; use one of onnx, torch-export, safetensors."),
        (["--to", "safetensors", "--out", "C"], "is an input of this command"),
    ],
)
def test_a_mistake_is_one_sentence(vidgn, trained, words, said):
    ckpt = trained / "checkpoints" / "best.ckpt"
    status, _, err = vidgn("export", "--ckpt", ckpt, *[str(ckpt) if word == "C" else word for word in words])
    assert status == 2
    assert said in err


@pytest.mark.slow
def test_a_missing_package_is_named(vidgn, trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    status, _, err = vidgn("export", "--ckpt", trained, "--to", "onnx", "--out", tmp_path / "net.onnx")
    assert status == 2
    assert "--to needs the package onnx, which is not installed; pip install 'vidgn[export]'." in err
