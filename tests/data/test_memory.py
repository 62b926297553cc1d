"""A worker and its helper hold no more after many clips; `benchmarks/memory.py` does it for thousands."""

import importlib.util
from pathlib import Path

import pytest

from vidgn.data.readers.torchcodec import load_torchcodec


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("memory", Path(__file__).parents[2] / "benchmarks" / "memory.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files(benchmark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    benchmark.make_files(folder, count=2)
    return folder


def require_torchcodec():
    try:
        load_torchcodec()
    except ImportError as err:
        pytest.skip(str(err))


@pytest.mark.parametrize("kind", ["good", "damaged"])
@pytest.mark.parametrize("backend", ["pyav", "decord", "torchcodec"])
def test_a_worker_does_not_grow(benchmark, files, backend, kind):
    if backend == "decord":
        pytest.importorskip("decord", reason="decord has no wheel for this machine")
    if backend == "torchcodec":
        require_torchcodec()
    growth = benchmark.grow(files, kind=kind, backend=backend, clips=120)
    assert growth.first.megabytes > 50
    assert growth.percent < 5
    # decord's readers of damaged files wait for the garbage collector, with their files and threads.
    if (backend, kind) != ("decord", "damaged"):
        # A leak is a file for each of 80 clips; one or two are open at that moment, and sockets that pass batches on.
        assert growth.last.files <= growth.first.files + 10
        at_work = int(backend == "decord")  # the thread of a reader that is open at that moment
        assert growth.last.threads <= growth.first.threads + at_work
