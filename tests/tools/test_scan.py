"""A passport says what every file is, survives an interruption, and finds every changed byte."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from vidgn.data.manifest import Manifest
from vidgn.tools import scan as module
from vidgn.tools.passport import compare, read_passport, readable, summary, write_passport
from vidgn.tools.scan import scan, verify


def write(path: Path, *, frames: int = 10, first: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0:32, 0:48]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for index in range(first, first + frames):
            image = np.stack([x + 9 * index, y + 7 * index, x * y], axis=-1) % 256
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "data/run/a.mp4")
    write(tmp_path / "data/jump/b.mkv", frames=70)
    (tmp_path / "data/jump/cut.mp4").write_bytes((tmp_path / "data/run/a.mp4").read_bytes()[:900])
    (tmp_path / "data/jump/gone.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "data/notes.txt").write_text("no video")
    return tmp_path / "data"


def test_every_video_has_a_row(folder, tmp_path):
    rows = {row.id: row for row in scan(folder, tmp_path / "p.jsonl")}
    assert sorted(rows) == ["jump/b.mkv", "jump/cut.mp4", "jump/gone.mp4", "run/a.mp4"]
    good = rows["run/a.mp4"]
    assert (good.label, good.codec, good.width, good.height, good.rotation) == ("run", "h264", 48, 32, 0)
    assert (good.fps, good.frames_promised, good.frames, good.duration, good.status) == (25.0, 10, 10, 0.4, "ok")
    assert good.bytes == (folder / "run/a.mp4").stat().st_size
    assert len(good.sha256) == 64
    assert rows["jump/b.mkv"].frames == 70
    assert "incomplete download" in rows["jump/cut.mp4"].status
    assert rows["jump/gone.mp4"].status == "FileNotFoundError: No such file or directory"
    assert {row.id: row for row in read_passport(tmp_path / "p.jsonl")} == rows


def test_the_summary_counts_and_draws(folder, tmp_path):
    text = summary(scan(folder, tmp_path / "p.jsonl"))
    assert "4 videos" in text
    assert "ok 2   missing 1   broken 1   shorter than 64 frames 1   classes 2" in text
    assert "  48x32 ######################################## 2" in text
    assert "jump/cut.mp4: " in text


def test_an_interrupted_scan_goes_on(folder, tmp_path, monkeypatch):
    seen: list[str] = []
    real = module.inspect

    def spy(root: Path, name: str):
        seen.append(name)
        if len(seen) == 3:
            raise KeyboardInterrupt("stopped")
        return real(root, name)

    monkeypatch.setattr(module, "inspect", spy)
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        scan(folder, tmp_path / "p.jsonl")
    assert not (tmp_path / "p.jsonl").exists()
    with (tmp_path / "p.jsonl.part").open("a") as journal:
        journal.write('{"id": "ru')
    scan(folder, tmp_path / "p.jsonl")
    assert seen == ["jump/b.mkv", "jump/cut.mp4", "jump/gone.mp4", "jump/gone.mp4", "run/a.mp4"]
    scan(folder, tmp_path / "p.jsonl")
    assert seen[5:] == ["jump/gone.mp4"]  # the rest is known and has not changed
    assert not (tmp_path / "p.jsonl.part").exists()


def test_verify_finds_one_flipped_bit(folder, tmp_path):
    scan(folder / "run", tmp_path / "p.jsonl")
    assert verify(tmp_path / "p.jsonl") == []
    data = bytearray((folder / "run/a.mp4").read_bytes())
    data[-20] ^= 1
    (folder / "run/a.mp4").write_bytes(data)
    (row,) = verify(tmp_path / "p.jsonl")
    assert row.id == "a.mp4"
    assert row.status != "ok"


def test_a_file_that_is_whole_but_another_is_changed(folder, tmp_path):
    scan(folder / "run", tmp_path / "p.jsonl")
    write(folder / "run/a.mp4", first=1)
    assert [row.status for row in verify(tmp_path / "p.jsonl")] == ["changed since the scan"]


def test_two_processes_give_the_same_passport(folder, tmp_path):
    assert scan(folder, tmp_path / "1.jsonl") == scan(folder, tmp_path / "2.jsonl", workers=2)


def test_a_list_is_scanned_in_its_order(folder, tmp_path):
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbfrun/a.mp4\r\n\r\njump/b.mkv\r\n")
    assert [row.id for row in scan(folder / "list.txt", tmp_path / "p.jsonl")] == ["run/a.mp4", "jump/b.mkv"]


def test_two_copies_are_compared(folder, tmp_path):
    rows = scan(folder, tmp_path / "p.jsonl")
    other = [row._replace(status="ok", frames=9, sha256="0") for row in rows if row.id != "jump/b.mkv"]
    found = compare(rows, other)
    assert found["only in the first"] == ["jump/b.mkv"]
    assert found["bad in the first alone"] == ["jump/cut.mp4", "jump/gone.mp4"]
    assert found["other number of frames"] == ["run/a.mp4"]
    assert found["only in the second"] == found["bad in the second alone"] == []


def test_a_manifest_keeps_what_the_passport_calls_ok(folder, tmp_path):
    rows = scan(folder, tmp_path / "p.jsonl")
    names = [("run/a.mp4", 1), ("jump/cut.mp4", 0), ("jump/b.mkv", 0)]
    manifest = Manifest.from_rows(names, root=folder, classes=["jump", "run"])
    kept, left_out = readable(manifest, rows)
    assert [kept.video_id(row) for row in range(len(kept))] == ["run/a.mp4", "jump/b.mkv"]
    assert kept.labels.tolist() == [1, 0]
    assert left_out == ["jump/cut.mp4"]
    with pytest.raises(ValueError, match=r"none of the 3 videos in .* is ok in the passport"):
        readable(manifest, [])


def test_parquet_holds_the_same(folder, tmp_path):
    pytest.importorskip("pyarrow")
    rows = scan(folder, tmp_path / "p.parquet")
    assert read_passport(tmp_path / "p.parquet") == rows


def test_without_pyarrow_the_way_out_is_said(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"needs the package pyarrow; pip install 'vidgn\[data\]', or name it"):
        scan(folder, tmp_path / "p.parquet")


def test_wrong_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must be named NAME\.parquet or NAME\.jsonl"):
        scan(tmp_path, tmp_path / "p.csv")
    with pytest.raises(ValueError, match="there are no videos in"):
        scan(tmp_path, tmp_path / "p.jsonl")
    (tmp_path / "q.jsonl").write_text(json.dumps({"id": "a"}) + "\n")
    with pytest.raises(ValueError, match="is no passport of ours"):
        read_passport(tmp_path / "q.jsonl")


def test_the_command_line(folder, tmp_path, capsys):
    passport = str(tmp_path / "p.jsonl")
    assert module.main([str(folder), passport, "--workers", "1"]) == 1
    assert "broken 1" in capsys.readouterr().out
    write_passport([row for row in read_passport(passport) if row.status == "ok"], passport)
    assert module.main([passport, "--verify", "--workers", "1"]) == 0
    assert "every file is what it was, and whole" in capsys.readouterr().out
