"""One job over many items, here, in processes, and on Ray."""

import sys
from functools import partial
from pathlib import Path

import pytest

from vidgn.curation.encode import PrepareSpec
from vidgn.curation.pool import spread
from vidgn.curation.prepare import prepare
from vidgn.data.video import open_video

from .test_prepare import write


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_has_its_result(workers: int) -> None:
    assert sorted(spread(partial(int.__add__, 10), range(20), workers=workers)) == list(range(10, 30))


def test_an_error_of_a_job_comes_through() -> None:
    with pytest.raises(ZeroDivisionError, match="division or modulo by zero"):
        list(spread(partial(int.__floordiv__, 1), [1, 0, 1], workers=2))


def test_wrong_words_are_refused() -> None:
    with pytest.raises(ValueError, match=r"engine \(dask\) must be local or ray"):
        spread(abs, [1], workers=1, engine="dask")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"workers \(0\) must be at least 1"):
        spread(abs, [1], workers=0)


def test_without_ray_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"needs the package ray; pip install 'vidgn\[ray\]'"):
        list(spread(abs, [1], workers=1, engine="ray"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning")  # Ray's
def test_a_local_cluster_of_two_processes_prepares_every_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    for name in ("a", "b", "c"):
        write(tmp_path / f"src/{name}.mp4", frames=8)
    spec = PrepareSpec(short_side=48, gop=6)
    here = prepare(tmp_path / "src", tmp_path / "here", spec=spec)
    memory = 80_000_000  # bytes; what Ray takes at least
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")  # what else this machine does is no reason to kill
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else its workers wait for whatever else runs
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=memory)
    try:
        there = prepare(tmp_path / "src", tmp_path / "there", spec=spec, workers=0, engine="ray")
    finally:
        ray.shutdown()
    told = [[(row.name, row.frames, row.error) for row in rows] for rows in (here, there)]
    assert told[0] == told[1] == [("a.mp4", 8, None), ("b.mp4", 8, None), ("c.mp4", 8, None)]
    for row in there:
        with open_video(tmp_path / "there" / row.name) as video:
            assert len(video) == 8
