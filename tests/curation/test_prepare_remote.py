"""Videos at an address are prepared into a folder here; what the network loses is named and done later."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from vidgn.curation.encode import PrepareSpec
from vidgn.curation.prepare import prepare
from vidgn.curation.prepare_print import run_prepare
from vidgn.data.storage import remote, retry

from ..data.servers import FileServer, serving
from .test_prepare import write

pytest.importorskip("aiohttp")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # aiohttp's sessions end with the process

SPEC = PrepareSpec(short_side=48, gop=6)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.0)
    write(tmp_path / "k/run/a #1.mp4")
    (tmp_path / "k/run/bad.mkv").write_bytes(b"no video")
    with serving(tmp_path) as server:
        yield server


@pytest.mark.slow
def test_an_address_is_prepared_as_a_folder_is(server, tmp_path):
    there = prepare(f"{server.url}/k/", tmp_path / "there", spec=SPEC)
    here = prepare(tmp_path / "k", tmp_path / "here", spec=SPEC)
    assert [row.name for row in there] == ["run/a #1.mp4", "run/bad.mkv"]
    # x264 looks at memory that it has not written, so its bytes depend on what lay there.
    first, second = (row._replace(bytes=0, psnr=0.0, source_time=None) for row in (there[0], here[0]))
    assert first == second
    assert there[0].bytes == pytest.approx(here[0].bytes, rel=0.05)
    assert there[0].psnr == pytest.approx(here[0].psnr, abs=0.5)
    assert (tmp_path / "there/run/a #1.mp4").stat().st_size == there[0].bytes
    assert there[1].error == str(here[1].error).replace(f"{tmp_path}/k", f"{server.url}/k")
    sent = server.bytes_sent
    assert prepare(f"{server.url}/k", tmp_path / "there", spec=SPEC)[0] == there[0]
    assert server.bytes_sent == sent + len(b"no video")  # what failed is tried again


@pytest.mark.slow
def test_the_command_compares_clips_of_both_places(server, tmp_path):
    out = io.StringIO()
    assert run_prepare(f"{server.url}/k", str(tmp_path / "dst"), spec=SPEC, out=out, workers=1) == 1
    assert "1 of 2 videos prepared, 20 frames" in out.getvalue()
    assert "from each of 1 videos" in out.getvalue()


@pytest.mark.slow
def test_what_the_network_lost_is_named_and_done_later(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("vidgn.curation.prepare._guarded", lose)
        rows = prepare(f"{server.url}/k", tmp_path / "dst", spec=SPEC)
    assert rows[0].error == f"{server.url}/k/run/a%20%231.mp4: bytes 0 to 1 failed"
    assert prepare(f"{server.url}/k", tmp_path / "dst", spec=SPEC)[0].error is None


def lose(base, out, spec, name):
    from vidgn.curation import prepare as module

    def fail(path):
        raise remote.RemoteError(f"{path}: bytes 0 to 1 failed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "local_copy", fail)
        return module.prepare_one(base, out, spec, name)
