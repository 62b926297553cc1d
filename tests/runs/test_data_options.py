"""The words data.passport, data.intersect, data.shards and a root elsewhere, from the command line to metrics.json."""

import json
import shutil

import pytest

from vidgn.cli.main import main
from vidgn.curation.pack import pack

# The motions of the session's checkpoint, as files: 12 classes, 2 / 1 / 1 videos each.


@pytest.fixture
def ckpt(trained):
    return f"ckpt={trained}/checkpoints/best.ckpt"


@pytest.mark.slow
def test_a_test_on_the_intersection_says_so(run, ckpt, motions, tmp_path):
    videos = sorted(path.relative_to(motions).as_posix() for path in (motions / "test").rglob("*.mp4"))
    (tmp_path / "theirs.txt").write_text("\n".join([*videos[:3], "test/other/x.mp4"]))
    words = ("data=folder", f"data.root={motions}", f"data.intersect={tmp_path / 'theirs.txt'}", "data.num_workers=0")
    outcome = run("eval", ckpt, *words, "trainer.accelerator=cpu", f"hydra.run.dir={tmp_path / 'run'}")
    assert outcome.status == 0, outcome.err
    said = f"only the 3 of {len(videos)} videos that are here and in theirs.txt"
    assert said in outcome.out
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["protocol"].endswith(f"; {said}")
    assert metrics["part_of_the_test"] == [said]
    assert metrics["videos_expected"] == metrics["videos_scored"] == 3


@pytest.mark.slow
def test_training_leaves_out_what_a_passport_calls_broken(run, motions, tiny, tmp_path, capsys):
    shutil.copytree(motions, tmp_path / "set")
    broken = sorted((tmp_path / "set/train").rglob("*.mp4"))[0]
    broken.write_bytes(broken.read_bytes()[:500])
    with pytest.raises(SystemExit, match="1"):
        main(["scan", str(tmp_path / "set"), str(tmp_path / "p.jsonl"), "--workers", "1"])
    assert "broken 1" in capsys.readouterr().out
    sizes = [word for word in tiny if not word.startswith(("data.train", "data.val", "data.test"))]
    words = ("data=folder", f"data.root={tmp_path / 'set'}", f"data.passport={tmp_path / 'p.jsonl'}", "test=false")
    outcome = run("train", *sizes, *words, "trainer.limit_train_batches=1", f"hydra.run.dir={tmp_path / 'run'}")
    assert outcome.status == 0, outcome.err
    name = broken.relative_to(tmp_path / "set").as_posix()
    assert f"1 videos are left out by p.jsonl: 1 are not ok: {name} (" in outcome.out
    assert "23 train" in outcome.out


@pytest.mark.slow
def test_tars_give_the_numbers_of_the_files(run, ckpt, trained, motions, tmp_path):
    pack(motions, tmp_path / "tars", megabytes=0.02)
    words = ("data=shards", f"data.shards={tmp_path / 'tars'}", "data.num_workers=0", "trainer.accelerator=cpu")
    outcome = run("eval", ckpt, *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert outcome.status == 0, outcome.err
    ours, theirs = (json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "run", trained))
    assert [ours[key] for key in ("video_top1", "clip_top1", "videos_scored")] == [
        theirs[key] for key in ("video_top1", "clip_top1", "videos_scored")
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["scan", "a", "--verify", "--compare", "b"], 2, "--verify and --compare are both given; choose one"),
        (["scan", "a", "--workers", "-1"], 2, r"--workers (-1) must be 0 or more"),
        (["scan", "nowhere"], 2, "nowhere"),
        (["prepare", "a", "b", "--gop", "0"], 2, "gop (0) must be at least 1 frame"),
        (["prepare", "a", "b", "--engine", "dask"], 2, "there are no videos in"),
    ],
)
def test_a_mistake_is_one_sentence(words, status, text, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=str(status)):
        main(words)
    error = capsys.readouterr().err
    assert text in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_prepare_scan_and_compare_are_commands(motions, tmp_path, capsys):
    source = tmp_path / "source"
    for label in ("a", "b"):
        (source / label).mkdir(parents=True)
        for number, path in enumerate(sorted((motions / "train").rglob("*.mp4"))[:3]):
            shutil.copy(path, source / label / f"{label}{number}.mp4")
    words = [str(source), str(tmp_path / "dst"), "--short-side", "32", "--workers", "1", "--shards", "1"]
    with pytest.raises(SystemExit, match="0"):
        main(["prepare", *words])
    out = capsys.readouterr().out
    assert "6 of 6 videos prepared" in out
    assert f"train.py data=shards data.shards={tmp_path / 'dst_shards'}" in out
    for folder in ("source", "dst"):
        with pytest.raises(SystemExit, match="0"):
            main(["scan", str(tmp_path / folder), str(tmp_path / f"{folder}.jsonl"), "--workers", "1"])
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        main(["scan", str(tmp_path / "source.jsonl"), "--compare", str(tmp_path / "dst.jsonl"), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["only in the first"] == found["other number of frames"] == []
    assert len(found["other file"]) == 6
