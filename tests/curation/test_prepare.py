"""Prepared files hold the same frames, begin anywhere cheaply, and appear whole or not at all."""

import io
import json
import os
import signal
from pathlib import Path

import av
import numpy as np
import pytest

from vidgn.curation import encode
from vidgn.curation import prepare as module
from vidgn.curation.encode import PrepareSpec, prepare_file
from vidgn.curation.prepare import LEDGER, Prepared, prepare
from vidgn.curation.prepare_print import ReadSpeed, prepare_summary, run_prepare
from vidgn.data.faults.child_process import Helper
from vidgn.data.readers.pyav.reader import PyavReader
from vidgn.data.video import open_video

SPEC = PrepareSpec(short_side=48, gop=6)


def write(path: Path, *, frames: int = 20, width: int = 96, height: int = 64) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0:height, 0:width]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            image = np.stack([x + index, y + 2 * index, x + y], axis=-1) % 256
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.slow
def test_a_prepared_file_has_the_frames_the_size_and_the_keys(tmp_path):
    source = write(tmp_path / "a.mp4")
    frames, psnr = prepare_file(source, tmp_path / "b.mp4", spec=SPEC)
    with open_video(tmp_path / "b.mp4") as video:
        assert isinstance(video, PyavReader)
        assert (len(video), video.height, video.width, video.fps) == (20, 48, 72, 25.0)
        assert max(np.diff([*video.index.keys, 20])) <= 6
    assert frames == 20
    assert psnr > 30


@pytest.mark.slow
def test_nine_of_twelve_frames_of_a_prepared_file_can_be_passed_over(tmp_path):
    source = tmp_path / "a.mp4"
    texture = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(12):
            image = np.roll(texture, index, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    prepare_file(source, tmp_path / "b.mp4", spec=PrepareSpec(short_side=48))
    with open_video(tmp_path / "b.mp4") as video:
        assert isinstance(video, PyavReader)
        # I P b b b b b P b b b b in the file, I b b b b b P b b b b P as they are shown
        assert list(video.index.order) == [0, 2, 3, 4, 5, 6, 1, 8, 9, 10, 11, 7]
    with av.open(str(tmp_path / "b.mp4")) as container:
        container.streams.video[0].codec_context.skip_frame = "NONREF"
        assert [frame.time for frame in container.decode(video=0)] == [0.0, 6 / 25, 11 / 25]


@pytest.mark.slow
def test_a_smaller_video_keeps_its_size(tmp_path):
    prepare_file(write(tmp_path / "a.mp4", width=40, height=32), tmp_path / "b.mp4", spec=SPEC)
    with open_video(tmp_path / "b.mp4") as video:
        assert (video.height, video.width) == (32, 40)


@pytest.mark.slow
def test_a_folder_is_prepared_once_and_a_bad_file_is_named(tmp_path, monkeypatch):
    write(tmp_path / "src/x/a.mp4")
    write(tmp_path / "src/y/b.avi")
    (tmp_path / "src/y/bad.mp4").write_bytes(b"no video")
    (tmp_path / "src/notes.txt").write_text("no video")
    rows = prepare(tmp_path / "src", tmp_path / "dst", spec=SPEC)
    assert [row.name for row in rows] == ["x/a.mp4", "y/b.avi", "y/bad.mp4"]
    assert "not a video" in str(rows[2].error)
    assert sorted(p.relative_to(tmp_path / "dst").as_posix() for p in (tmp_path / "dst").rglob("*.mp4")) == [
        "x/a.mp4", "y/b.mp4",
    ]  # fmt: skip
    assert "2 of 3 videos prepared, 40 frames" in prepare_summary(rows, ReadSpeed(2, 1.0, 0.5))

    seen: list[str] = []
    real = module._guarded
    monkeypatch.setattr(module, "_guarded", lambda *words: (seen.append(Path(words[3]).name), real(*words))[1])
    with (tmp_path / "dst" / LEDGER).open("a") as ledger:
        ledger.write('{"spec": ')  # killed while it wrote
    (tmp_path / "dst/x/a.mp4").write_bytes(b"cut")
    again = prepare(tmp_path / "src", tmp_path / "dst", spec=SPEC)
    assert seen == ["a.mp4", "bad.mp4"]
    assert [row.error is None for row in again] == [True, True, False]


def length(path: Path) -> int:
    with open_video(path) as video:
        return len(video)


@pytest.mark.slow
def test_two_processes_prepare_the_same_videos(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"src/{name}.mp4")
    counts: list[tuple[int, int]] = []
    prepare(tmp_path / "src", tmp_path / "one", spec=SPEC)
    prepare(tmp_path / "src", tmp_path / "two", spec=SPEC, workers=2, progress=lambda *n: counts.append(n))
    assert counts == [(1, 2), (2, 2)]
    for name in ("a.mp4", "b.mp4"):  # x264's bytes may differ in a bit: it is not asked for the same ones
        assert length(tmp_path / "one" / name) == length(tmp_path / "two" / name) == 20


@pytest.mark.slow
def test_a_file_that_fails_its_check_does_not_appear(tmp_path):
    source = write(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match=r"PSNR .* below 90"):
        prepare_file(source, tmp_path / "b.mp4", spec=PrepareSpec(48, 6, 40, 90.0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


@pytest.mark.slow
def test_frames_that_were_not_written_are_noticed(tmp_path, monkeypatch):
    source = write(tmp_path / "a.mp4")
    short = write(tmp_path / "short.mp4", frames=19)
    monkeypatch.setattr(encode, "_encode", lambda video, part, spec: part.write_bytes(short.read_bytes()))
    with pytest.raises(ValueError, match=r"a\.mp4: 19 of 20 frames were written"):
        prepare_file(source, tmp_path / "b.mp4", spec=SPEC)


def test_an_address_is_no_target(tmp_path):
    with pytest.raises(ValueError, match=r"memory://a is an address; prepare writes to a folder of this machine"):
        prepare(tmp_path, "memory://a")


def test_wrong_folders_are_refused(tmp_path):
    write(tmp_path / "src/a.mp4")
    with pytest.raises(ValueError, match=r"lies in the source .*; give a folder beside it"):
        prepare(tmp_path / "src", tmp_path / "src/out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there are no videos in"):
        prepare(tmp_path / "empty", tmp_path / "out")
    write(tmp_path / "src/a.mov")
    with pytest.raises(ValueError, match=r"a\.mov and a\.mp4 would both become a\.mp4"):
        prepare(tmp_path / "src", tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"short_side": 255}, r"short_side \(255\) must be an even number of at least 16 px"),
        ({"gop": 0}, r"gop \(0\) must be at least 1 frame"),
        ({"crf": 52}, r"crf \(52\) must be in 0\.\.51"),
    ],
)
def test_numbers_out_of_range_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        PrepareSpec(**options)


@pytest.mark.slow
def test_the_command_prints_the_table_and_fails_on_a_bad_file(tmp_path):
    write(tmp_path / "src/a.mp4", frames=70)
    out = io.StringIO()
    words = str(tmp_path / "src"), str(tmp_path / "dst")
    assert run_prepare(*words, spec=SPEC, out=out, workers=1) == 0
    lines = out.getvalue().splitlines()
    assert lines[0] == "1 of 1 videos prepared, 70 frames"
    assert lines[1].split() == ["source", "prepared", "ratio"]
    assert lines[2].startswith("size (MB)")
    assert lines[3].startswith("32x2 clip (CPU ms)")
    assert lines[4].endswith("speed: median of 3 clips from each of 1 videos")
    (tmp_path / "src/bad.mp4").write_bytes(b"no video")
    out = io.StringIO()
    assert run_prepare(*words, spec=SPEC, out=out, workers=1, as_json=True) == 1
    told = json.loads(out.getvalue())
    assert list(told["failed"]) == ["bad.mp4"]
    assert told["source_mb"] > 0 < told["prepared"]


@pytest.mark.slow
def test_nothing_prepared_has_no_table():
    assert prepare_summary([Prepared("a", 0, 9, 0, 0.0, "a: bad")], ReadSpeed(0, 0.0, 0.0)).splitlines() == [
        "0 of 1 videos prepared, 0 frames", "failed: a: bad",
    ]  # fmt: skip


def crash(*words: object) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.slow
def test_a_source_that_crashes_the_decoder_costs_one_video(tmp_path, monkeypatch):
    write(tmp_path / "src/a.mp4")
    monkeypatch.setattr(module, "_helper", Helper(crash))
    (row,) = prepare(tmp_path / "src", tmp_path / "dst", spec=SPEC)
    assert str(row.error).endswith("a.mp4: its process died (signal 11)")
