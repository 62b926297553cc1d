"""Predictions and features of a folder as Parquet parts: rows, what is resumed, a Ray cluster of two processes."""

import io
import json
from functools import partial

import numpy as np
import pytest

from vidgn.cli.main import main
from vidgn.curation.parts import PartJob, make_parts, read_parts
from vidgn.curation.scan import scan
from vidgn.data.synthetic.motions import write_video
from vidgn.inference.cluster import features_job, predict_job, run_cluster
from vidgn.inference.features import extract
from vidgn.inference.model import open_model
from vidgn.inference.predict import choose_test, predict

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("pyarrow")

NAMES = [f"{number}.mp4" for number in range(5)]


@pytest.fixture
def target():
    """An address in this process's memory, which no other test uses."""
    yield "memory://parts"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def folder(tmp_path):
    """Three videos and a file that is none."""
    root = tmp_path / "videos"
    (root / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.mp4", "b.mp4", "sub/c.mp4"):
        write_video(root / name, rng.integers(0, 256, (40, 48, 64, 3), np.uint8))
    (root / "broken.mp4").write_bytes(b"no video")
    return root


def lengths(seen, names):
    seen.append(names)
    return [{"video": name, "length": len(name), "error": "bad" if name == "3.mp4" else None} for name in names]


def length_job(seen, **identity):
    return PartJob(partial(lengths, seen), {"video": "text", "length": "integer", "error": "text"}, identity)


def make(seen, target, names=NAMES, **options):
    job = length_job(seen, **options)
    return make_parts(job, names, target, part_size=2, workers=1, engine="local")


def test_every_video_is_in_one_part_and_a_part_that_is_there_stays(target):
    seen = []
    assert make(seen, target) == (5, 1, 3, 0)
    assert seen == [("0.mp4", "1.mp4"), ("2.mp4", "3.mp4"), ("4.mp4",)]
    rows = list(read_parts(target))
    assert [row["video"] for row in rows] == NAMES
    assert rows[3] == {"video": "3.mp4", "length": 5, "error": "bad"}
    fsspec.filesystem("memory").rm(f"{target}/part-000001.parquet")
    seen.clear()
    assert make(seen, target) == (5, 1, 3, 2)
    assert seen == [("2.mp4", "3.mp4")]
    assert list(read_parts(target)) == rows
    assert sorted(name.rpartition("/")[2] for name in fsspec.filesystem("memory").ls(target, detail=False)) == [
        "job.json", "part-000000.parquet", "part-000001.parquet", "part-000002.parquet",
    ]  # fmt: skip


def test_an_interrupted_part_is_made_again_whole(target):
    def fail(names):
        if "2.mp4" in names:
            raise KeyboardInterrupt("while 2.mp4 is read")
        return lengths([], names)

    job = length_job([])
    with pytest.raises(KeyboardInterrupt, match=r"while 2\.mp4 is read"):
        make_parts(job._replace(rows=fail), NAMES, target, part_size=2, workers=1, engine="local")
    assert [row["video"] for row in read_parts(target)] == ["0.mp4", "1.mp4"]
    assert make([], target).kept == 1
    assert [row["video"] for row in read_parts(target)] == NAMES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": NAMES[:4]}, r"holds the parts of another job \(names, videos differ\); use the same options"),
        ({"ckpt": "other"}, r"holds the parts of another job \(ckpt differ\)"),
    ],
)
def test_another_job_does_not_mix_with_these_parts(target, changes, message):
    make([], target)
    with pytest.raises(ValueError, match=message):
        make([], target, **changes)


def test_rows_that_are_lost_or_doubled_are_an_error(target):
    job = length_job([])._replace(rows=lambda names: lengths([], [*names, "more.mp4"]))
    with pytest.raises(RuntimeError, match="part 0 has other videos than it was given"):
        make_parts(job, NAMES, target, part_size=2, workers=1, engine="local")
    with pytest.raises(ValueError, match=r"--out memory://a\[0\] must be one address without"):
        make([], "memory://a[0]")
    with pytest.raises(ValueError, match=r"--part-size \(0\) must be at least 1 video"):
        make_parts(job, NAMES, target, part_size=0, engine="local")


@pytest.mark.slow
def test_predictions_are_those_of_predict(trained, folder, target):
    out = io.StringIO()
    job = partial(predict_job, ckpt=str(trained), num_clips=2, num_crops=1, device="cpu")
    status = run_cluster(
        [str(folder)], job, target=target, out=out, part_size=3, workers=1, engine="local", as_json=True
    )
    assert (status, json.loads(out.getvalue())) == (
        1, {"out": target, "videos": 4, "failed": 1, "parts": 2, "kept": 0},
    )  # fmt: skip
    rows = {row["video"]: row for row in read_parts(target)}
    assert list(rows) == ["a.mp4", "b.mp4", "broken.mp4", "sub/c.mp4"]
    assert rows["broken.mp4"]["scores"] is None
    assert "broken.mp4" in rows["broken.mp4"]["error"]
    assert str(folder) not in rows["broken.mp4"]["error"]
    model = open_model(trained, device="cpu")
    test = choose_test(model, num_clips=2, num_crops=1)
    for name in ("a.mp4", "sub/c.mp4"):
        (answer,) = predict([str(folder / name)], model, test=test, num_workers=0)
        np.testing.assert_allclose(rows[name]["scores"], answer.scores, rtol=1e-3, atol=1e-5)
        ((label, score),) = answer.top(model.classes, 1)
        assert (rows[name]["label"], rows[name]["error"]) == (label, None)
        assert rows[name]["score"] == pytest.approx(score, rel=1e-3)


@pytest.mark.slow
def test_features_are_those_of_features(trained, folder, target):
    out = io.StringIO()
    job = partial(features_job, ckpt=str(trained), layer="res4", stride=8, device="cpu")
    assert run_cluster([str(folder)], job, target=target, out=out, part_size=2, workers=1, engine="local") == 1
    assert "4 videos in 2 parts (0 were there before), 1 videos with an error" in out.getvalue()
    rows = [row for row in read_parts(target) if row["video"] == "b.mp4"]
    model = open_model(trained, device="cpu")
    wanted = extract(str(folder / "b.mp4"), model, layer="res4", clip=model.clip, stride=8)
    assert [row["start_frame"] for row in rows] == wanted["start_frame"].tolist()
    np.testing.assert_allclose([row["features"] for row in rows], wanted["features"], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose([row["end_seconds"] for row in rows], wanted["end_seconds"])
    (broken,) = [row for row in read_parts(target) if row["video"] == "broken.mp4"]
    assert broken["features"] is None
    assert broken["error"] is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "F", "--engine", "ray"], "--engine ray writes Parquet parts; add --out DIR"),
        (["predict", "F", "--engine", "dask", "--out", "O"], "--engine (dask) must be local or ray"),
        (["predict", "F", "--out", "O"], "--out belongs to --engine ray"),
        (["predict", "F", "--engine", "ray", "--out", "O", "--timeline"], "--engine goes with --num-clips"),
        (["predict", "F/a.mp4", "--engine", "ray", "--out", "O"], "--engine ray takes one folder that every machine"),
        (["features", "F", "--engine", "ray", "--no-pool"], "--engine ray writes the mean of each window"),
    ],
)
def test_what_does_not_fit_together_is_one_sentence(words, message, trained, folder, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        main([word.replace("F", str(folder)) if word[0] == "F" else word for word in words] + ["--ckpt", str(trained)])
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning")  # Ray's
def test_a_local_cluster_of_two_processes_scores_every_video_once(trained, folder, tmp_path, monkeypatch, capsys):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")  # what else this machine does is no reason to kill
    monkeypatch.setenv("RAY_worker_niceness", "0")
    words = ["predict", str(folder), "--ckpt", str(trained), "--num-clips", "1", "--num-crops", "1", "--device", "cpu"]
    there = tmp_path / "there"
    told = []
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80_000_000)
    try:
        for _ in range(2):
            with pytest.raises(SystemExit, match=r"^1$"):  # one file is no video
                main([*words, "--engine", "ray", "--out", str(there), "--part-size", "1", "--json"])
            told.append(json.loads(capsys.readouterr().out))
        scanned = scan(folder, tmp_path / "there.parquet", workers=0, engine="ray")
    finally:
        ray.shutdown()
    assert [(one["videos"], one["failed"], one["parts"], one["kept"]) for one in told] == [(4, 1, 4, 0), (4, 1, 4, 4)]
    assert scanned == scan(folder, tmp_path / "here.parquet")
    assert [row.status == "ok" for row in scanned] == [True, True, False, True]
    here = f"{tmp_path}/here"
    job = partial(predict_job, ckpt=str(trained), num_clips=1, num_crops=1, device="cpu")
    run_cluster([str(folder)], job, target=here, out=io.StringIO(), part_size=4, workers=1, engine="local")
    for one, other in zip(read_parts(str(there)), read_parts(here), strict=True):
        assert (one["video"], one["label"]) == (other["video"], other["label"])
        np.testing.assert_allclose(one["scores"] or [], other["scores"] or [], rtol=1e-3, atol=1e-5)
