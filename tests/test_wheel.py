"""The wheel, in an environment of its own and outside the repository: everything but the recipes works."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
pytest.importorskip("hatchling", reason="it builds the wheel")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    (found,) = folder.glob("vidgn-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Run a program of an environment that has the wheel, in an empty folder.

    What the wheel needs is taken from the environment of the tests: its .pth files, and with them an editable vidgn,
    do not count there.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "venv", with_pip=False)
    words = [sys.executable, "-m", "pip", "--python", str(folder / "venv"), "install", "--no-deps", "--no-index"]
    subprocess.run([*words, "--disable-pip-version-check", str(wheel)], check=True, capture_output=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "empty").mkdir()
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}

    def run(program, *words):
        return subprocess.run(
            [str(folder / "venv" / "bin" / program), *map(str, words)],
            cwd=folder / "empty", env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


@pytest.mark.slow
def test_it_holds_the_package_with_its_page_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    assert {"vidgn/inference/static/serve.html", "vidgn/configs/train.yaml", "vidgn/py.typed"} <= set(names)
    assert {f"vidgn/weights/motions.{end}" for end in ("ckpt", "ckpt.sha256", "json")} <= set(names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"vidgn"}
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.slow
def test_the_norm_comes_from_the_wheel(installed):
    done = installed("python", "-c", "import vidgn; from vidgn import GroupNorm3d; print(vidgn.__file__)")
    assert done.returncode == 0, done.stderr
    assert "/venv/lib/python" in done.stdout


@pytest.mark.slow
def test_its_weights_come_from_the_wheel(installed):
    code = "import vidgn; print(vidgn.load('motions', device='cpu').classes[0], vidgn.__file__)"
    done = installed("python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("move_down")
    assert "/venv/lib/python" in done.stdout


@pytest.mark.slow
def test_the_command_helps(installed):
    done = installed("vidgn", "--help")
    assert done.returncode == 0, done.stderr
    assert "predict" in done.stdout


@pytest.mark.slow
def test_training_and_testing_work_outside_the_repository(installed, tiny, tmp_path):
    run = tmp_path / "run"
    done = installed("vidgn", "train", *tiny, f"hydra.run.dir={run}")
    assert done.returncode == 0, done.stderr
    done = installed(
        "vidgn", "eval", f"ckpt={run}/checkpoints/best.ckpt", "data.num_workers=0", f"hydra.run.dir={run}-eval"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run-eval" / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()


@pytest.mark.slow
def test_the_doctor_finds_nothing_broken(installed):
    done = installed("vidgn", "doctor", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing is broken" in done.stdout


@pytest.mark.slow
def test_a_video_is_scored(installed, tmp_path):
    """With a checkpoint of random weights: it is the command that is tried."""
    import torch

    from vidgn.data.synthetic.motions import write_video
    from vidgn.models.registry import build_net

    model = {"name": "i3d_r50", "width": 8, "dropout": 0.0, "pool1": "nonlocal"}
    norm = {"name": "gn", "num_groups": 4}
    net = build_net(model=model, norm=norm, crop=32, num_classes=2)
    describe = {
        "format": 1, "classes": ["sit", "run"], "model": model, "norm": norm, "crop": 32,
        "clip": {"clip_len": 8, "span": 16}, "normalize": {"mean": [0.45] * 3, "std": [0.225] * 3},
        "test": {"num_clips": 1, "num_crops": 1, "clip_rule": "linspace", "view_batch": 1},
        "data": {"name": "folder", "root": None, "backend": "pyav"}, "versions": {},
    }  # fmt: skip
    state = {f"net.{key}": value for key, value in net.state_dict().items()}
    torch.save({"vidgn": describe, "state_dict": state}, tmp_path / "a.ckpt")
    write_video(tmp_path / "a.mp4", np.zeros((20, 48, 64, 3), np.uint8))
    done = installed("vidgn", "predict", tmp_path / "a.mp4", "--ckpt", tmp_path / "a.ckpt", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "1 scored / 0 failed" in done.stdout
