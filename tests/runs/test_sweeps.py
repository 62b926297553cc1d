"""Sweeps: every combination in a folder of its own, checked before the first job runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidgn.runs.sweeps import combinations, folder_name

ROOT = Path(__file__).parents[2]
QUICK = ("trainer.max_steps=1", "test=false", "logger=none")


@pytest.mark.slow
def test_words_are_a_name_of_one_folder_and_two_stay_two():
    assert folder_name("batch=4,norm=gn,optim.lr=1e-3") == "batch=4,norm=gn,optim.lr=1e-3"
    names = [folder_name(words) for words in ("init=a/b", "init=a_b", "init=a b", "init='a'", "init=..\\b", "init=ä/b")]
    assert len(set(names)) == 6
    assert not any(set(name) & set("/\\ '\"\0") for name in names)
    long = [folder_name(f"data.root={'/folder' * 60},seed={seed}") for seed in (1, 2)]
    assert len(set(long)) == 2
    assert all(len(name.encode()) <= 120 for name in [*long, folder_name("init=" + "ä" * 200)])


def test_every_value_is_in_a_job_that_is_checked():
    assert combinations(["-m", "norm=bn,gn", "seed=range(0,3)", "batch=4"]) == [
        ["norm=bn", "seed=0", "batch=4"],
        ["norm=gn", "seed=0", "batch=4"],
        ["norm=bn", "seed=1", "batch=4"],
        ["norm=bn", "seed=2", "batch=4"],
    ]
    assert combinations(["norm=bn,gn"]) == [["norm=bn,gn"]]  # no sweep: the word is wrong, and said to be
    with pytest.raises(ValueError, match=r"'norm=\(' cannot be read .*; quote lists and special characters"):
        combinations(["--multirun", "norm=("])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("norm=gn,gnn",), "'norm=gnn' is unknown; it must be one of "),
        (("nrom=gn,bn",), "unknown option 'nrom'; did you mean 'norm'?"),
        (("norm",), "'norm' is not of the form KEY=VALUE"),
    ],
)
def test_a_mistake_in_a_sweep_is_told_before_the_first_job(run, tmp_path, words, message):
    outcome = run("train", "-m", *words, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert outcome.status == 2
    assert message in outcome.err
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
def test_a_sweep_trains_every_combination_in_its_folder(run, tiny, cache, tmp_path):
    words = [word for word in tiny if not word.startswith("data.num_workers")]
    outcome = run(
        "train", "-m", *words, *QUICK, "data.num_workers=0", f"data.root={cache}/", "norm=gn,ln", "batch=8,4",
        f"hydra.sweep.dir={tmp_path}", "hydra.job.config.override_dirname.exclude_keys=[" + ",".join(
            word.partition("=")[0] for word in (*words, *QUICK, "data.num_workers=0")) + "]",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    root = f"data.root=_{'_'.join(cache.parts[1:])}_"
    found = sorted(path for path in tmp_path.iterdir() if path.is_dir())
    assert [path.name.rpartition("-")[0] for path in found] == [
        f"batch={batch},{root},norm={norm}" for batch in (4, 8) for norm in ("gn", "ln")
    ]
    assert all((path / "checkpoints" / "last.ckpt").is_file() for path in found)


@pytest.mark.slow
def test_a_sweep_through_submitit_is_the_same_command(tiny, cache, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    done = subprocess.run(
        [
            sys.executable, "train.py", "-m", "hydra/launcher=submitit_local", *tiny, *QUICK, "seed=1",
            f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=seed${seed}",
        ],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "seed1" / "checkpoints" / "last.ckpt").is_file()
