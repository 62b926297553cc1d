"""The passport of a data set at an address is that of the same files here; a lost one is named and tried again."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from vidgn.curation.scan import run_scan, scan, verify
from vidgn.data.storage import remote, retry

from ..data.servers import FileServer, s3, serving
from .test_scan import write

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # aiohttp's sessions end with the process


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scanned") / "data"
    write(root / "run/a #1.mp4")
    write(root / "jump/b.mkv", frames=20)
    (root / "jump/cut.mp4").write_bytes((root / "run/a #1.mp4").read_bytes()[:900])
    (root / "notes.txt").write_text("no video")
    return root


@pytest.fixture
def server(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.0)
    shutil.copytree(folder, tmp_path / "served/k")
    with serving(tmp_path / "served") as server:
        yield server


def plain(rows):
    return [row._replace(path="", mtime=0) for row in rows]


@pytest.mark.slow
def test_a_scan_over_http_says_what_a_scan_here_says(folder, server, tmp_path):
    here, there = scan(folder, tmp_path / "here.jsonl"), scan(f"{server.url}/k/", tmp_path / "there.jsonl")
    assert [row.id for row in there] == ["jump/b.mkv", "jump/cut.mp4", "run/a #1.mp4"]
    assert [row.status == "ok" for row in there] == [True, False, True]
    assert plain(there) == plain(here)
    assert there[2].path == f"{server.url}/k/run/a #1.mp4"
    assert server.bytes_sent == sum(row.bytes for row in here)  # each came once
    assert scan(f"{server.url}/k", tmp_path / "there.jsonl") == there
    assert server.bytes_sent == sum(row.bytes for row in here)


@pytest.mark.slow
def test_verify_finds_a_flipped_bit_there(server, tmp_path):
    scan(f"{server.url}/k/run", tmp_path / "p.jsonl")
    assert verify(tmp_path / "p.jsonl") == []
    file = server.root / "k/run/a #1.mp4"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert [row.id for row in verify(tmp_path / "p.jsonl")] == ["a #1.mp4"]


@pytest.mark.slow
def test_what_the_network_lost_is_named_and_tried_again(server, tmp_path):
    server.faults = 10**6
    with pytest.raises(remote.RemoteError, match=r"listing it failed"):
        scan(f"{server.url}/k/run", tmp_path / "p.jsonl")
    server.faults = 0
    rows = scan(f"{server.url}/k/run", tmp_path / "p.jsonl")
    server.faults = 10**6
    (lost,) = verify(tmp_path / "p.jsonl")
    assert lost.status.startswith(f"not read: RemoteError: {server.url}/k/run/a%20%231.mp4: ")
    assert "failed, tried 4 times" in lost.status
    server.faults = 0
    (server.root / "k/run/a #1.mp4").unlink()
    (gone,) = verify(tmp_path / "p.jsonl")
    assert gone.status.startswith("not read: FileNotFoundError")
    assert rows[0].status == "ok"


def test_a_changed_file_in_s3_is_scanned_again(folder, tmp_path, monkeypatch, capsys):
    with s3(monkeypatch):
        store = fsspec.filesystem("s3")
        store.mkdir("scanned")
        for path in folder.rglob("*.m*"):
            store.pipe(f"scanned/k/{path.relative_to(folder).as_posix()}", path.read_bytes())
        rows = scan("s3://scanned/k", tmp_path / "p.jsonl")
        assert plain(rows) == plain(scan(folder, tmp_path / "here.jsonl"))
        assert all(row.mtime > 10**18 for row in rows if row.status == "ok")
        store.pipe("scanned/k/jump/cut.mp4", (folder / "run/a #1.mp4").read_bytes())
        assert run_scan("s3://scanned/k", str(tmp_path / "p.jsonl"), out=__import__("sys").stdout, workers=1) == 0
    assert "ok 3   missing 0   broken 0" in capsys.readouterr().out
