import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.synthetic.motions import write_video
from vidgn.runs.config import RunConfig
from vidgn.runs.session import compose_options
from vidgn.training import dry_run as dry_run_module
from vidgn.training.dry_run import dry_run

ROOT = Path(__file__).parents[2]
TINY = ("model.width=8", "crop=32", "clip_len=8", "num_clips=2")


@pytest.fixture
def say(monkeypatch, tmp_path, capsys):
    """Run the words dry; return the record, which must be that of the file, and what was printed."""
    monkeypatch.setattr(dry_run_module, "MADE_SIZE", (64, 80, 70))  # pixels and frames of the videos that are made

    def run(*words):
        composed = compose_options("train", ["trainer=dry", *words])
        config = RunConfig.read(composed._replace(folder=tmp_path))
        record = dry_run(config, config.trainer.dry)
        assert json.loads((tmp_path / "dry.json").read_text()) == record
        return record, capsys.readouterr().out

    return run


@pytest.mark.slow
def test_a_preset_runs_dry_without_data(say):
    record, text = say("preset=bn_t64_b4", *TINY, "trainer.dry.gpu=H100-80GB", "trainer.dry.gpus=4")
    assert record["job"]["train_clips"] == 104 * 246_535
    assert record["job"]["test_views"] == 19_881 * 6  # 2 clips x 3 crops
    assert record["job"]["batch"] == 4
    assert record["words"] == {"gpu": "H100-80GB", "gpus": 4, "cores": 96, "utilization": 0.25, "dollars": None}
    measured = record["measured"]
    assert measured["views_per_video"] == 6
    assert min(measured[name] for name in ("step_seconds", "view_seconds", "read_seconds", "view_read_seconds")) > 0
    assert 3 < measured["loss"] < 9  # ln 400 = 5.99 before the three updates
    assert "in 1,602,478 steps of 4 x 4" in text  # 25,639,640 / 16
    assert "on 4 x H100-80GB at 25% of its peak (assumed)" in text
    assert "limit: reading" in text


@pytest.mark.slow
def test_the_counts_are_those_of_the_full_size_net(say, monkeypatch):
    # The net is counted at full size; what would take long here is not run.
    found = dry_run_module.Measured("none", 1.0, 0.1, 1.0, 0.05, 0.02, 30, 6.0)
    monkeypatch.setattr(dry_run_module, "_measure", lambda config, dry, videos: found)
    record, text = say("preset=gn_t64_b4")
    assert record["job"]["macs"] == pytest.approx(65.66e9, rel=1e-3)
    assert record["job"]["test_macs"] == pytest.approx(85.86e9, rel=1e-3)
    assert record["job"]["parameter_bytes"] == 4 * 28_043_472
    assert record["job"]["test_views"] == 19_881 * 30
    assert "28.04 M parameters, 65.66 G multiply-adds per training clip, 85.86 G per view" in text
    assert "limit: the net (40 cores read as fast as the net)" in text  # 791.96 clips/s x 0.05 s


@pytest.mark.slow
def test_a_net_too_large_for_the_gpu_is_told(say, monkeypatch):
    found = dry_run_module.Measured("none", 1.0, 0.1, 1.0, 0.05, 0.02, 30, 6.0)
    monkeypatch.setattr(dry_run_module, "_measure", lambda config, dry, videos: found)
    _, text = say("preset=gn_t64_b4", "batch=32", "trainer.dry.gpu=RTX4090-24GB")
    assert "does NOT fit into a RTX4090-24GB: take a smaller batch" in text


@pytest.mark.slow
def test_a_dry_run_takes_the_videos_that_are_there(say, tmp_path):
    sizes = ("data.train=1", "data.val=1", "data.test=1", "epochs=3")
    record, _ = say(f"data.root={tmp_path}", *sizes, *TINY)
    assert record["job"]["train_clips"] == 3 * 12  # one video of each of the twelve classes
    assert record["job"]["test_views"] == 12 * 2  # data=motions has one crop


@pytest.mark.slow
def test_videos_that_cannot_be_read_stop_it(say, tmp_path):
    for path in (tmp_path / split / label / "0.mp4" for split in ("train", "val") for label in ("one", "two")):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"nothing")
    with pytest.raises(VideoDecodeError, match=r"0\.mp4: not a video: it begins with the text"):
        say("data=folder", f"data.root={tmp_path}", "trainer.dry.steps=1", *TINY)


@pytest.mark.slow
def test_no_steps_are_refused(say):
    with pytest.raises(ValueError, match=r"trainer\.dry\.steps \(0\) must be at least 1; 2 are enough"):
        say("preset=gn_t32_b4", "trainer.dry.steps=0", *TINY)


@pytest.mark.slow
def test_pictures_are_refused_before_they_are_drawn(say):
    with pytest.raises(ValueError, match=r"trainer=dry measures videos; task=image has none: leave out trainer=dry\."):
        say("task=image")
    with pytest.raises(ValueError, match=r"data=exposures holds pictures, which task=video does not take"):
        say("data=exposures")


@pytest.mark.slow
def test_a_sweep_over_presets_measures_each(tmp_path):
    for split in ("train", "val"):
        rows = f"label,youtube_id,time_start,time_end,split\njump,abc,0,10,{split}\n"
        (tmp_path / f"{split}.csv").write_text(rows)
        (tmp_path / split).mkdir()
        write_video(tmp_path / split / "abc_000000_000010.mp4", np.zeros((66, 48, 64, 3), np.uint8))
    words = ["-m", "preset=bn_t32_b4,gn_t32_b4", f"data.root={tmp_path}", f"hydra.sweep.dir={tmp_path}/sweep"]
    command = [sys.executable, str(ROOT / "train.py"), *words, "trainer=dry", *TINY]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    found = [json.loads(path.read_text()) for path in (tmp_path / "sweep").rglob("dry.json")]
    assert [record["job"]["train_clips"] for record in found] == [104, 104]
