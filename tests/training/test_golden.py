"""A loss curve that is kept as a file: a change that alters training must say so by changing it.

Write it again with `VIDGN_GOLDEN=write pytest tests/training/test_golden.py -m slow`, and say why in the commit.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("golden.json")
STEPS = 30
OPTIONS = (
    "norm=bn", "optim=scratch", "optim.lr=0.06", "data.train=20", "data.val=1", "data.test=1", "data.num_workers=0",
    "data.seed=0", "seed=0", "epochs=1", "batch=8", "model.width=8", "crop=32", "clip_len=8", "span=16",
    f"trainer.max_steps={STEPS}", "trainer.limit_val_batches=1", "trainer.log_every_n_steps=1", "test=false",
    "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.enable_progress_bar=false", "logger.names=[csv]",
)  # fmt: skip


@pytest.mark.slow
def test_training_takes_the_course_that_is_kept(tmp_path):
    done = subprocess.run(
        [sys.executable, "train.py", *OPTIONS, f"hydra.run.dir={tmp_path}"],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (tmp_path / "metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]
    assert len(losses) == STEPS
    if os.environ.get("VIDGN_GOLDEN") == "write":
        FILE.write_text(json.dumps({"options": list(OPTIONS), "loss": [round(loss, 5) for loss in losses]}) + "\n")
    kept = json.loads(FILE.read_text())
    assert kept["options"] == list(OPTIONS)
    # Processors sum in another order; the difference grows from step to step, 0.04 after 30 steps of batch norm.
    assert losses[:3] == pytest.approx(kept["loss"][:3], abs=2e-3)
    assert sum(abs(a - b) for a, b in zip(losses, kept["loss"], strict=True)) / STEPS < 0.05
