import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = ["model.width=8", "crop=32", "clip_len=8", "num_clips=2", "logger=none"]


def dry(folder, *words):
    command = [sys.executable, str(ROOT / "train.py"), "trainer=dry", f"hydra.run.dir={folder}/run", *TINY, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=250)


def test_a_preset_runs_dry_without_data(tmp_path):
    done = dry(tmp_path, "preset=bn_t64_b4", "trainer.dry.gpu=H100-80GB", "trainer.dry.gpus=4")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "dry.json").read_text())
    assert record["job"]["train_clips"] == 104 * 246_535
    assert record["job"]["test_views"] == 19_881 * 6  # 2 clips x 3 crops
    assert record["job"]["batch"] == 4
    assert record["words"] == {"gpu": "H100-80GB", "gpus": 4, "cores": 96, "utilization": 0.25, "dollars": None}
    measured = record["measured"]
    assert measured["views_per_video"] == 6
    assert min(measured[name] for name in ("step_seconds", "view_seconds", "read_seconds", "view_read_seconds")) > 0
    assert 3 < measured["loss"] < 9  # about ln 400 = 5.99, after two updates
    assert "on 4 x H100-80GB at 25% of its peak (assumed)" in done.stdout
    assert "limit: reading" in done.stdout
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_dry_run_takes_the_videos_that_are_there_and_says_what_is_wrong(tmp_path):
    done = dry(
        tmp_path, "data=motions", "data.train=1", "data.val=1", "data.test=1", f"data.root={tmp_path}", "epochs=3"
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "dry.json").read_text())
    assert record["job"]["train_clips"] == 3 * 12  # one video of each of the twelve classes
    wrong = dry(tmp_path, "preset=gn_t32_b4", "trainer.dry.steps=0")
    assert wrong.returncode == 2
    assert "trainer.dry.steps (0) must be at least 1; 2 are enough." in wrong.stderr


@pytest.mark.slow
def test_a_sweep_runs_all_cells_of_the_table(tmp_path):
    words = ["-m", "preset=bn_t32_b4,gn_t32_b4", f"hydra.sweep.dir={tmp_path}/sweep", "trainer.dry.steps=1"]
    command = [sys.executable, str(ROOT / "train.py"), *words, "trainer=dry", *TINY]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    found = [json.loads(path.read_text()) for path in sorted((tmp_path / "sweep").rglob("dry.json"))]
    assert len(found) == 2
    assert {record["job"]["batch"] for record in found} == {4}
