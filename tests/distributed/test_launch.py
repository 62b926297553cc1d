"""The launch lines of docs/reliability.md, as they stand there."""

import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vidgn.runs.command_line import check_words
from vidgn.runs.sweeps import combinations

ROOT = Path(__file__).parents[2]
LINES = [
    line
    for block in re.findall(r"```\n(.*?)```", (ROOT / "docs" / "reliability.md").read_text(), re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if "train.py" in line
]
QUICK = (
    "data.num_workers=0", "model.width=8", "crop=32", "clip_len=8", "span=16", "trainer.max_steps=2", "num_clips=1",
    "num_crops=1", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "batch=4", "logger.names=[csv]",
)  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_the_words_of_every_line_exist(line):
    words = shlex.split(line.partition("#")[0])
    words = words[words.index("train.py") + 1 :]
    assert len(words) > 2
    for job in combinations(words):
        check_words("train", job)


def launched(line, folder, videos, *, port=0):
    """Start a line of the documentation here: two processes on this machine, the given videos, a short run."""
    line = line.replace("nproc_per_node=8", f"nproc_per_node={1 if port else 2}").replace("HOST:29500", f"[::1]:{port}")
    line = line.replace("trainer.devices=8", f"trainer.devices={1 if port else 2}")
    words = shlex.split(line.replace("VIDEOS", str(videos)).replace("runs/mine", str(folder)))
    start = {"torchrun": [sys.executable, "-m", "torch.distributed.run"], "python": [sys.executable]}[words[0]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*start, *words[1:], *QUICK], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def videos(cache):
    from vidgn.data.synthetic.motions import MotionsSpec, prepare_motions

    return prepare_motions(cache, spec=MotionsSpec(train=2, val=1, test=1))


@pytest.mark.slow
@pytest.mark.parametrize("start", ["python", "torchrun --standalone"])  # the first starts the other process itself
def test_either_line_for_one_machine_is_a_run_of_two(tmp_path, videos, start):
    (line,) = (line for line in LINES if line.startswith(start) and "devices=8" in line)
    process = launched(line, tmp_path / "run", videos)
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert "batch 4 x 2" in said
    assert "videos: 12 scored / 12 expected / 0 failed" in said


@pytest.mark.slow
def test_the_line_for_several_machines_is_one_run_of_two(tmp_path, videos):
    (line,) = (line for line in LINES if line.startswith("torchrun --nnodes=2"))
    with socket.socket(socket.AF_INET6) as free:
        free.bind(("::1", 0))
        port = free.getsockname()[1]
    processes = [launched(line, tmp_path / "run", videos, port=port) for _ in range(2)]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert sum("batch 4 x 2" in text for text in said) == 1  # the first rank speaks
    assert sum("videos: 12 scored / 12 expected / 0 failed" in text for text in said) == 1
