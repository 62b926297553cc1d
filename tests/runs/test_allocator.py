import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest

from vidgn.runs import allocator

GLIBC = hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
SIZE = 256 << 20
CODE = f"""
import resource, sys, torch
from pathlib import Path
from vidgn.runs.allocator import give_back_memory, keep_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.full(({SIZE},), 1, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

new_pages()
start = resident()
print(keep_memory(), [new_pages() for _ in range(20)][-1], (resident() - start) >> 20)
print(give_back_memory(), (resident() - start) >> 20)
"""


@pytest.mark.slow
@pytest.mark.skipif(not GLIBC, reason="the allocator here is not glibc's")
def test_kept_memory_is_used_again_and_then_given_back():
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    kept, given_back = (line.split() for line in run.stdout.splitlines())
    assert [kept[0], given_back[0]] == ["True", "True"]
    assert int(kept[1]) < 100  # of 65,536 pages of 4 kB, or 128 of 2 MB
    assert int(kept[2]) >= 250
    assert int(given_back[1]) <= 10


def test_another_allocator_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: SimpleNamespace())
    assert not allocator.keep_memory()
    assert not allocator.give_back_memory()


@pytest.mark.parametrize("ask", [allocator.keep_memory, allocator.give_back_memory])
def test_a_refused_setting_is_told(monkeypatch, ask):
    library = SimpleNamespace(gnu_get_libc_version=None, mallopt=lambda name, value: 0, malloc_trim=pytest.fail)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: library)
    assert not ask()
