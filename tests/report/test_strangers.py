"""A stranger's run folder: no file in it hangs, fills the memory, runs, leaves the folder or shows what is private."""

import io
import json

import numpy as np
import pytest

from vidgn.data.synthetic.motions import write_video
from vidgn.report.read_run import read_run
from vidgn.report.write import run_report

CONFIG = "clip_len: 8\nbatch: 4\nnorm:\n  name: gn\ndata:\n  name: folder\n  root: ROOT\n  seed: 0\n"
METRICS = {
    "video_top1": 50.0, "video_top5": 100.0, "clip_top1": 40.0, "videos_scored": 2, "videos_expected": 2,
    "protocol": "10 clips",
}  # fmt: skip
HEAD = "video,label,class1,score1,error\n"


@pytest.fixture
def folder(tmp_path):
    """A whole run folder, as a run leaves it."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(CONFIG.replace("ROOT", str(tmp_path / "private")))
    (run / "metrics.csv").write_text("epoch,step,train/error,val/error,train/loss,lr-SGD\n0,1,50,60,0.5,0.1\n")
    (run / "pace.csv").write_text("epoch,step,pace/clips_per_second\n0,1,10\n")
    (run / "metrics.json").write_text(json.dumps(METRICS))
    (run / "predictions.csv").write_text(HEAD + "run/a.mp4,run,run,0.9,\nsit/b.mp4,sit,run,0.8,\n")
    return run


def report(run, target, **options):
    return run_report([str(run)], target=str(target), out=io.StringIO(), **options)


BILLION_LAUGHS = "a: &a [x]\n" + "\n".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]" for n in range(12)
)
DAMAGE = [
    ("config.yaml", BILLION_LAUGHS, "line 1 has an alias"),
    ("config.yaml", CONFIG + "#" * 200_000, "at most 200,000 are read"),
    ("config.yaml", "[" * 5_000, "cannot be read as plain values"),
    ("config.yaml", b"\xff\xfe\x00", "cannot be read as plain values"),
    ("config.yaml", CONFIG.replace("clip_len: 8", "clip_len: 1e9"), "has clip_len"),
    ("config.yaml", CONFIG.replace("batch: 4", "batch: [4]"), r"has batch \(list\)"),
    ("config.yaml", "clip_len: 8\nbatch: 4\nnorm: gn\ndata: {name: folder}", "has norm 'gn'; a mapping is needed"),
    ("config.yaml", CONFIG.replace("name: gn", "name: ../../../gn"), "has a norm.name that no norm has"),
    ("config.yaml", CONFIG.replace("  name: folder\n", ""), "data.name"),
    ("config.yaml", CONFIG + "log: 7\n", "has log 7"),
    ("metrics.json", "[1]", r"has it \(list\)"),
    ("metrics.json", "{", "is damaged"),
    ("metrics.json", "[" * 100_000, "is nested too deeply|is damaged"),
    ("metrics.json", "9" * 5_000, "is damaged"),
    ("metrics.json", json.dumps({**METRICS, "video_top1": "50"}), "has video_top1 '50'"),
    ("metrics.json", json.dumps({**METRICS, "video_top1": float("nan")}), "has video_top1 nan"),
    ("metrics.json", json.dumps({**METRICS, "clip_top1": 101}), "has clip_top1 that is not a percentage"),
    ("metrics.json", json.dumps({"video_top1": 50.0}), "has video_top5"),
    ("metrics.csv", "epoch,step,train/error\nx,1,50\n", "invalid literal"),
    ("metrics.csv", "epoch,step,train/error\n" + "9" * 5_000 + ",1,50\n", "5000 digits"),
    ("metrics.csv", "epoch,step,train/error\n0,1,bad\n", "could not convert"),
    ("metrics.csv", "epoch,step,percentile/x\n0,1,2\n", "metrics.csv is damaged|"),
    ("metrics.csv", b"epoch,step\n\xff\xff,1\n", "it is not UTF-8 text"),
    ("metrics.csv", "epoch\n" + "x" * 200_000 + "\n", "field larger than field limit"),
    ("pace.csv", "step,pace/x\n-1,2\n", "has a step -1"),
    ("predictions.csv", "video,label\na,b\n", "has no column class1, score1, error"),
    ("predictions.csv", HEAD + "a.mp4,run,run,nan,\n", "has score1 nan; it must be from 0 to 1"),
    ("predictions.csv", HEAD + "a.mp4,run,run,,\n", "could not convert"),
    ("predictions.csv", HEAD + "a" * 5_000 + ",run,run,0.5,\n", "has video of 5,000 characters"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "content", "message"), DAMAGE)
def test_damage_is_one_sentence_that_names_the_file(folder, name, content, message):
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(data)
    if message.endswith("|"):  # a column of another kind is passed over
        read_run(folder)
        return
    with pytest.raises(ValueError, match=rf"{name} .*({message})") as caught:
        read_run(folder)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_short_and_long_rows_are_read(folder):
    (folder / "metrics.csv").write_text("epoch,step,train/error,train/loss\n0\n0,1,50,0.5,7,8,9\n0,2,inf,nan\n")
    run = read_run(folder)
    assert (run.train, run.loss) == ({1: 50.0}, [(2, 0.5)])


@pytest.mark.slow
def test_many_class_names_make_no_matrix_of_their_square(folder, tmp_path):
    rows = "".join(f"{n}.mp4,class {n},class {n},0.5,\n" for n in range(3_000))
    (folder / "predictions.csv").write_text(HEAD + rows)
    assert report(folder, tmp_path / "page") == 0
    assert not (tmp_path / "page" / "run1-confusion.png").exists()
    assert (tmp_path / "page" / "run1-classes.png").exists()


@pytest.fixture
def private(tmp_path):
    """Videos of mine, at the place that the stranger's config.yaml names."""
    for name in ("private/run/a.mp4", "private/sit/b.mp4", "public/run/a.mp4"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, np.zeros((10, 32, 32, 3), np.uint8))
    return tmp_path


def strips(page):
    return sorted(path.name for path in page.glob("run1-strip*"))


def test_frames_of_a_place_that_the_folder_names_are_not_shown(folder, private):
    assert report(folder, private / "page") == 0
    assert strips(private / "page") == []
    assert "Frames are shown with --videos DIR" in (private / "page" / "index.html").read_text()


@pytest.mark.slow
def test_frames_come_from_below_the_folder_that_i_name(folder, private):
    assert report(folder, private / "page", videos=str(private / "private")) == 0
    assert "run1-strip1.png" in strips(private / "page")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../private/sit/b.mp4", "ROOT/private/sit/b.mp4", "link.mp4"])
def test_no_path_leaves_the_folder_that_i_name(folder, private, name):
    (private / "public" / "link.mp4").symlink_to(private / "private" / "sit" / "b.mp4")
    video = name.replace("ROOT", str(private))
    (folder / "predictions.csv").write_text(HEAD + f"{video},run,run,0.9,\n")
    assert report(folder, private / "page", videos=str(private / "public")) == 0
    assert strips(private / "page") == []
    assert "are not below" in (private / "page" / "index.html").read_text()


def test_a_drawn_data_set_is_that_of_the_cache(folder, private, monkeypatch):
    """The sizes that name its folder are numbers, so that they lead nowhere else."""
    monkeypatch.setenv("VIDGN_CACHE", str(private / "cache"))
    config = CONFIG.replace("name: folder", "name: motions").replace("ROOT", str(private / "private"))
    (folder / "config.yaml").write_text(config + "  train: ../private\n")
    assert report(folder, private / "page") == 0
    assert strips(private / "page") == []


def test_videos_that_are_no_folder(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--videos .*none is not a folder; give the folder that is data.root"):
        report(folder, tmp_path / "page", videos=str(tmp_path / "none"))
