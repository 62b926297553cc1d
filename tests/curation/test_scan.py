"""A passport says what every file is, survives an interruption, and finds every changed byte."""

import io
import json
import os
import signal
from pathlib import Path

import av
import numpy as np
import pytest

from vidgn.curation import inspect_file
from vidgn.curation import scan as module
from vidgn.curation.scan import run_scan, run_verify, scan, verify
from vidgn.data.faults.child_process import Helper
from vidgn.data.passports.passport import read_passport, summary, write_passport
from vidgn.data.readers.pyav.reader import PyavReader
from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.synthetic.motions import write_video


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


def test_the_duration_is_that_of_the_times_in_the_file(tmp_path):
    path = tmp_path / "data/run/uneven.mp4"
    path.parent.mkdir(parents=True)
    frames = np.zeros((20, 32, 48, 3), np.uint8)
    shown = np.concatenate([np.arange(10) / 25, 1 + np.arange(11.0)])
    write_video(path, frames, seconds=shown)
    (row,) = scan(tmp_path / "data", tmp_path / "p.jsonl")
    assert (row.frames, row.duration, row.status) == (20, pytest.approx(11, abs=1), "ok")


def test_a_file_that_gives_other_frames_alone_than_in_one_decode_is_not_ok(folder, monkeypatch):
    def wrong(video: PyavReader) -> None:
        raise VideoDecodeError(video.path, "frame 3 of 10, read alone, is not that of a plain decode")

    monkeypatch.setattr(inspect_file, "check_order", wrong)
    row = inspect_file.look(str(folder), "run/a.mp4", str(folder / "run/a.mp4"))
    assert row.status == "frame 3 of 10, read alone, is not that of a plain decode"


def test_the_summary_counts_and_draws(folder, tmp_path):
    text = summary(scan(folder, tmp_path / "p.jsonl"))
    assert "4 videos" in text
    assert "ok 2   missing 1   broken 1   shorter than 64 frames 1   classes 2" in text
    assert "  48x32 ######################################## 2" in text
    assert "jump/cut.mp4: " in text


def test_an_interrupted_scan_goes_on(folder, tmp_path, monkeypatch):
    seen: list[str] = []
    real = module.inspect

    def spy(root: Path, name: str, *, seconds: float):
        seen.append(name)
        if len(seen) == 3:
            raise KeyboardInterrupt("stopped")
        return real(root, name, seconds=seconds)

    monkeypatch.setattr(module, "inspect", spy)
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        scan(folder, tmp_path / "p.jsonl")
    assert not (tmp_path / "p.jsonl").exists()
    with (tmp_path / ".p.jsonl.vidgn-scan").open("a") as journal:
        journal.write('{"id": "ru')
    scan(folder, tmp_path / "p.jsonl")
    assert seen == ["jump/b.mkv", "jump/cut.mp4", "jump/gone.mp4", "jump/gone.mp4", "run/a.mp4"]
    scan(folder, tmp_path / "p.jsonl")
    assert seen[5:] == ["jump/gone.mp4"]  # the rest is known and has not changed
    assert not (tmp_path / ".p.jsonl.vidgn-scan").exists()


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
    with pytest.raises(ValueError, match="is not a vidgn passport"):
        read_passport(tmp_path / "q.jsonl")


def test_the_command_writes_a_passport_a_summary_and_a_picture(folder, tmp_path):
    passport, out = tmp_path / "p.jsonl", io.StringIO()
    assert run_scan(str(folder), str(passport), out=out, workers=1) == 1
    assert "broken 1" in out.getvalue()
    assert str(passport) in out.getvalue()
    assert (tmp_path / "p.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    write_passport([row for row in read_passport(passport) if row.status == "ok"], passport)
    out = io.StringIO()
    assert run_verify(str(passport), out=out, workers=1) == 0
    assert out.getvalue() == "every file is what it was, and whole\n"
    (folder / "run/a.mp4").unlink()
    out = io.StringIO()
    assert run_verify(str(passport), out=out, workers=1, as_json=True) == 1
    assert list(json.loads(out.getvalue())["wrong"]) == ["run/a.mp4"]


def test_links_to_folders_are_followed_once(folder, tmp_path):
    (tmp_path / "disk").mkdir()
    (folder / "run/a.mp4").rename(tmp_path / "disk/a.mp4")
    (folder / "far").symlink_to(tmp_path / "disk")
    (folder / "round").symlink_to(folder)
    (folder / "self.mp4").symlink_to("self.mp4")
    rows = {row.id: row.status for row in scan(folder, tmp_path / "p.jsonl")}
    assert rows["far/a.mp4"] == "ok"
    assert rows["self.mp4"] == "OSError: Too many levels of symbolic links"
    assert sorted(rows) == ["far/a.mp4", "jump/b.mkv", "jump/cut.mp4", "jump/gone.mp4", "self.mp4"]


def test_a_pipe_is_named_and_not_read(tmp_path):
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "data/pipe.mp4")
    (row,) = scan(tmp_path / "data", tmp_path / "p.jsonl")
    assert row.status == "a pipe (FIFO), not a regular file"


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "data") + b"/\xe9.mp4")).touch()
    with pytest.raises(ValueError, match=r"1 file names are not UTF-8: '.udce9\.mp4'; rename them"):
        scan(tmp_path / "data", tmp_path / "p.jsonl")


def sleep_for_ever(path: str) -> None:
    while True:
        pass


def crash(path: str) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def run_out_of_memory(path: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("decoder", "seconds", "status"),
    [
        (sleep_for_ever, 0.3, "decoding takes longer (deadline 0.3 s)"),
        (crash, 60, "it crashes the decoder (SIGSEGV)"),  # a busy machine may take seconds to start the helper
        (run_out_of_memory, 60, "not read: killed (SIGKILL)"),
    ],
)
def test_a_decoder_that_hangs_or_dies_costs_one_video(folder, monkeypatch, decoder, seconds, status):
    monkeypatch.setattr(inspect_file, "_helper", Helper(lambda *words: ((), inspect_file.look(*words))))
    with monkeypatch.context() as patch:
        patch.setattr(inspect_file, "open_video", decoder)
        assert inspect_file.inspect(str(folder), "run/a.mp4", seconds=seconds).status == status
    inspect_file._helper.close()
    assert inspect_file.inspect(str(folder), "run/a.mp4", seconds=30).status == "ok"


def test_what_was_not_read_is_read_again(folder, tmp_path):
    rows = scan(folder / "run", tmp_path / "p.jsonl")
    write_passport([rows[0]._replace(status="not read: killed (SIGKILL)")], tmp_path / "p.jsonl")
    assert [row.status for row in scan(folder / "run", tmp_path / "p.jsonl")] == ["ok"]
