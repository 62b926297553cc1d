"""Every command on a run whose classifier was fitted in one pass, as the default of `data=folder` makes it."""

import csv
import http.client
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vidgn as package
from vidgn.data.video import open_video
from vidgn.inference.model import open_model
from vidgn.inference.serve import make_server


@pytest.fixture(scope="module")
def fitted(own_videos, tmp_path_factory):
    """The run folder of a fitted classifier on a narrow net, with the views of the rule."""
    result = package.train(
        "data=folder", "fit_head=true", "model=frames_r50", "norm=frozen_bn", root=own_videos,
        model={"width": 8, "last": "res4"}, clip_len=4, span=8, crop=32, num_clips=2, num_crops="full",
        clip_rule="segments", num_workers=0, logger={"names": ["csv"]},
        trainer={"accelerator": "cpu", "enable_progress_bar": False},
        hydra={"run.dir": tmp_path_factory.mktemp("fitted")},
    )  # fmt: skip
    return result.folder


@pytest.fixture(scope="module")
def tested(fitted):
    """The rows of predictions.csv."""
    with (fitted / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def test_predict_gives_the_scores_of_the_test(vidgn, fitted, tested, own_videos):
    videos = [own_videos / row["video"] for row in tested]
    status, out, err = vidgn("predict", *videos, "--ckpt", fitted, "--json")
    assert status == 0, err
    predicted = {Path(video["video"]).name: video["top"] for video in json.loads(out)["videos"]}
    assert len(predicted) == len({row["video"].rpartition("/")[2] for row in tested})
    for row in tested:
        best = predicted[Path(row["video"]).name][0]
        if sum(Path(other["video"]).name == Path(row["video"]).name for other in tested) == 1:
            assert (best["class"], best["score"]) == (row["class1"], pytest.approx(float(row["score1"]), abs=1e-5))


def test_an_array_of_frames_is_predicted_as_its_file(fitted, tested, own_videos):
    path = own_videos / tested[0]["video"]
    with open_video(path) as reader:
        frames = reader.read(np.arange(len(reader)))
    model = package.load(fitted)
    (of_array, *_), (of_file, *_) = model.predict(frames, top=2), model.predict(path, top=2)
    assert of_array == of_file
    assert of_file[1] == pytest.approx(float(tested[0]["score1"]), abs=1e-5)


def test_a_report_of_a_fitted_run(vidgn, fitted, tmp_path):
    status, out, err = vidgn("report", fitted, "--out", tmp_path, "--json")
    assert status == 0, err
    assert json.loads(out)["runs"][0]["videos_scored"] == 2
    assert "4 frames" in (tmp_path / "index.html").read_text()


def test_a_film_of_what_the_net_looks_at(vidgn, fitted, tested, own_videos, tmp_path):
    status, out, err = vidgn("explain", own_videos / tested[0]["video"], "--ckpt", fitted, "--out", tmp_path, "--json")
    assert status == 0, err
    assert json.loads(out)["class"] in ("move_down", "move_up")
    with Image.open(next(tmp_path.glob("*.png"))) as picture:
        assert picture.width > 100


def test_features_of_a_video(vidgn, fitted, tested, own_videos, tmp_path):
    status, _, err = vidgn("features", own_videos / tested[0]["video"], "--ckpt", fitted, "--out", tmp_path)
    assert status == 0, err
    with np.load(next(tmp_path.glob("*.npz"))) as stored:
        assert any(array.ndim == 2 and array.shape[1] == 128 for array in stored.values())  # 16 times the width


@pytest.mark.slow
def test_an_exported_net_gives_the_same_scores(vidgn, fitted, tested, own_videos, tmp_path):
    video = own_videos / tested[0]["video"]
    status, out, err = vidgn(
        "export", video, "--ckpt", fitted, "--to", "torch-export", "--out", tmp_path / "net", "--json"
    )
    assert status == 0, err
    assert json.loads(out[out.index("{") :])["difference"] < 1e-5


def test_an_upload_is_answered(fitted, tested, own_videos):
    server = make_server(open_model(fitted, device="cpu"), host="127.0.0.1", port=0, limit=1_000_000)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        connection = http.client.HTTPConnection(*server.server_address, timeout=60)
        content = (own_videos / tested[0]["video"]).read_bytes()
        connection.request("POST", "/predict", content, {"Content-Type": "video/mp4"})
        reply = json.loads(connection.getresponse().read())
        connection.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert reply["top"][0]["class"] == tested[0]["class1"]


def test_a_probe_of_the_features(vidgn, fitted, own_videos, tmp_path):
    words = ("data=folder", f"data.root={own_videos}", "data.num_workers=0")
    status, out, err = vidgn("probe", f"ckpt={fitted}/checkpoints/best.ckpt", *words, "--out", tmp_path, "--json")
    assert status == 0, err
    assert {probe["classifier"].partition(",")[0] for probe in json.loads(out.strip().splitlines()[-1])["probes"]} == {
        "k-NN", "logistic regression",
    }  # fmt: skip
