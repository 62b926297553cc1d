"""benchmarks/gpu.py runs from end to end without a GPU, on tiny shapes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def dry(*words, **environment):
    pytest.importorskip("triton", reason="Triton is not installed: its kernels cannot be interpreted")
    given = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "1"} | environment
    command = [sys.executable, "benchmarks/gpu.py", *words]
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_whole_table_is_printed_without_a_gpu():
    run = dry("--dry", "--json")
    assert run.returncode == 0, run.stderr[-3000:]
    lines = run.stdout.splitlines()
    assert lines[1].startswith("relative errors against float64: {'y': 0.00")
    labels = [line.split("{")[0].split("8f_b2 ")[1].strip() for line in lines if line.startswith("8f_b2 ")]
    assert len(labels) == 10
    assert {label[:2] for label in labels} == {"vi", "B0", "B1", "B2", "B3", "B4"}
    told = json.loads(lines[-1])
    assert told["kernel_share_of_copy_big_sites"] is None  # nothing big here
    assert {"8f_b2_step_ms_vs_B0", "8f_b2_eval_ms_vs_best_compile", "8f_b2_step_ms_vs_B4"} <= set(told)
    assert all(value > 0 for value in told.values() if value is not None)


@pytest.mark.slow
def test_tuning_prints_rows_of_the_table():
    run = dry("--dry", "--tune")
    assert run.returncode == 0, run.stderr[-3000:]
    rows = {}
    exec(run.stdout[run.stdout.index("MEASURED") :], {"Cut": lambda **values: values}, rows)
    assert {key[0] for key in rows["MEASURED"]} == {"forward", "backward"}
    assert all(set(cut) == {"resident", "tile", "warps", "programs"} for cut in rows["MEASURED"].values())


@pytest.mark.slow
def test_without_a_gpu_it_says_how_to_run_it():
    run = dry(CUDA_VISIBLE_DEVICES="")
    assert run.returncode == 1
    assert "There is no CUDA GPU here; --dry runs the same code on the CPU (TRITON_INTERPRET=1)." in run.stderr
