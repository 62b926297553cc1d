import csv
import io
import json
import multiprocessing
import os
import re
import resource
from itertools import pairwise

import numpy as np
import pytest

from vidgn.data.synthetic.motions import write_video
from vidgn.data.video import open_video
from vidgn.data.views import ViewDataset
from vidgn.inference.model import open_model
from vidgn.inference.overlay import draw_label
from vidgn.inference.predict import Segment, WindowAnswer, choose_test, predict, segments


@pytest.mark.slow
def test_the_numbers_are_those_of_eval(vidgn, trained, motions):
    """`trained/predictions.csv` was written by the test at the end of train.py, which is eval.py's."""
    status, out, _ = vidgn("predict", motions / "test", "--ckpt", trained, "--csv")
    assert status == 0
    ours = {row["video"]: row for row in csv.DictReader(io.StringIO(out))}
    with (trained / "predictions.csv").open() as file:
        theirs = list(csv.DictReader(file))
    assert len(ours) == len(theirs) == 12
    for row in theirs:
        mine = ours[str(motions / row["video"])]
        assert [mine[f"class{k}"] for k in range(1, 6)] == [row[f"class{k}"] for k in range(1, 6)]
        assert [mine[f"score{k}"] for k in range(1, 6)] == [row[f"score{k}"] for k in range(1, 6)]


@pytest.mark.slow
def test_json_names_checkpoint_protocol_and_the_best_classes(vidgn, trained, video):
    status, out, _ = vidgn("predict", video, "--ckpt", trained, "--json", "--top", "3", "--num-clips", "1")
    told = json.loads(out)
    assert status == 0
    assert told["checkpoint"] == str(trained / "checkpoints" / "best.ckpt")
    assert re.match(r"1 clip \(\w+\) x 1 crop of 37, 8 frames x stride 2", told["protocol"])
    (answer,) = told["videos"]
    assert answer["video"] == str(video)
    assert answer["error"] is None
    scores = [item["score"] for item in answer["top"]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 3


@pytest.mark.slow
def test_a_broken_video_is_told_and_the_others_are_scored(vidgn, trained, video, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"")
    status, out, _ = vidgn("predict", tmp_path, "--ckpt", trained, "--top", "1")
    assert status == 1
    assert "error: empty file" in out
    assert re.search(r"1 scored / 1 failed; 2 clips \(\w+\) x 1 crop of 37", out)


@pytest.mark.slow
def test_real_files_are_scored_or_named(vidgn, trained, real_videos):
    status, out, _ = vidgn("predict", real_videos, "--ckpt", trained, "--json", "--num-clips", "1")
    answers = {answer["video"].rpartition("/")[2]: answer for answer in json.loads(out)["videos"]}
    assert status == 1
    failed = {name for name, answer in answers.items() if answer["error"]}
    # A single clip need not touch the damage in the middle of corrupted.mp4.
    assert failed - {"corrupted.mp4"} == {"text.mp4", "truncated.mp4", "zero_bytes.mp4"}
    assert len(answers) == 21


@pytest.mark.slow
def test_the_timeline_covers_the_video_once(vidgn, trained, video):
    status, out, _ = vidgn("predict", video, "--ckpt", trained, "--timeline", "--json", "--stride", "8")
    assert status == 0
    (told,) = json.loads(out)["videos"]
    found = told["segments"]
    assert (found[0]["start"], found[-1]["end"]) == (0, 60)
    assert found[-1]["end_seconds"] == 2.4  # 60 frames at 25 per second
    assert all(one["end"] == other["start"] for one, other in pairwise(found))


@pytest.mark.slow
def test_the_timeline_is_text_and_csv_too(vidgn, trained, video, tmp_path):
    status, out, _ = vidgn("predict", video, "--ckpt", trained, "--timeline")
    assert status == 0
    assert out.splitlines()[1].startswith("  0:00:00.00 - ")
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:3000])
    status, out, _ = vidgn("predict", tmp_path, "--ckpt", trained, "--timeline", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == 1
    assert [row["error"] != "" for row in rows if row["video"].endswith("cut.mp4")] == [True]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(vidgn, trained, tmp_path):
    """3,000 frames of 320x240 are 690 MB; the growth from a first, short video is less than 200 MB."""
    short, long = tmp_path / "short.mp4", tmp_path / "long.mp4"
    frames = np.random.default_rng(0).integers(0, 256, (1, 240, 320, 3), np.uint8)
    write_video(short, np.broadcast_to(frames, (64, 240, 320, 3)))
    write_video(long, np.broadcast_to(frames, (3000, 240, 320, 3)))
    vidgn("predict", short, "--ckpt", trained, "--timeline")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, _, _ = vidgn("predict", long, "--ckpt", trained, "--timeline", "--stride", "500")
    assert status == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


@pytest.mark.slow
def test_a_killed_reading_process_is_one_sentence(vidgn, trained, video, tmp_path, monkeypatch):
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / name).write_bytes(video.read_bytes())
    main = os.getpid()
    monkeypatch.setattr("vidgn.inference.predict.default_workers", lambda: 1)
    monkeypatch.setattr(ViewDataset, "__getitem__", lambda self, item: os.kill(os.getpid(), 9 * (os.getpid() != main)))
    status, out, err = vidgn("predict", tmp_path, "--ckpt", trained)
    assert (status, out) == (2, "")
    assert "was killed by signal 9 (SIGKILL) while it read an unknown video" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_reading_processes_begin_before_a_progress_bar_has_threads(trained, video):
    model = open_model(str(trained), device="cpu")
    earlier = set(multiprocessing.active_children())
    answers = predict([str(video)] * 2, model, test=choose_test(model, num_clips=1), num_workers=1)
    assert len(set(multiprocessing.active_children()) - earlier) == 1
    assert [answer.error for answer in answers] == [None, None]


def test_windows_of_one_class_become_a_segment():
    scores = [(0.9, 0.1), (0.7, 0.3), (0.2, 0.8)]
    windows = [WindowAnswer(start, start + 64, pair) for start, pair in zip((0, 32, 64), scores, strict=True)]
    assert segments(windows, ["sit", "run"], seconds=np.arange(129) / 32) == [
        Segment(0, 64, 0.0, 2.0, "sit", pytest.approx(0.8)),
        Segment(64, 128, 2.0, 4.0, "run", 0.8),
    ]
    assert segments(windows[:1], ["sit", "run"], seconds=np.full(129, np.nan))[0].end_seconds is None
    assert segments([], ["sit", "run"], seconds=np.arange(129) / 25) == []


def test_the_seconds_of_a_segment_are_those_at_which_its_frames_are_shown():
    windows = [WindowAnswer(start, start + 4, (1.0, 0.0)[:: 1 if start else -1]) for start in (0, 4)]
    shown = np.array([0.0, 0.1, 0.2, 0.3, 5.0, 5.5, 6.0, 6.5, 9.0])
    first, second = segments(windows, ["sit", "run"], seconds=shown)
    assert (first.start_seconds, first.end_seconds) == (0.0, 5.0)
    assert (second.start_seconds, second.end_seconds) == (5.0, 9.0)


def test_the_label_is_drawn_at_the_top_and_nowhere_else():
    frame = np.full((120, 160, 3), 128, np.uint8)
    drawn = draw_label(frame, "zoom_in 93%")
    assert (drawn[30:] == 128).all()
    assert drawn[:15].max() > 200
    assert drawn[:15].min() == 0
    assert (frame == 128).all()


@pytest.mark.slow
def test_the_overlay_has_every_frame_and_even_sides(vidgn, trained, tmp_path):
    path = tmp_path / "odd.mkv"
    write_video(path, np.full((20, 46, 62, 3), 200, np.uint8))
    status, out, _ = vidgn("predict", path, "--ckpt", trained, "--overlay", tmp_path / "out.mp4")
    assert status == 0
    assert f"{tmp_path}/out.mp4: written" in out
    with open_video(tmp_path / "out.mp4") as reader:
        assert (len(reader), reader.height, reader.width) == (20, 46, 62)
        assert next(iter(reader.frames([10])))[1][:9].min() < 50  # the bar


@pytest.mark.slow
def test_an_overlay_is_an_mp4_file(vidgn, video, tmp_path):
    status, _, err = vidgn("predict", video, "--ckpt", tmp_path / "net.ckpt", "--overlay", tmp_path / "out.avi")
    assert status == 2
    assert "out.avi must be an .mp4 file; use out.mp4" in err
