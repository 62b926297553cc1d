"""A process group that is really stopped for longer than the deadline (a laptop that sleeps, a paused container)."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "train.py").is_file())
DEADLINE = 6.0
STOPPED = 9.0  # seconds; more than the deadline, and more than what a busy machine is granted

READ_ONE_VIDEO = """
import sys, time
from pathlib import Path

import numpy as np

from vidgn.data import dataset
from vidgn.data.batches import ClipBatch
from vidgn.data.clips import ClipSpec
from vidgn.data.dataset import ClipDataset
from vidgn.data.faults.quarantine import Quarantine
from vidgn.data.loading.loader import VideoLoader, patience
from vidgn.data.loading.sampler import EpochSampler
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.readers.gather import as_pictures
from vidgn.data.transforms import CropSpec

folder, workers, deadline = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])


class Waiting:
    path, notes = "good.mp4", ()

    def __len__(self):
        return 8

    def pictures(self, indices):
        (folder / "began").touch()
        while not (folder / "go").exists():
            time.sleep(0.01)
        return as_pictures((i, np.full((8, 8, 3), i, np.uint8)) for i in sorted(set(map(int, indices))))

    def __enter__(self):
        return self

    def __exit__(self, *args):
        pass


dataset.open_video = lambda path, *, backend: Waiting()
data = ClipDataset(
    Manifest.from_rows([("good.mp4", 0)], root=folder, classes=["x"]),
    clip=ClipSpec(2, 4), crop=CropSpec(4), seed=0, flip=False, stream="train", deadline_seconds=deadline,
    quarantine=Quarantine(folder / "ledger.jsonl", num_videos=1, max_share=1.0),
)
loader = VideoLoader(
    data, batch_sampler=EpochSampler(1, batch=1, seed=0, shuffle=False), collate_fn=ClipBatch.collate,
    num_workers=workers, timeout=patience(deadline, num_workers=workers),
)
(batch,) = loader
print(batch.videos.tolist(), data.quarantine.rows())
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_group_that_was_stopped_for_longer_than_the_deadline_loses_no_video(tmp_path, workers):
    process = subprocess.Popen(
        [sys.executable, "-c", READ_ONE_VIDEO, str(tmp_path), str(workers), str(DEADLINE)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        while not (tmp_path / "began").exists() and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        time.sleep(STOPPED)
        (tmp_path / "go").touch()
        os.killpg(process.pid, signal.SIGCONT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert out.strip() == "[0] []"
