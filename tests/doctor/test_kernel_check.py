"""The check of the Triton kernels: what passes, what fails, and what is recorded for `fuse=auto`."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from vidgn.doctor import kernel_check
from vidgn.doctor.kernel_check import NormSite, check_gpu_kernels, compare_and_time
from vidgn.norms.kernels.record import KernelCheck, machine_key, read_check, record_file, write_check

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
SITES = (NormSite((2, 8, 2, 3, 5), 2, False), NormSite((2, 16, 2, 3, 3), 4, True))

INTERPRETED = """
import torch
from vidgn.doctor.kernel_check import NormSite, compare_and_time
from vidgn.norms.kernels import operation, triton_launch

site = NormSite((1, 8, 2, 3, 5), 2, True)
assert operation.uses_triton(torch.zeros(site.shape))
print(compare_and_time(torch.device("cpu"), sites=[site]).passed)
forward = triton_launch.forward
triton_launch.forward = lambda *args: (forward(*args)[0] * 1.1, *forward(*args)[1:])
print(compare_and_time(torch.device("cpu"), sites=[site]).detail)
"""


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("VIDGN_CACHE", str(tmp_path))
    monkeypatch.setattr(kernel_check, "ROUNDS", 3)


@pytest.mark.slow
def test_interpreted_kernels_pass_and_a_wrong_one_fails():
    pytest.importorskip("triton", reason="Triton is not installed: its kernels cannot be interpreted")
    given = os.environ | {"PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "1", "VIDGN_KERNELS": "on"}
    command = [sys.executable, "-c", INTERPRETED]
    run = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    passed, detail = run.stdout.splitlines()
    assert passed == "True"
    assert detail.startswith("y of 1x8x2x3x5 in bfloat16 is off by ")


def test_a_wrong_gradient_is_a_failed_check(monkeypatch):
    right = kernel_check._fused
    assert compare_and_time(CPU, sites=SITES).passed

    def wrong(site, values):
        y = right(site, values)
        y.register_hook(lambda slope: slope * 1.1)
        return y

    monkeypatch.setattr(kernel_check, "_fused", wrong)
    check = compare_and_time(CPU, sites=SITES)
    assert (check.passed, check.chooses_kernels) == (False, False)
    assert "dx of 2x8x2x3x5 in bfloat16 is off by 1.0e-01" in check.detail


def test_an_error_of_the_compiler_is_a_failed_check(monkeypatch):
    def fail(site, values):
        raise RuntimeError("PTXAS error: no such target\nmore lines")

    monkeypatch.setattr(kernel_check, "_fused", fail)
    assert compare_and_time(CPU, sites=SITES) == KernelCheck(False, 0.0, "RuntimeError: PTXAS error: no such target")


@pytest.mark.parametrize(("kernels", "speedup"), [(1.0, 2.0), (4.0, 0.5)])
def test_the_fastest_of_torchs_ways_counts(monkeypatch, kernels, speedup):
    seconds = iter([kernels, 3.0, 2.0] * 6)  # kernels, under autocast, in bfloat16: three rounds of two sites
    monkeypatch.setattr(kernel_check, "_seconds", lambda *_: next(seconds))
    check = compare_and_time(CPU, sites=SITES)
    assert (check.passed, check.speedup, check.chooses_kernels) == (True, speedup, speedup > 1)


@pytest.mark.parametrize(
    ("check", "status", "advice"),
    [
        (KernelCheck(True, 1.7, "within 2e-03 of float64"), "ok", "fuse=auto takes them here"),
        (KernelCheck(True, 0.7, "within 2e-03 of float64"), "info", "fuse=auto takes torch's operations, fuse=true"),
        (KernelCheck(False, 0.0, "dx is off"), "warn", "fuse=auto takes torch's operations; please report this line"),
    ],
)
def test_the_doctor_records_the_check_of_its_gpu(monkeypatch, check, status, advice):
    monkeypatch.setattr(kernel_check, "gpu_name", lambda: "Test GPU")
    monkeypatch.setattr(kernel_check, "compare_and_time", lambda device: check)
    write_check(machine_key("Test GPU"), KernelCheck(True, 9.0, "an earlier check"))
    ((name, told, detail, hint),) = check_gpu_kernels()
    assert (name, told) == ("triton kernels", status)
    assert check.detail in detail
    assert advice in hint
    assert read_check(machine_key("Test GPU")) == check
    assert read_check(machine_key("Other GPU")) is None


def test_without_a_gpu_nothing_is_checked_or_recorded(monkeypatch):
    monkeypatch.setattr(kernel_check, "gpu_name", lambda: None)
    assert check_gpu_kernels() == []
    assert not record_file().exists()


def test_the_key_names_what_decides_the_result():
    key = machine_key("Test GPU")
    assert key.startswith(f"Test GPU, torch {version('torch')}, triton ")
    assert ", vidgn " in key


@pytest.mark.parametrize("text", ["", "[]", '{"kernels": 3}', '{"kernels": {"Test GPU": {"passed": true}}}'])
def test_a_damaged_record_is_no_record(text):
    record_file().write_text(text)
    assert read_check("Test GPU") is None
    write_check("Test GPU", KernelCheck(True, 2.0, "ok"))
    assert read_check("Test GPU") == KernelCheck(True, 2.0, "ok")
