"""Whole files come in pieces, names below an address are found, and a store's time is a number."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from vidgn.data.storage import local_copy as local_copy_module
from vidgn.data.storage.local_copy import _nanoseconds, find_below, local_copy, path_of, state_of
from vidgn.data.storage.remote import Url

fsspec = pytest.importorskip("fsspec")


def test_a_copy_holds_the_same_and_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(range(256)) * 1000
    fsspec.filesystem("memory").pipe("/copied/run/a b.mp4", data)
    monkeypatch.setattr(local_copy_module, "_AT_ONCE", 100_001)
    with local_copy(path_of("memory://copied", "run/a b.mp4")) as path:
        assert path.endswith(".mp4")
        assert Path(path).read_bytes() == data
    assert not Path(path).exists()


def test_a_file_of_this_machine_is_its_own_copy(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(b"abc")
    with local_copy(path_of(str(tmp_path), "a.mp4")) as path:
        assert path == str(file)
    assert state_of(str(file)) == (3, file.stat().st_mtime_ns)


def test_names_below_an_address_are_found_at_every_depth() -> None:
    store = fsspec.filesystem("memory")
    for name in ("b.MP4", "x/a.mp4", "x/y/c.mkv", "x/notes.txt"):
        store.pipe(f"/found/{name}", b"?")
    assert find_below("memory://found", (".mp4", ".mkv")) == ["b.MP4", "x/a.mp4", "x/y/c.mkv"]


def test_size_and_time_of_a_file_elsewhere() -> None:
    fsspec.filesystem("memory").pipe("/timed.mp4", b"12345")
    size, time = state_of(Url("memory://timed.mp4"))
    assert (size, time > 10**18) == (5, True)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.mp4"):
        state_of(Url("memory://nowhere.mp4"))


@pytest.mark.parametrize("time", [1.5, datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC), "1970-01-01T00:00:01.5Z"])
def test_a_time_is_a_number_whatever_the_store_says(time: object) -> None:
    assert _nanoseconds(time) == 1_500_000_000
