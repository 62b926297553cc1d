"""Videos at an address: the same frames as on this machine, few bytes, and what happens when the network fails."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vidgn.data.batches import ViewBatch
from vidgn.data.clips import ClipSpec
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.readers.pyav import demuxer
from vidgn.data.spec import DataSpec
from vidgn.data.splits import read_manifests
from vidgn.data.storage import remote, retry
from vidgn.data.storage.remote import BLOCK, RemoteError, RemoteFile, Url, is_url, list_url, url_of
from vidgn.data.transforms import CropSpec
from vidgn.data.video import open_video
from vidgn.data.views import ViewDataset

from ..conftest import plain_decode, write_video
from ..servers import FileServer, s3, serving

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # aiohttp's sessions end with the process


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy videos of a few hundred kilobytes, a key every 12 frames."""
    root = tmp_path_factory.mktemp("served")
    noisy = {"crf": "4", "bf": "0"}
    for split, label, name in (("train", "run", "a#1 ä.mp4"), ("train", "jump", "b.mp4"), ("val", "run", "c.mkv"),
                               ("val", "jump", "d.mp4")):  # fmt: skip
        (root / split / label).mkdir(parents=True, exist_ok=True)
        late = {"movflags": "+faststart"} if name != "d.mp4" else {}
        options = {} if name.endswith("mkv") else late
        write_video(
            root / split / label / name, frames=96, width=256, height=192, options=noisy, container_options=options
        )
    return root


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.0)
    with serving(folder) as server:
        yield server


def frames(path: str, wanted: range) -> list[np.ndarray]:
    with open_video(path) as video:
        return [frame.copy() for _, frame in video.frames(wanted)]


def same(mine: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    return len(mine) == len(theirs) and all(map(np.array_equal, mine, theirs))


@pytest.mark.parametrize("name", ["train/run/a#1 ä.mp4", "val/run/c.mkv", "val/jump/d.mp4"])
def test_frames_over_http_are_those_of_the_file(folder: Path, server: FileServer, name: str) -> None:
    oracle = plain_decode(folder / name)
    assert same(frames(url_of(server.url, name), range(40, 56)), oracle[40:56])
    assert same(frames(url_of(server.url, name), range(96)), oracle)


def test_only_the_bytes_of_the_clip_are_read(folder: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BLOCK", 4096)  # as a block of 64 KiB is to a video of six megabytes
    name = "train/run/a#1 ä.mp4"
    size = (folder / name).stat().st_size
    frames(url_of(server.url, name), range(60, 68))
    # 8 of 96 frames from a key on: a twelfth of the bytes, the tables, and what the demuxer reads to know the stream
    assert server.bytes_sent < 0.3 * size, server.bytes_sent / size
    assert server.gets <= 12
    before = server.bytes_sent
    frames(url_of(server.url, name), range(96))
    assert server.bytes_sent - before == size


def test_an_index_alone_reads_no_pictures(folder: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BLOCK", 4096)
    size = (folder / "val/jump/d.mp4").stat().st_size  # its tables lie at the end
    with open_video(url_of(server.url, "val/jump/d.mp4")) as video:
        assert len(video) == 96
    assert server.bytes_sent < 0.2 * size, server.bytes_sent / size


FRAGMENTS = {
    "keys.mp4": {"movflags": "frag_keyframe+empty_moov"},
    "first_whole.mp4": {"movflags": "frag_keyframe"},
    "dash.mp4": {"movflags": "dash+frag_keyframe+empty_moov"},
    "cmaf.mov": {"movflags": "cmaf"},
    "global.mp4": {"movflags": "frag_keyframe+empty_moov+global_sidx+default_base_moof"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAGMENTS)
def test_of_fragments_only_tables_and_the_clip_are_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "BLOCK", 4096)
    size = put(tmp_path / name, options={"crf": "4", "bf": "3"}, container_options=FRAGMENTS[name])
    assert facts(Url(f"memory://{name}")) == facts(tmp_path / name)
    with open_video(Url(f"memory://{name}")) as video:
        assert video.source._file.fetched < 0.15 * size  # type: ignore[attr-defined]
        oracle = plain_decode(tmp_path / name)
        assert same([frame.copy() for _, frame in video.frames(range(60, 68))], oracle[60:68])
        assert video.source._file.fetched < 0.3 * size  # type: ignore[attr-defined]
        assert same([frame.copy() for _, frame in video.frames(range(96))], oracle)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "3"}])
def test_of_a_file_too_large_to_keep_only_the_clip_is_read(
    options: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "BLOCK", 4096)
    monkeypatch.setattr(demuxer, "_KEPT_BYTES", 0)
    size = put(tmp_path / "large.mp4", options={"crf": "4", **options})
    oracle = plain_decode(tmp_path / "large.mp4")
    with open_video(Url("memory://large.mp4")) as video:
        for clip in (range(60, 68), range(64, 76), range(8), range(10, 90, 20)):  # forwards, near by, and back
            assert same([frame.copy() for _, frame in video.frames(clip)], [oracle[index] for index in clip])
            assert clip.step > 1 or video.source._file.fetched < 0.6 * size  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("mpeg2video", {}),  # its packets in mp4 may be other than what lies in the file
        ("libx264", {"x264-params": "tff=1"}),  # interlaced, which only the first packet says
    ],
)
def test_what_the_first_packets_say_is_known_elsewhere_too(
    codec: str, options: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "BLOCK", 4096)
    put(tmp_path / "first.mp4", codec=codec, options=options)
    assert facts(Url("memory://first.mp4")) == facts(tmp_path / "first.mp4")
    assert same(frames(Url("memory://first.mp4"), range(96)), plain_decode(tmp_path / "first.mp4"))


def put(path: Path, **options: object) -> int:
    """Write a noisy video here and at an address; return its size (bytes)."""
    write_video(path, frames=96, width=256, height=192, **options)  # type: ignore[arg-type]
    fsspec.filesystem("memory").pipe(f"/{path.name}", path.read_bytes())
    return path.stat().st_size


def facts(path: str | Path) -> tuple[object, ...]:
    with open_video(path) as video:
        source, index = video.source, video.index  # type: ignore[attr-defined]
        return source.facts, list(source.packets), list(index.order), list(index.keys), source.reorder_depth


def test_a_manifest_of_an_address_lists_and_opens(server: FileServer) -> None:
    found = read_manifests(DataSpec("folder", root=f"{server.url}/"))
    train = found["train"]
    assert [train.video_id(i) for i in range(2)] == ["train/jump/b.mp4", "train/run/a#1 ä.mp4"]
    assert train.classes == ("jump", "run")
    assert train.path(0) == f"{server.url}/train/jump/b.mp4"
    assert train.missing() == []
    lost = Manifest.from_rows([("train/jump/gone.mp4", 0), ("train/jump/b.mp4", 0)], root=server.url, classes=["x"])
    assert lost.missing() == ["train/jump/gone.mp4"]


def test_two_workers_read_what_this_process_reads(folder: Path, server: FileServer) -> None:
    manifest = Manifest.from_folder(server.url, split="train")  # the parent's connections must not be inherited
    views = {"clip": ClipSpec(4, 8), "crop": CropSpec(32), "num_clips": 2, "num_crops": 1}
    there = DataLoader(ViewDataset(manifest, **views), collate_fn=ViewBatch.collate, num_workers=2)  # type: ignore[arg-type]
    here = ViewDataset(Manifest.from_folder(folder, split="train"), **views)  # type: ignore[arg-type]
    for row, batch in enumerate(there):
        assert batch.errors == (None,)
        assert torch.equal(batch.items[0].frames, here[row].frames)


def test_a_passing_fault_is_tried_again(folder: Path, server: FileServer) -> None:
    server.faults = 3
    assert same(frames(url_of(server.url, "train/jump/b.mp4"), range(4)), plain_decode(folder / "train/jump/b.mp4")[:4])


def test_a_lasting_fault_is_reported_and_is_no_bad_video(server: FileServer) -> None:
    server.faults = 10**6
    with pytest.raises(RemoteError, match=r"b\.mp4: bytes 0 to 65536 failed, tried 4 times: ClientResponseError: 503"):
        open_video(url_of(server.url, "train/jump/b.mp4"))
    assert server.gets == 4


def test_a_missing_file_is_missing_at_once(server: FileServer) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4"):
        open_video(url_of(server.url, "gone.mp4"))


def test_a_server_without_ranges_is_refused(server: FileServer) -> None:
    server.ranges = False
    with pytest.raises(RemoteError, match=r"bytes came; the server must serve ranges"):
        RemoteFile(url_of(server.url, "train/jump/b.mp4")).read_at(BLOCK, 2 * BLOCK)


def test_a_path_is_never_taken_for_an_address(server: FileServer) -> None:
    with pytest.raises(FileNotFoundError, match=r"b\.mp4"):
        open_video(f"{server.url}/train/jump/b.mp4")


def test_decord_reads_files_of_this_machine_only() -> None:
    with pytest.raises(ValueError, match=r"backend \(decord\) reads whole files of this machine only"):
        open_video(Url("memory://a.mp4"), backend="decord")


def test_an_s3_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3(monkeypatch):
        store = fsspec.filesystem("s3")
        store.mkdir("bucket")
        for path in folder.rglob("*.m*"):
            store.pipe(f"bucket/k/{path.relative_to(folder).as_posix()}", path.read_bytes())
        manifest = Manifest.from_folder("s3://bucket/k", split="train")
        assert [manifest.video_id(i) for i in range(2)] == ["train/jump/b.mp4", "train/run/a#1 ä.mp4"]
        oracle = plain_decode(folder / "train/run/a#1 ä.mp4")
        with open_video(manifest.path(1)) as video:
            assert same([frame.copy() for _, frame in video.frames(range(60, 68))], oracle[60:68])
        with pytest.raises(FileNotFoundError, match="gone"):
            open_video(Url("s3://bucket/gone.mp4"))


def test_memory_and_lists_with_whole_addresses(folder: Path, tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/vidgn/run/b.mp4", (folder / "train/jump/b.mp4").read_bytes())
    (tmp_path / "list.txt").write_text("memory://vidgn/run/b.mp4 0\nrun/../run/c.mp4 0\n")
    manifest = Manifest.from_list(tmp_path / "list.txt", root="memory://vidgn/", num_classes=1)
    assert [manifest.video_id(i) for i in range(2)] == ["run/b.mp4", "run/c.mp4"]
    assert manifest.missing() == ["run/c.mp4"]
    with open_video(manifest.path(0)) as video:
        assert len(video) == 96
    assert list_url("memory://vidgn") == (frozenset(), frozenset({"run"}))
    assert list_url("memory://nowhere") == (frozenset(), frozenset())
    (tmp_path / "list.txt").write_text("../x.mp4 0\nmemory://other/b.mp4 0\n")
    with pytest.raises(ValueError, match=r"row 1: the path '\.\./x\.mp4' leaves the root memory://vidgn"):
        Manifest.from_list(tmp_path / "list.txt", root="memory://vidgn", num_classes=1)


def test_kinetics_at_an_address_needs_its_annotation_here() -> None:
    with pytest.raises(FileNotFoundError, match=r"no annotation file of split 'train' is given.*data\.train=FILE"):
        Manifest.from_kinetics("memory://k", split="train")


def test_what_fsspec_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(ImportError, match=r"needs fsspec .*pip install 'vidgn\[remote\]'"):
        list_url("memory://k")


def test_addresses_are_told_from_paths() -> None:
    assert all(map(is_url, ("s3://b/k", "gs://b", "http://h/x", "https://h", "memory://a")))
    assert not any(map(is_url, ("/data", "data", "file:///x", "a://b", "http:/h", "s3:")))


def test_a_file_reads_like_a_file(folder: Path) -> None:
    data = bytes(range(256)) * 1024
    fsspec.filesystem("memory").pipe("/plain.bin", data)
    with RemoteFile("memory://plain.bin") as file:
        assert (file.readable(), file.seekable(), file.seek(-3, 2), file.read()) == (
            True,
            True,
            len(data) - 3,
            data[-3:],
        )
        assert (file.seek(BLOCK - 1), file.read(2), file.tell()) == (BLOCK - 1, data[BLOCK - 1 : BLOCK + 1], BLOCK + 1)
        buffer = bytearray(5)
        assert (file.readinto(buffer), bytes(buffer)) == (5, data[BLOCK + 1 : BLOCK + 6])
        assert file.read(0) == b""
        assert not file.leave_media()
