"""benchmarks/augment.py measures every augmentation there is, and runs from end to end."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from vidgn.data.augment import AugmentSpec

ROOT = Path(__file__).parents[1]


@pytest.fixture
def augment(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module("augment")


@pytest.mark.slow
def test_the_table_and_the_json_line_have_each_way_with_one_and_two_workers():
    given = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "benchmarks/augment.py", "--smoke", "--rounds", "1", "--only", "mixup,erasing", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    names = ["default", "off", "mixup", "erasing"]
    assert [line.split()[0] for line in lines[2:6]] == names
    told = json.loads(lines[-1])
    for field in ("clips_per_second", "cpu_ms_per_clip"):
        assert list(told[field]) == names
        assert all(value > 0 for by_workers in told[field].values() for value in by_workers.values())
        assert {tuple(by_workers) for by_workers in told[field].values()} == {("1", "2")}
    assert told["vs_default"]["default"] == 1


def test_a_typo_is_answered(augment):
    with pytest.raises(SystemExit, match=r"--only \(mixupp\) must be some of default, off, resized_crop"):
        augment.main(["--smoke", "--only", "mixupp"])


def test_no_augmentation_is_left_out(augment):
    measured = {name: spec for name, spec in augment.WAYS.items() if name not in ("default", "off")}
    assert set(measured) == {field.name for field in fields(AugmentSpec)}
    for name, spec in measured.items():  # each way has its own augmentation and no other
        assert [field.name for field in fields(spec) if getattr(spec, field.name)] == [name]
