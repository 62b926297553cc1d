import base64
import http.server
import json
import re
import threading
from dataclasses import replace

import pytest
import torch

from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.checkpoints.description import Description
from vidgn.inference.hub import find_metrics
from vidgn.inference.model import find_checkpoint
from vidgn.inference.model_card import model_card

pytest.importorskip("huggingface_hub", reason="the hub's client is optional: pip install 'vidgn[hub]'")
pytest.importorskip("safetensors")


class Hub(http.server.BaseHTTPRequestHandler):
    """What of the Hugging Face hub a push and a pull ask for, on this machine."""

    files = {}  # noqa: RUF012 - of the test, by name
    SHA = "a" * 40

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/api/repos/create":
            return self.say({"url": "https://huggingface.co/me/clips", "name": "me/clips"})
        if self.path == "/api/models/me/clips/preupload/main":
            names = [file["path"] for file in json.loads(body)["files"]]
            return self.say(
                {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
            )
        if self.path == "/api/models/me/clips/commit/main":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return self.say({"commitUrl": f"https://huggingface.co/me/clips/commit/{self.SHA}", "commitOid": self.SHA})
        return self.say({"errors": [], "warnings": []})  # of the card's header

    def do_GET(self):
        if self.path.startswith("/api/models/me/clips/tree/"):
            files = [{"type": "file", "path": key, "size": len(body), "oid": key} for key, body in self.files.items()]
            return self.say(files)
        if self.path.startswith("/api/models/me/clips"):
            names = [{"rfilename": name} for name in self.files]
            return self.say({"id": "me/clips", "sha": self.SHA, "siblings": names})
        found = re.fullmatch(rf"/me/clips/resolve/{self.SHA}/([\w.]+)", self.path)
        if found is None or found[1] not in self.files:
            return self.say({"error": "nothing here"}, status=404, **{"X-Error-Code": "RepoNotFound"})
        return self.send(self.files[found[1]], ETag=f'"{found[1]}"', **{"X-Repo-Commit": self.SHA})

    do_HEAD = do_GET

    def say(self, told, status=200, **headers):
        self.send(json.dumps(told).encode(), status=status, **{"Content-Type": "application/json", **headers})

    def send(self, body, status=200, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub on this machine; return its files."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(Hub, "files", {})
    yield Hub.files
    server.shutdown()
    server.server_close()
    thread.join()


def assert_same(one, other):
    """Compare the nets of two run folders bit for bit."""
    one, other = (read_checkpoint(find_checkpoint(folder)) for folder in (one, other))
    assert one.net.keys() == other.net.keys()
    assert all(torch.equal(one.net[key], other.net[key]) for key in one.net)


@pytest.mark.slow
def test_a_checkpoint_goes_through_a_folder_and_back(vidgn, trained, tmp_path):
    status, out, _ = vidgn("push", "me/clips", "--ckpt", trained, "--folder", tmp_path / "shared", "--json")
    assert status == 0
    assert json.loads(out)["files"] == ["README.md", "metrics.json", "model.safetensors", "vidgn.json"]
    status, out, _ = vidgn("pull", tmp_path / "shared", "--out", tmp_path / "run")
    assert status == 0
    assert f"use: vidgn predict VIDEO --ckpt {tmp_path}/run" in out
    assert_same(tmp_path / "run", trained)
    status, out, _ = vidgn("predict", tmp_path / "gone.mp4", "--ckpt", tmp_path / "run")
    assert status == 2  # the video, not the checkpoint
    # and once more from there: a pulled checkpoint is as good as the first
    assert find_metrics(tmp_path / "run" / "checkpoints" / "best.ckpt")["video_top1"] is not None


@pytest.mark.slow
def test_a_checkpoint_goes_through_the_hub_and_back(vidgn, hub, trained, tmp_path):
    status, out, _ = vidgn("push", "me/clips", "--ckpt", trained, "--private")
    assert status == 0
    assert "/me/clips" in out
    assert sorted(hub) == ["README.md", "metrics.json", "model.safetensors", "vidgn.json"]
    status, _, err = vidgn("pull", "me/clips", "--out", tmp_path / "run")
    assert status == 0, err
    assert_same(tmp_path / "run", trained)
    assert (tmp_path / "run" / "README.md").read_bytes() == hub["README.md"]


@pytest.mark.slow
def test_a_repository_that_is_not_there_is_one_sentence(vidgn, hub, tmp_path):
    status, _, err = vidgn("pull", "you/none", "--out", tmp_path / "run")
    assert (status, err) == (
        2, "error: you/none is not on the hub, or not for you; check the name, or run hf auth login.\n",
    )  # fmt: skip


@pytest.mark.slow
def test_a_hub_that_does_not_answer_is_one_sentence(vidgn, trained, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    status, _, err = vidgn("push", "me/clips", "--ckpt", trained)
    assert status == 2
    assert re.search(r"me/clips: the hub did not answer as hoped \(.*refused.*\); try again later\.", err)


@pytest.mark.slow
def test_nothing_that_is_shared_names_this_machine(trained):
    checkpoint = read_checkpoint(find_checkpoint(trained))
    text = json.dumps([checkpoint.description.shared().to_plain(), find_metrics(checkpoint.path)])
    assert "clip_len" in checkpoint.description.config  # there is something to leave out
    assert re.findall(r'"[^"]*/(?:tmp|home|root|work)[^"]*"', text) == []
    assert "hydra" not in text


@pytest.mark.slow
def test_metrics_of_another_checkpoint_are_not_given_to_this(trained):
    assert find_metrics(trained / "checkpoints" / "best.ckpt") is not None
    assert find_metrics(trained / "checkpoints" / "last.ckpt") is None
    assert find_metrics(trained / "best.ckpt") is None  # no metrics.json around it


ABOUT = Description(
    ("sit", "run"), model={"name": "i3d_r50"}, norm={"name": "gn"}, clip_len=32, span=64, crop=224,
    data={"name": 'odd"name: x'}, versions={"torch": "2.15.0"},
)  # fmt: skip
METRICS = {
    "video_top1": 73.0, "video_top5": 90.6, "clip_top1": 60.0, "clip_top5": 80.0, "videos_expected": 19881,
    "videos_scored": 19761, "videos_failed": 120, "protocol": "10 clips x 3 crops of 256",
}  # fmt: skip


def test_the_card_has_every_number_with_its_protocol():
    card = model_card("me/clips", ABOUT, METRICS, parameters=28_043_472)
    assert "| video top-1 | 73.00 % |" in card
    assert "10 clips x 3 crops of 256. Videos: 19761 scored / 19881 expected / 120 failed" in card
    assert "28,043,472 parameters, 2 classes" in card
    header = card.split("---")[1]
    assert 'dataset: {name: "odd\\"name: x", type: "odd\\"name: x"}' in header
    assert "value: 73.0}" in header


def test_the_card_says_that_a_part_of_the_test_was_scored_and_gives_the_hub_no_result():
    card = model_card("me/clips", ABOUT, {**METRICS, "videos_scored": 3, "videos_failed": 0}, parameters=1)
    assert "**A part of the test: 19,878 of its videos were not scored.**" in card
    assert "3 scored / 19881 expected / 0 failed" in card
    assert "model-index" not in card
    assert "A part of the test" not in model_card("me/clips", ABOUT, METRICS, parameters=1)


def test_the_card_says_what_was_trained_on_and_tested():
    card = model_card("me/clips", ABOUT, {**METRICS, "trained_on": 12}, parameters=1)
    assert "**12 of the test videos were trained on.**" in card
    assert "were trained on" not in model_card("me/clips", ABOUT, {**METRICS, "trained_on": 0}, parameters=1)


def test_the_card_without_a_test_claims_nothing():
    card = model_card("me/clips", replace(ABOUT, classes=tuple(f"c{n}" for n in range(60))), None, parameters=1)
    assert "No test of this checkpoint was recorded." in card
    assert "model-index" not in card
    assert "and 10 more in `vidgn.json`" in card


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["push", "no-slash", "--ckpt", "C"], "no-slash is neither a repository nor a folder; use USER/NAME"),
        (["push", "me/a b", "--ckpt", "C"], "me/a b is neither a repository nor a folder"),
        (["push", "me/clips", "--ckpt", "C", "--folder", "F/other"], "F/other holds other files; give a new or empty"),
        (["pull", "F/other", "--out", "F/new"], "model.safetensors is missing; give what vidgn push wrote"),
        (["pull", "F/bad", "--out", "F/new"], "bad is damaged ("),
        (["pull", "F/later", "--out", "F/new"], "vidgn.json has format 99, this vidgn reads 1; use the version that"),
        (["pull", "F/other", "--out", "C"], "best.ckpt and 1 more exist already; choose another place"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(vidgn, trained, tmp_path, words, said):
    from safetensors.torch import save_file

    for name in ("other", "bad", "later"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    (tmp_path / "bad" / "model.safetensors").write_bytes(b"\xff" * 100)
    (tmp_path / "bad" / "vidgn.json").write_text("{}")
    save_file({}, tmp_path / "later" / "model.safetensors")
    (tmp_path / "later" / "vidgn.json").write_text('{"format": 99}')
    given = [str(trained) if word == "C" else re.sub("^F", str(tmp_path), word) for word in words]
    status, _, err = vidgn(*given)
    assert status == 2, err
    assert re.sub("^F", str(tmp_path), said) in err
    assert err.count("\n") == 1
